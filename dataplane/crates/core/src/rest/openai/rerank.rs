//! `/rerank`, as Cohere, Jina and vLLM have it, over a model that scores documents for a query.

use super::asked::{self, wrong};
use crate::error::Error;
use crate::grpc::metadata::RequestId;
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::Caller;
use crate::rest::tensors::json::{Kind, Reader, bad};
use crate::rest::tensors::numbers::{self};
use crate::rest::tensors::parameters::Parameters;
use crate::rest::tensors::signature::Signature;
use crate::rest::tensors::{Tensor, string};
use crate::rest::web::reply::{Failed, Reply};

/// The method of a model's (`torch_predict.method`) that answers, where it has methods.
const RERANK: &str = "rerank";
/// The output with a score for each document.
const SCORES: &str = "scores";
/// Documents of one request, as Cohere has it.
const MAX_DOCUMENTS: usize = 10_000;

/// What is asked.
#[derive(Debug, Default)]
struct Request<'a> {
    model: String,
    query: Option<String>,
    documents: Vec<Document<'a>>,
    top_n: Option<usize>,
    has_documents: bool,
}

#[derive(Debug)]
struct Document<'a> {
    text: String,
    /// JSON of the object that it came as; empty where it came as a text.
    object: &'a [u8],
}

/// Answer a request for documents in the order of their relevance.
///
/// # Errors
/// `bad_request`; `bad_upstream_response`: the model gave no scores; and those of the call.
pub async fn rerank<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    body: &[u8],
    request_id: &RequestId,
) -> Result<Reply, Failed> {
    let request = Request::read(body)?;
    let query = request.query.as_deref().unwrap_or_default();
    let texts: Vec<&str> = request
        .documents
        .iter()
        .map(|it| it.text.as_str())
        .collect();
    let make = |_: &Signature, _: &mut Parameters| {
        Ok(vec![
            Tensor::of_bytes("query", &[query])?,
            Tensor::of_bytes("documents", &texts)?,
        ])
    };
    let outputs = asked::ask(caller, &request.model, RERANK, make).await?;
    Ok(request.reply(&outputs, request_id)?)
}

// === impl Request ===

impl<'a> Request<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Error> {
        let mut request = Self::default();
        let mut model = None;
        let mut reader = Reader::new(body);
        reader.object(|reader, key| {
            match key {
                "model" => model = Some(reader.string()?.into_owned()),
                "query" => request.query = Some(reader.string()?.into_owned()),
                "documents" => reader.array(|reader| {
                    request.documents.push(Document::read(reader)?);
                    if request.documents.len() > MAX_DOCUMENTS {
                        return Err(bad(format!(
                            "there are more than {MAX_DOCUMENTS} documents: send several requests"
                        )));
                    }
                    Ok(())
                })?,
                "top_n" if reader.kind()? != Kind::Null => {
                    request.top_n = Some(asked::count(reader, "top_n")?)
                }
                "return_documents" if reader.kind()? != Kind::Null => {
                    request.has_documents = reader.bool()?
                }
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        reader.end()?;
        request.model = asked::model(model)?;
        if request.query.is_none() {
            return Err(bad("a request has a query".to_owned()));
        }
        if request.documents.is_empty() {
            return Err(bad("a request has documents: send at least one".to_owned()));
        }
        Ok(request)
    }

    fn reply(&self, outputs: &[Tensor], request_id: &RequestId) -> Result<Reply, Error> {
        let scores = self.scores(outputs)?;
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // Of equal scores the earlier document is the first.
        order.sort_by(|one, other| scores[*other].total_cmp(&scores[*one]));
        order.truncate(self.top_n.unwrap_or(usize::MAX));
        let mut json = b"{\"id\":".to_vec();
        string(&mut json, request_id.as_str());
        json.extend_from_slice(b",\"model\":");
        string(&mut json, &self.model);
        json.extend_from_slice(b",\"results\":[");
        for (place, index) in order.into_iter().enumerate() {
            let head = if place > 0 { "," } else { "" };
            let mut digits = zmij::Buffer::new();
            let score = digits.format_finite(scores[index]);
            json.extend_from_slice(
                format!("{head}{{\"index\":{index},\"relevance_score\":{score}").as_bytes(),
            );
            if self.has_documents {
                json.extend_from_slice(b",\"document\":");
                self.documents[index].write(&mut json);
            }
            json.push(b'}');
        }
        json.push(b']');
        asked::finish(json, outputs)
    }

    /// The score of each document.
    #[allow(clippy::cast_possible_truncation)]
    fn scores(&self, outputs: &[Tensor]) -> Result<Vec<f32>, Error> {
        let (model, documents) = (&self.model, self.documents.len());
        let output = asked::output(model, outputs, SCORES)?;
        if !matches!(output.shape[..], [rows] | [rows, 1] if rows == documents) {
            return Err(wrong(format!(
                "output {:?} of {model} has the shape {:?}, and scores of {documents} documents are [{documents}]",
                output.name, output.shape
            )));
        }
        let scores: Vec<f32> = numbers::numbers(output)?
            .into_iter()
            .map(|score| score as f32)
            .collect();
        match scores.iter().position(|score| !score.is_finite()) {
            None => Ok(scores),
            Some(index) => Err(wrong(format!(
                "{model} gave document {index} the score {}",
                scores[index]
            ))),
        }
    }
}

// === impl Document ===

impl<'a> Document<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        if reader.kind()? == Kind::String {
            let text = reader.string()?.into_owned();
            return Ok(Self { text, object: b"" });
        }
        let place = reader.place();
        let mut text = None;
        reader.object(|reader, key| match key {
            "text" => {
                text = Some(reader.string()?.into_owned());
                Ok(())
            }
            _ => reader.skip(),
        })?;
        let text = text.ok_or_else(|| bad("a document that is an object has a text".to_owned()))?;
        let object = reader.text_from(place);
        Ok(Self { text, object })
    }

    fn write(&self, json: &mut Vec<u8>) {
        if self.object.is_empty() {
            json.extend_from_slice(b"{\"text\":");
            string(json, &self.text);
            json.push(b'}');
        } else {
            json.extend_from_slice(self.object);
        }
    }
}

#[cfg(test)]
#[path = "rerank_tests.rs"]
mod tests;
