//! go-infer's envelope: JSON fields for a model's inputs, and every answer, an error too, in the same frame. What is signed
//! is not checked here.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::StatusCode;

use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::RequestId;
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::Caller;
use crate::rest::model::Model;
use crate::rest::tensors::Named;
use crate::rest::tensors::json::{Kind, Reader, bad};
use crate::rest::tensors::parameters::{self, Parameters};
use crate::rest::tensors::result::Said;
use crate::rest::tensors::signature::Signature;
use crate::rest::tensors::{Elements, Tensor};
use crate::rest::web::reply::{Failed, Reply};

/// go-infer's numbers of errors.
const TIMED_OUT: i32 = 9997;
const FAILED: i32 = 9998;
const UNKNOWN: i32 = 9900;
const REFUSED: i32 = 9701;
const PARAMETER: i32 = 9801;
const ALGORITHM: i32 = 9803;
const VERSION: i32 = 9806;

const KINDS_OF_SIGNATURE: [&str; 3] = ["SHA256", "SM2", "plain"];

/// What a request says beside its data.
#[derive(Debug, Default)]
struct Envelope<'a> {
    app_id: String,
    /// JSON of an object.
    data: &'a [u8],
}

/// Answer a request; what fails is answered in the same form.
///
/// # Errors
/// None: they are answers, too.
pub async fn reply<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    model: &Model<'_>,
    body: &[u8],
    request_id: &RequestId,
) -> Reply {
    let mut app_id = String::new();
    let answered = async {
        let envelope = read(body, &mut app_id)?;
        let outputs = ask(caller, model, envelope.data).await?;
        Ok(frame(
            &envelope.app_id,
            0,
            fields(Said::of(&outputs)?, request_id),
        ))
    };
    let answered: Result<Vec<u8>, Failed> = answered.await;
    match answered {
        Ok(json) => Reply::of(json.into()),
        Err(failed) => problem(&failed, &app_id, request_id),
    }
}

async fn ask<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    model: &Model<'_>,
    data: &[u8],
) -> Result<Vec<Tensor>, Failed> {
    let make = |signature: &Signature| {
        let mut parameters = Parameters::new();
        let inputs = tensors(data, &signature.inputs, &mut parameters)?;
        Ok((inputs, parameters))
    };
    model.predict_with(caller, "", make).await
}

/// Read a request. `app_id` is that of the answer, also where something else is wrong.
fn read<'a>(body: &'a [u8], app_id: &mut String) -> Result<Envelope<'a>, Failed> {
    let mut envelope = Envelope::default();
    let (mut version, mut kind, mut encryption) =
        ("1".to_owned(), "plain".to_owned(), "plain".to_owned());
    let mut has_app_id = false;
    let mut reader = Reader::new(body);
    let all = reader.object(|reader, key| {
        match key {
            "appId" => {
                *app_id = reader.string()?.into_owned();
                has_app_id = true;
            }
            "version" => version = reader.string()?.into_owned(),
            "signType" => kind = reader.string()?.into_owned(),
            "encType" => encryption = reader.string()?.into_owned(),
            "data" => {
                if reader.kind()? != Kind::Object {
                    return Err(reader.error("an object as data"));
                }
                let place = reader.place();
                reader.skip()?;
                envelope.data = reader.text_from(place);
            }
            _ => reader.skip()?,
        }
        Ok(())
    });
    all.and_then(|()| reader.end())
        .map_err(|error| numbered(error, PARAMETER))?;
    let wrong = |text: String, number| Err(numbered(bad(text), number));
    if !has_app_id {
        return wrong("a request has an appId".to_owned(), PARAMETER);
    }
    if envelope.data.is_empty() {
        return wrong("a request has data".to_owned(), PARAMETER);
    }
    if version != "1" {
        return wrong(format!("version {version:?} is not \"1\""), VERSION);
    }
    if !KINDS_OF_SIGNATURE.contains(&kind.as_str()) {
        let known = KINDS_OF_SIGNATURE.join(", ");
        return wrong(format!("signType {kind:?} is none of {known}"), ALGORITHM);
    }
    if encryption != "plain" {
        return wrong(format!("encType {encryption:?} is not plain"), PARAMETER);
    }
    envelope.app_id.clone_from(app_id);
    Ok(envelope)
}

