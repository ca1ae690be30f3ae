//! OpenAI's `/v1/embeddings` over a model that makes vectors of texts.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;

use super::asked::{self, wrong};
use crate::error::Error;
use crate::local::messages::inference::infer_parameter::ParameterChoice;
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::Caller;
use crate::rest::tensors::Named;
use crate::rest::tensors::json::{Kind, Reader, bad};
use crate::rest::tensors::numbers::{self, TOKENS};
use crate::rest::tensors::parameters::{self, Parameters};
use crate::rest::tensors::signature::Signature;
use crate::rest::tensors::{Datatype, NotFinite, Strings, Tensor, Writer, string};
use crate::rest::web::reply::{Failed, Reply};

/// The method of a model's (`torch_predict.method`) that answers, where it has methods, and the output with the vectors.
const EMBEDDINGS: &str = "embeddings";
/// Texts of one request, as OpenAI has it.
const MAX_INPUTS: usize = 2048;

/// What is asked.
#[derive(Debug)]
struct Request {
    model: String,
    input: Input,
    is_base64: bool,
    dimensions: Option<usize>,
}

#[derive(Debug, PartialEq, Eq)]
enum Input {
    Texts(Vec<String>),
    /// Those of each text.
    Tokens(Vec<Vec<i64>>),
}

/// Answer a request for embeddings.
///
/// # Errors
/// `bad_request`; `bad_upstream_response`: the model gave no vectors; and those of the call.
pub async fn embeddings<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    body: &[u8],
) -> Result<Reply, Failed> {
    let request = Request::read(body)?;
    let make = |signature: &Signature, parameters: &mut Parameters| {
        if let Some(dimensions) = request.dimensions {
            let dimensions = i64::try_from(dimensions).unwrap_or(i64::MAX);
            let dimensions = ParameterChoice::Int64Param(dimensions);
            parameters::add(parameters, "dimensions", dimensions)?;
        }
        request.input.tensors(&signature.inputs)
    };
    let outputs = asked::ask(caller, &request.model, EMBEDDINGS, make).await?;
    Ok(request.reply(&outputs)?)
}

// === impl Request ===

