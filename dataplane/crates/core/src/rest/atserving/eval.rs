//! AtServing's calls: data by URI, by value or as the body, and what goes beside them, for a model's one input.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use crate::call::limit::Held;
use crate::error::Error;
use crate::grpc::metadata::RequestId;
use crate::headers::{Headers, Token};
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::Caller;
use crate::rest::model::Model;
use crate::rest::tensors::Named;
use crate::rest::tensors::json::{Kind, Reader, bad};
use crate::rest::tensors::parameters::{self, Parameters};
use crate::rest::tensors::result::{self, Said};
use crate::rest::tensors::signature::Signature;
use crate::rest::tensors::{Datatype, Elements, Tensor};
use crate::rest::uris::Uris;
use crate::rest::web::data_uri;
use crate::rest::web::reply::{Failed, Reply};

/// Inputs of the PyTorch server's that are one element, whatever the model's own are.
const SINGLE: [&str; 3] = ["binData", "strData", "jsonData"];
const ATTRIBUTE: &str = "attribute";
const MEDIA_TYPE: &str = "media_type";
const OCTETS: &str = "application/octet-stream";

/// The model and version that the rest of a path names.
pub fn target(parts: &[&str]) -> Option<(String, String)> {
    match parts {
        [model] => Some(((*model).to_owned(), String::new())),
        [model, version] => Some(((*model).to_owned(), (*version).to_owned())),
        _ => None,
    }
}

/// What is asked of a model.
#[derive(Debug)]
pub struct Question<'a> {
    data: Data<'a>,
    parameters: Parameters,
    /// Of what was fetched, until it is answered.
    _held: Vec<Held>,
}

/// A question whose data may still be elsewhere.
#[derive(Debug)]
pub struct Draft<'a> {
    given: Given<'a>,
    parameters: Parameters,
}

/// Data as a body gives them.
#[derive(Debug)]
enum Given<'a> {
    One(Datum<'a>),
    Group(Vec<Datum<'a>>),
    /// JSON of an array.
    Numbers(&'a [u8]),
}

#[derive(Debug)]
enum Data<'a> {
    /// One element for each datum.
    Bytes(Vec<Cow<'a, [u8]>>),
    /// JSON of an array.
    Numbers(&'a [u8]),
}

/// One datum as it is read.
#[derive(Debug, Default)]
struct Datum<'a> {
    /// Where it is, if it is not here.
    uri: Option<String>,
    bytes: Cow<'a, [u8]>,
    media_type: String,
    /// JSON; empty where there is none.
    attribute: &'a [u8],
}

// === impl Draft ===

impl<'a> Draft<'a> {
    /// Read a body, which is JSON or, by its type, the datum itself.
    ///
    /// # Errors
    /// `bad_request`.
    pub fn read(headers: &Headers, body: &'a [u8]) -> Result<Self, Error> {
        let media_type = headers.text(Token::CONTENT_TYPE);
        let media_type = media_type.unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        // curl says that a body is a form unless it is told otherwise.
        let of_json = [
            "",
            "application/json",
            "text/json",
            "application/x-www-form-urlencoded",
        ];
        if of_json.iter().any(|it| essence.eq_ignore_ascii_case(it)) {
            return Self::of_json(body);
        }
        let is_plain = essence.eq_ignore_ascii_case(OCTETS);
        let datum = Datum {
            bytes: body.into(),
            media_type: if is_plain { "" } else { media_type }.to_owned(),
            ..Datum::default()
        };
        Ok(Self {
            given: Given::One(datum),
            parameters: Parameters::new(),
        })
    }

    /// # Errors
    /// `bad_request`.
    pub fn of_json(document: &'a [u8]) -> Result<Self, Error> {
        let mut given = None;
        let mut parameters = Parameters::new();
        let mut reader = Reader::new(document);
        reader.object(|reader, key| match key {
            "data" => {
                given = Some(read_data(reader)?);
                Ok(())
            }
            "params" => parameters::read(reader, &mut parameters),
            _ => reader.skip(),
        })?;
        reader.end()?;
        let given = given.ok_or_else(|| bad("a request has data".to_owned()))?;
        Ok(Self { given, parameters })
    }

    /// Fetch what is elsewhere.
    ///
    /// # Errors
    /// `bad_request`; `uri_denied` and `uri_failed`, with the place of the datum in a group.
    pub async fn fetched(mut self, uris: &Arc<Uris>) -> Result<Question<'a>, Error> {
        let mut held = Vec::new();
        let (is_group, data) = match &mut self.given {
            Given::One(datum) => (false, std::slice::from_mut(datum)),
            Given::Group(group) => (true, &mut group[..]),
            Given::Numbers(_) => (false, &mut [][..]),
        };
        let elsewhere: Vec<usize> = (0..data.len())
            .filter(|it| data[*it].uri.is_some())
            .collect();
        if !elsewhere.is_empty() {
            let wanted = elsewhere.iter().filter_map(|it| data[*it].uri.take());
            let fetched = uris.fetch_all(wanted.collect()).await?;
            for (index, fetched) in elsewhere.into_iter().zip(fetched) {
                let fetched = fetched.map_err(|error| match is_group {
                    true => Error::new(error.kind, format!("data[{index}]: {}", error.message)),
                    false => error,
                })?;
                data[index].bytes = Cow::Owned(fetched.bytes.into());
                data[index].media_type = fetched.media_type;
                held.push(fetched.held);
            }
        }
        let mut question = self.settled()?;
        question._held = held;
        Ok(question)
    }

    /// The question, once all data are here.
    fn settled(self) -> Result<Question<'a>, Error> {
        let mut said = Parameters::new();
        let data = match self.given {
            Given::One(datum) => {
                if !datum.media_type.is_empty() {
                    parameters::add(&mut said, MEDIA_TYPE, parameters::text(datum.media_type))?;
                }
                if !datum.attribute.is_empty() {
                    let text = String::from_utf8_lossy(datum.attribute);
                    parameters::add(&mut said, ATTRIBUTE, parameters::text(text))?;
                }
                Data::Bytes(vec![datum.bytes])
            }
            Given::Group(group) => {
                describe(&group, &mut said)?;
                Data::Bytes(group.into_iter().map(|datum| datum.bytes).collect())
            }
            Given::Numbers(text) => Data::Numbers(text),
        };
        let mut parameters = self.parameters;
        for (name, value) in said {
            if parameters.insert(name.clone(), value).is_some() {
                return Err(bad(format!(
                    "params has {name:?}, which is what goes with data as that parameter"
                )));
            }
        }
        Ok(Question {
            data,
            parameters,
            _held: Vec::new(),
        })
    }
}

