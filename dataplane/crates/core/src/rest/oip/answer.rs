//! The answer to a request to infer, and to one of a stream: JSON, with binary tensors behind it where they are asked for.

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::request::{SIZE, Wish};
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::local::messages::inference::infer_parameter::ParameterChoice;
use crate::local::messages::inference::model_infer_response::InferOutputTensor;
use crate::local::messages::inference::{
    InferParameter, ModelInferResponse, ModelStreamInferResponse,
};
use crate::rest::grpc::caller::parse;
use crate::rest::model::oip_wire::{check_contents, typed};
use crate::rest::tensors::parameters::Parameters;
use crate::rest::tensors::{Datatype, NotFinite, Strings, Writer, string};
use crate::rest::web::reply::{Failed, HEADER_LENGTH, Reply};

/// The answer that a message says.
///
/// # Errors
/// `bad_upstream_response`; `bad_request` where JSON cannot say it.
pub fn inferred(answer: ModelInferResponse, wish: &Wish) -> Result<Reply, Error> {
    check_contents(&answer)?;
    let raw = &answer.raw_output_contents;
    let length: usize = raw.iter().map(Bytes::len).sum();
    let mut json = Vec::with_capacity(256 + 2 * length);
    let mut binary: Vec<Bytes> = Vec::new();
    json.extend_from_slice(b"{\"model_name\":");
    string(&mut json, &answer.model_name);
    for (name, value) in [("model_version", &answer.model_version), ("id", &answer.id)] {
        if !value.is_empty() {
            json.extend_from_slice(format!(",\"{name}\":").as_bytes());
            string(&mut json, value);
        }
    }
    write_parameters(&mut json, &answer.parameters, None);
    json.extend_from_slice(b",\"outputs\":[");
    for (index, output) in answer.outputs.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        let contents = match raw.get(index) {
            Some(raw) => raw.clone(),
            None => typed(output)?,
        };
        write_output(&mut json, output, contents, wish, &mut binary)?;
    }
    json.extend_from_slice(b"]}");
    if binary.is_empty() {
        return Ok(Reply::of(json.into()));
    }
    let header_length = json.len();
    let mut body = BytesMut::from(&json[..]);
    for contents in binary {
        body.extend_from_slice(&contents);
    }
    Ok(Reply::binary(body.freeze(), header_length))
}

fn write_output(
    json: &mut Vec<u8>,
    output: &InferOutputTensor,
    contents: Bytes,
    wish: &Wish,
    binary: &mut Vec<Bytes>,
) -> Result<(), Error> {
    let named = |error: Error| {
        Error::new(
            error.kind,
            format!("output {:?}: {}", output.name, error.message),
        )
    };
    let datatype = Datatype::find(&output.datatype).ok_or_else(|| {
        let text = format!("datatype {:?} is unknown", output.datatype);
        named(Error::new(ErrorKind::BadUpstreamResponse, text))
    })?;
    json.extend_from_slice(b"{\"name\":");
    string(json, &output.name);
    json.extend_from_slice(format!(",\"datatype\":\"{}\",\"shape\":[", datatype.name()).as_bytes());
    for (index, length) in output.shape.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(itoa::Buffer::new().format(*length).as_bytes());
    }
    json.push(b']');
    if wish.is_binary(&output.name) {
        write_parameters(json, &output.parameters, Some(contents.len()));
        binary.push(contents);
    } else {
        write_parameters(json, &output.parameters, None);
        json.extend_from_slice(b",\"data\":[");
        let mut writer = Writer::new(datatype, &contents, NotFinite::Null, Strings::Text);
        writer.rest(json).map_err(named)?;
        json.push(b']');
    }
    json.push(b'}');
    Ok(())
}

fn write_parameters(json: &mut Vec<u8>, parameters: &Parameters, size: Option<usize>) {
    if parameters.is_empty() && size.is_none() {
        return;
    }
    let value = |parameter: &InferParameter| match &parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => (*value).into(),
        Some(ParameterChoice::Int64Param(value)) => (*value).into(),
        Some(ParameterChoice::Uint64Param(value)) => (*value).into(),
        Some(ParameterChoice::DoubleParam(value)) => (*value).into(),
        Some(ParameterChoice::StringParam(value)) => value.as_str().into(),
        None => serde_json::Value::Null,
    };
    let mut all: serde_json::Map<_, _> = parameters
        .iter()
        .map(|(name, parameter)| (name.clone(), value(parameter)))
        .collect();
    if let Some(size) = size {
        all.insert(SIZE.to_owned(), size.into());
    }
    json.extend_from_slice(b",\"parameters\":");
    json.extend_from_slice(serde_json::Value::Object(all).to_string().as_bytes());
}

/// The JSON of one answer of a stream. Triton wraps them, MLServer does not.
///
/// # Errors
/// What the model says of the message that it answers; `bad_upstream_response`.
pub fn streamed(message: Bytes) -> Result<Bytes, Failed> {
    let wrapped: Option<ModelStreamInferResponse> = parse(message.clone()).ok();
    let answer = match ModelInferResponse::decode(message) {
        // The wrapper has no such field.
        Ok(answer) if !answer.outputs.is_empty() => answer,
        _ => {
            let wrapped = wrapped.unwrap_or_default();
            if !wrapped.error_message.is_empty() {
                return Err(Failed {
                    code: Code::Unknown,
                    kind: None,
                    number: None,
                    retry_after: None,
                    text: wrapped.error_message,
                });
            }
            wrapped.infer_response.unwrap_or_default()
        }
    };
    let reply = inferred(answer, &Wish::default())?;
    if reply.headers.has(HEADER_LENGTH) {
        let text =
            "an output has bytes that are not UTF-8, which an event cannot say: call over gRPC";
        return Err(Error::new(ErrorKind::BadUpstreamResponse, text).into());
    }
    Ok(reply.body)
}