impl Request {
    fn read(body: &[u8]) -> Result<Self, Error> {
        let (mut model, mut input) = (None, None);
        let (mut is_base64, mut dimensions) = (false, None);
        let mut reader = Reader::new(body);
        reader.object(|reader, key| {
            match key {
                "model" => model = Some(reader.string()?.into_owned()),
                "input" => input = Some(Input::read(reader)?),
                "encoding_format" if reader.kind()? != Kind::Null => {
                    is_base64 = match &*reader.string()? {
                        "float" => false,
                        "base64" => true,
                        other => {
                            return Err(bad(format!(
                                "encoding_format {other:?} is none of float, base64"
                            )));
                        }
                    }
                }
                "dimensions" if reader.kind()? != Kind::Null => {
                    dimensions = Some(asked::count(reader, "dimensions")?)
                }
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        reader.end()?;
        Ok(Self {
            model: asked::model(model)?,
            input: input.ok_or_else(|| bad("a request has an input".to_owned()))?,
            is_base64,
            dimensions,
        })
    }

    fn reply(&self, outputs: &[Tensor]) -> Result<Reply, Error> {
        let model = &self.model;
        let texts = self.input.len();
        let output = asked::output(model, outputs, EMBEDDINGS)?;
        let width = match output.shape[..] {
            [rows, width] if rows == texts && width > 0 => width,
            _ => {
                return Err(wrong(format!(
                    "output {:?} of {model} has the shape {:?}, and embeddings of {texts} texts are [{texts}, n]",
                    output.name, output.shape
                )));
            }
        };
        if self.dimensions.is_some_and(|wanted| wanted != width) {
            return Err(bad(format!(
                "{model} gives vectors of {width} dimensions, and no others: leave out dimensions"
            )));
        }
        let mut raw = Vec::with_capacity(4 * texts * width);
        for (place, number) in numbers::numbers(output)?.into_iter().enumerate() {
            #[allow(clippy::cast_possible_truncation)]
            let number = number as f32;
            if !number.is_finite() {
                let row = place / width;
                return Err(wrong(format!(
                    "the vector of input {row} holds {number}: {model} cannot embed it"
                )));
            }
            raw.extend_from_slice(&number.to_le_bytes());
        }
        let mut json = b"{\"object\":\"list\",\"data\":[".to_vec();
        for (index, row) in raw.chunks_exact(4 * width).enumerate() {
            let head = if index > 0 { "," } else { "" };
            json.extend_from_slice(
                format!("{head}{{\"object\":\"embedding\",\"index\":{index},\"embedding\":")
                    .as_bytes(),
            );
            if self.is_base64 {
                string(&mut json, &BASE64.encode(row));
            } else {
                json.push(b'[');
                Writer::new(Datatype::Fp32, row, NotFinite::Null, Strings::Text).rest(&mut json)?;
                json.push(b']');
            }
            json.push(b'}');
        }
        json.extend_from_slice(b"],\"model\":");
        string(&mut json, model);
        asked::finish(json, outputs)
    }
}

// === impl Input ===

impl Input {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        if reader.kind()? == Kind::String {
            return Ok(Self::Texts(vec![reader.string()?.into_owned()]));
        }
        let (mut texts, mut tokens, mut flat) = (Vec::new(), Vec::new(), Vec::new());
        reader.array(|reader| {
            let is_alike = match reader.kind()? {
                Kind::String => {
                    texts.push(reader.string()?.into_owned());
                    tokens.is_empty() && flat.is_empty()
                }
                Kind::Number => {
                    flat.push(token(reader)?);
                    texts.is_empty() && tokens.is_empty()
                }
                Kind::Array => {
                    let mut one = Vec::new();
                    reader.array(|reader| {
                        one.push(token(reader)?);
                        Ok(())
                    })?;
                    tokens.push(one);
                    texts.is_empty() && flat.is_empty()
                }
                _ => false,
            };
            if !is_alike {
                return Err(
                    reader.error("texts alone, tokens alone, or arrays of tokens alone, as input")
                );
            }
            if texts.len().max(tokens.len()) > MAX_INPUTS {
                return Err(bad(format!(
                    "input has more than {MAX_INPUTS} texts: send several requests"
                )));
            }
            Ok(())
        })?;
        if !flat.is_empty() {
            tokens.push(flat);
        }
        if texts.is_empty() && tokens.is_empty() {
            return Err(bad("input is empty: send at least one text".to_owned()));
        }
        if tokens.is_empty() {
            Ok(Self::Texts(texts))
        } else {
            Ok(Self::Tokens(tokens))
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Tokens(tokens) => tokens.len(),
        }
    }

    /// The inputs that the model gets: its own one of bytes for texts; tokens one text behind the other.
    fn tensors(&self, inputs: &[Named]) -> Result<Vec<Tensor>, Error> {
        match self {
            Self::Texts(texts) => {
                let name = match inputs {
                    // Of the PyTorch server these are single elements.
                    [(name, Datatype::Bytes)]
                        if !["binData", "strData", "jsonData"].contains(&name.as_str()) =>
                    {
                        name
                    }
                    _ => "input",
                };
                Ok(vec![Tensor::of_bytes(name, texts)?])
            }
            Self::Tokens(tokens) => {
                let lengths = tokens
                    .iter()
                    .map(|one| i64::try_from(one.len()).unwrap_or(i64::MAX));
                Ok(vec![
                    integers(TOKENS, tokens.iter().flatten().copied()),
                    integers("lengths", lengths),
                ])
            }
        }
    }
}

fn integers(name: &str, numbers: impl Iterator<Item = i64>) -> Tensor {
    let raw: Vec<u8> = numbers.flat_map(i64::to_le_bytes).collect();
    Tensor {
        name: name.to_owned(),
        datatype: Datatype::Int64,
        shape: vec![raw.len() / 8],
        raw: raw.into(),
    }
}

fn token(reader: &mut Reader<'_>) -> Result<i64, Error> {
    let text = reader.number()?;
    let token = text.parse().ok().filter(|token: &i64| *token >= 0);
    token.ok_or_else(|| bad(format!("{text} is no token: send whole numbers from 0 on")))
}

#[cfg(test)]
#[path = "embeddings_tests.rs"]
mod tests;