// === impl Question ===

impl Question<'_> {
    /// The outputs that a model gives.
    ///
    /// # Errors
    /// `bad_request`: the data do not fit what it takes; and those of the call.
    pub async fn ask<F: Fn(Head, Body, Answer)>(
        self,
        caller: &Caller<F>,
        model: &Model<'_>,
    ) -> Result<Vec<Tensor>, Failed> {
        let make = |signature: &Signature| {
            let input = self.data.tensor(model.name, &signature.inputs)?;
            Ok((vec![input], self.parameters.clone()))
        };
        model.predict_with(caller, "", make).await
    }
}

fn read_data<'a>(reader: &mut Reader<'a>) -> Result<Given<'a>, Error> {
    match reader.kind()? {
        Kind::Object => Ok(Given::One(datum(reader)?)),
        Kind::Array => group(reader),
        _ => Err(reader.error("an object with a uri, or an array of these or of numbers, as data")),
    }
}

/// Read an array of data, or of numbers.
fn group<'a>(reader: &mut Reader<'a>) -> Result<Given<'a>, Error> {
    let place = reader.place();
    let mut group = Vec::new();
    let mut is_numbers = false;
    reader.array(|reader| {
        if reader.kind()? == Kind::Object && !is_numbers {
            group.push(datum(reader)?);
            return Ok(());
        }
        if !group.is_empty() {
            return Err(reader.error("an object with a uri, as the data before it are"));
        }
        is_numbers = true;
        reader.skip()
    })?;
    if is_numbers {
        return Ok(Given::Numbers(reader.text_from(place)));
    }
    if group.is_empty() {
        return Err(bad("data is an empty array: send at least one".to_owned()));
    }
    Ok(Given::Group(group))
}

/// Types and attributes of a group, each an array in JSON.
fn describe(group: &[Datum<'_>], said: &mut Parameters) -> Result<(), Error> {
    if group.iter().any(|datum| !datum.media_type.is_empty()) {
        let types = group.iter().map(|datum| match datum.media_type.as_str() {
            "" => serde_json::Value::Null,
            media_type => media_type.into(),
        });
        let types: serde_json::Value = types.collect();
        parameters::add(said, MEDIA_TYPE, parameters::text(types.to_string()))?;
    }
    if group.iter().any(|datum| !datum.attribute.is_empty()) {
        let attributes = group.iter().map(|datum| match datum.attribute {
            b"" => Cow::from("null"),
            text => String::from_utf8_lossy(text),
        });
        let attributes: Vec<_> = attributes.collect();
        let text = format!("[{}]", attributes.join(","));
        parameters::add(said, ATTRIBUTE, parameters::text(text))?;
    }
    Ok(())
}

fn datum<'a>(reader: &mut Reader<'a>) -> Result<Datum<'a>, Error> {
    let mut datum = Datum::default();
    let mut has_uri = false;
    reader.object(|reader, key| match key {
        "uri" => {
            let uri = reader.string()?;
            match data_uri::read(&uri)? {
                Some(found) => {
                    (datum.bytes, datum.media_type) = (found.bytes.into(), found.media_type);
                }
                None => datum.uri = Some(uri.into_owned()),
            }
            has_uri = true;
            Ok(())
        }
        ATTRIBUTE => {
            let place = reader.place();
            let is_null = reader.kind()? == Kind::Null;
            reader.skip()?;
            datum.attribute = if is_null {
                b""
            } else {
                reader.text_from(place)
            };
            Ok(())
        }
        _ => reader.skip(),
    })?;
    if has_uri {
        Ok(datum)
    } else {
        Err(bad("data without a uri".to_owned()))
    }
}

