//! What the fuzz targets call: the readers of requests, each with an echo of a model behind it, and the writers of answers.

use bytes::Bytes;
use prost::Message;

use crate::local::messages::inference::model_infer_response::InferOutputTensor;
use crate::local::messages::inference::{ModelInferRequest, ModelInferResponse};
use crate::rest::tensors::Datatype;
use crate::rest::tensors::json::Reader;
use crate::rest::web::reply::{HEADER_LENGTH, Reply};
use crate::rest::{oip, seldon, tfs};

/// Whether a document is JSON, or what else is read here as JSON.
pub fn is_json(body: &[u8]) -> bool {
    let mut reader = Reader::new(body);
    reader.skip().and_then(|()| reader.end()).is_ok()
}

/// The JSON of what an echo answers to a request of the Open Inference Protocol; none where the request is refused.
pub fn open_inference(body: &[u8], header_length: Option<usize>) -> Option<Vec<u8>> {
    let body = Bytes::copy_from_slice(body);
    let name = "m".to_owned();
    let call = oip::Call::Infer;
    let (message, wish) = call
        .request(name, String::new(), &body, header_length)
        .ok()?;
    let request = ModelInferRequest::decode(&message[..]);
    let request = request.unwrap_or_else(|error| panic!("our own message: {error}"));
    assert_eq!(request.inputs.len(), request.raw_input_contents.len());
    let outputs = request.inputs.into_iter().map(|it| InferOutputTensor {
        name: it.name,
        datatype: it.datatype,
        shape: it.shape,
        ..InferOutputTensor::default()
    });
    let answer = ModelInferResponse {
        id: request.id,
        outputs: outputs.collect(),
        raw_output_contents: request.raw_input_contents,
        ..ModelInferResponse::default()
    };
    let reply = call.reply(answer.encode_to_vec().into(), &wish).ok()?;
    Some(json_of(&reply))
}

/// The same of Seldon's.
pub fn seldon(body: &[u8]) -> Option<Vec<u8>> {
    let message = seldon::request(body).ok()?;
    let reply = seldon::reply(message.into());
    let reply = reply.unwrap_or_else(|error| panic!("our own message: {}", error.message));
    Some(json_of(&reply))
}

/// The same of TF Serving's, for a model with two inputs.
pub fn tensorflow(body: &[u8]) -> Option<Vec<u8>> {
    let inputs = [("x", "FP32"), ("y", "BYTES")].map(|(name, datatype)| {
        let datatype = Datatype::find(datatype);
        (
            name.to_owned(),
            datatype.unwrap_or_else(|| panic!("{name}")),
        )
    });
    let document = tfs::Document::read(body).ok()?;
    let tensors = document.tensors(&inputs).ok()?;
    let reply = tfs::reply(&tensors, document.format()).ok()?;
    Some(json_of(&reply))
}

fn json_of(reply: &Reply) -> Vec<u8> {
    let length = reply.headers.text(HEADER_LENGTH);
    let length = length.and_then(|it| it.parse().ok());
    reply.body[..length.unwrap_or(reply.body.len())].to_vec()
}
