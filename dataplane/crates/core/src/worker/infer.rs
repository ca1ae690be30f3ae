//! The way from a ModelInferRequest to a call.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::codec::oip::{InferEnvelope, InferHead};
use super::codec::{Meta, Payload, Value};
use super::state::Shared;
use crate::config::WorkerConfig;
use crate::error::{Error, ErrorKind};

/// A request for the model, as far as it could be read.
pub struct Inference {
    pub envelope: InferEnvelope,
    pub request: Result<(Payload, Meta), Error>,
}

/// Decode a ModelInferRequest for this model, with a panic confined to it.
pub fn decode(shared: &Shared, body: &Bytes, is_stream: bool) -> Inference {
    let decoded = catch_unwind(AssertUnwindSafe(|| try_decode(shared, body, is_stream)));
    decoded.unwrap_or_else(|_| Inference {
        envelope: envelope(shared, "", Vec::new(), is_stream),
        request: Err(Error::new(ErrorKind::Internal, "")),
    })
}

fn try_decode(shared: &Shared, body: &Bytes, is_stream: bool) -> Inference {
    let mut head = InferHead::default();
    let decoded = InferHead::decode(body).and_then(|found| {
        head = found;
        shared.check_model(&head.model_name, &head.model_version)?;
        head.request(shared.config.limits.max_message_bytes)
    });
    let mut fields = Vec::new();
    if !head.id.is_empty() {
        fields.push(("puid".to_owned(), Value::String(head.id.clone())));
    }
    let mut outputs = Vec::new();
    let request = decoded.map(|request| {
        outputs = request.outputs;
        if !request.parameters.is_empty() {
            fields.push(("tags".to_owned(), Value::Struct(request.parameters)));
        }
        let meta = Meta {
            fields,
            answer: Vec::new(),
            inputs: request.input_parameters,
        };
        (Payload::Infer(request.inputs), meta)
    });
    Inference {
        envelope: envelope(shared, &head.id, outputs, is_stream),
        request,
    }
}

fn envelope(shared: &Shared, id: &str, outputs: Vec<String>, is_stream: bool) -> InferEnvelope {
    let WorkerConfig { model, version, .. } = &shared.config;
    InferEnvelope::new(model, version, id, outputs, is_stream)
}