// === impl Data ===

impl Data<'_> {
    /// The tensor that a model's one input gets.
    fn tensor(&self, model: &str, inputs: &[Named]) -> Result<Tensor, Error> {
        let (name, datatype) = match inputs {
            // A model with hooks that has no samples does not tell what it takes.
            [] => ("", Datatype::Bytes),
            [(name, datatype)] => (name.as_str(), *datatype),
            _ => {
                let names: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
                let names = names.join(", ");
                return Err(bad(format!(
                    "{model} has the inputs {names}, and data is one: POST /v2/models/{model}/infer takes several"
                )));
            }
        };
        match self {
            Self::Bytes(_) if datatype != Datatype::Bytes => {
                let datatype = datatype.name();
                Err(bad(format!(
                    "the input {name} of {model} is of {datatype}, and no bytes: send an array of numbers as data"
                )))
            }
            Self::Bytes(each) if name.is_empty() || SINGLE.contains(&name) => {
                let name = match &each[..] {
                    [_] if name.is_empty() => SINGLE[0],
                    [_] => name,
                    // Hooks get an array of several, which those names have no room for.
                    _ => "data",
                };
                Tensor::of_bytes(name, each)
            }
            Self::Bytes(each) => Tensor::of_bytes(name, each),
            Self::Numbers(text) if name == "jsonData" => Tensor::of_bytes(name, &[text]),
            Self::Numbers(text) if name.is_empty() => numbers("input", Datatype::Fp64, text),
            Self::Numbers(_) if datatype == Datatype::Bytes => Err(bad(format!(
                "the input {name} of {model} is of bytes: send {{\"uri\": \"data:...\"}} as data, or the bytes as body"
            ))),
            Self::Numbers(text) => numbers(name, datatype, text),
        }
    }
}

fn numbers(name: &str, datatype: Datatype, text: &[u8]) -> Result<Tensor, Error> {
    let elements = Elements::read(&mut Reader::new(text), datatype)?;
    Ok(Tensor {
        name: name.to_owned(),
        datatype,
        shape: elements.shape().collect(),
        raw: elements.raw.into(),
    })
}

/// The answer that a model's outputs are, in the form that the caller accepts: JSON, or the bytes alone.
///
/// # Errors
/// `bad_upstream_response`.
pub fn reply(outputs: &[Tensor], headers: &Headers) -> Result<Reply, Error> {
    let accepts = Accepts::of(headers);
    if accepts == Accepts::Bytes
        && let [output] = outputs
        && let Some(bytes) = result::single(output)?
    {
        return Ok(Reply::bytes(bytes));
    }
    match Said::of(outputs)? {
        Said::Bytes(bytes) if accepts != Accepts::Json => Ok(Reply::bytes(bytes)),
        said => Ok(Reply::of(success(said).into())),
    }
}

/// A result in its frame.
pub fn success(said: Said) -> Vec<u8> {
    let mut json = b"{\"code\":0,\"message\":\"success\",\"result\":".to_vec();
    json.extend_from_slice(&said.into_json());
    json.push(b'}');
    json
}

/// What a caller accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepts {
    Json,
    Bytes,
    /// Bytes where the model gives bytes.
    Any,
}

impl Accepts {
    fn of(headers: &Headers) -> Self {
        let all: Vec<Bytes> = (headers.get_all(Token::ACCEPT))
            .map(|it| Bytes::from(it.to_ascii_lowercase()))
            .collect();
        let has = |wanted: &str| {
            all.iter().any(|it| {
                it.windows(wanted.len())
                    .any(|part| part == wanted.as_bytes())
            })
        };
        match (has("json"), has("octet-stream")) {
            (true, false) if !has("*/*") => Self::Json,
            (false, true) => Self::Bytes,
            _ => Self::Any,
        }
    }
}

/// An error in AtServing's frame, with the members of a problem beside.
pub fn problem(failed: &Failed, request_id: &RequestId) -> (StatusCode, serde_json::Value) {
    let (status, mut problem) = failed.problem(request_id);
    let number = failed.number.filter(|number| *number != 0);
    problem["code"] = number.map_or_else(|| status.as_u16().into(), Into::into);
    problem["message"] = failed.text.as_str().into();
    problem["result"] = serde_json::Value::Null;
    (status, problem)
}

#[cfg(test)]
#[path = "eval_tests.rs"]
mod tests;