fn numbered(error: Error, number: i32) -> Failed {
    let mut failed = Failed::from(error);
    failed.number = Some(number);
    failed
}

/// The tensors that the fields of data are; those that are no inputs are parameters.
fn tensors(
    data: &[u8],
    inputs: &[Named],
    parameters: &mut Parameters,
) -> Result<Vec<Tensor>, Error> {
    // Hooks that take JSON, and those of which nothing is known, get the object itself.
    if inputs.iter().all(|(name, _)| name == "jsonData") && inputs.len() < 2 {
        return Ok(vec![Tensor::of_bytes("jsonData", &[data])?]);
    }
    let mut tensors = Vec::new();
    Reader::new(data).object(|reader, key| {
        match inputs.iter().find(|(name, _)| name == key) {
            Some((name, _)) if name == "binData" && reader.kind()? == Kind::String => {
                let bytes = BASE64.decode(reader.string()?.as_bytes());
                let bytes =
                    bytes.map_err(|error| bad(format!("binData is not base64: {error}")))?;
                tensors.push(Tensor::of_bytes(name, &[bytes])?);
                Ok(())
            }
            Some((name, datatype)) => {
                let elements = Elements::read(reader, *datatype)?;
                let mut shape: Vec<usize> = elements.shape().collect();
                if shape.is_empty() {
                    // A value alone is a batch of one.
                    shape.push(1);
                }
                tensors.push(Tensor {
                    name: name.clone(),
                    datatype: *datatype,
                    shape,
                    raw: elements.raw.into(),
                });
                Ok(())
            }
            None => parameters::field(reader, key, parameters),
        }
    })?;
    if tensors.is_empty() {
        let names: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(", ");
        return Err(bad(format!("data has none of the model's inputs: {names}")));
    }
    Ok(tensors)
}

/// The data of an answer: what the model gave, and what go-infer adds.
fn fields(said: Said, request_id: &RequestId) -> Vec<u8> {
    let mut json = said.into_json();
    // What is no object has a field of its own.
    match json.as_slice() {
        [b'{', .., b'}'] => {
            json.pop();
        }
        _ => {
            json.splice(0..0, *b"{\"result\":");
        }
    }
    if json.len() > 1 {
        json.push(b',');
    }
    let added = serde_json::json!({"msg": "success", "requestId": request_id.as_str()});
    json.extend_from_slice(&added.to_string().as_bytes()[1..]);
    json
}

fn frame(app_id: &str, number: i32, data: Vec<u8>) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let head = serde_json::json!({
        "appId": app_id, "code": number, "signType": "plain", "encType": "plain", "success": number == 0,
        "timestamp": now.as_secs(),
    });
    let mut json = head.to_string().into_bytes();
    json.pop();
    json.extend_from_slice(b",\"data\":");
    json.extend(data);
    json.push(b'}');
    json
}

/// An error in the frame. Beside go-infer's number it has the status of HTTP that says the same.
pub fn problem(failed: &Failed, app_id: &str, request_id: &RequestId) -> Reply {
    let (status, problem) = failed.problem(request_id);
    let number = failed.number.filter(|number| *number != 0);
    let number = number.unwrap_or(match (failed.kind, failed.code) {
        (Some(ErrorKind::NoRoute), _) | (_, Code::NotFound) => UNKNOWN,
        (_, Code::DeadlineExceeded) => TIMED_OUT,
        (_, Code::InvalidArgument) => REFUSED,
        _ => FAILED,
    });
    let mut data = serde_json::json!({"msg": failed.text, "requestId": problem["request_id"]});
    for name in ["kind", "remedy"] {
        if let Some(value) = problem.get(name) {
            data[name] = value.clone();
        }
    }
    let mut reply = Reply::of(frame(app_id, number, data.to_string().into_bytes()).into());
    reply.status = status.max(StatusCode::BAD_REQUEST);
    reply.set_retry_after(failed);
    reply
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
