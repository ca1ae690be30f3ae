//! What is OIP's own in the model server: its local methods, and the way from a ModelInferRequest to a call.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use prost::Message;

use super::codec::oip::{InferEnvelope, InferHead};
use super::codec::{DType, Meta, Payload, Value};
use super::reply::Failure;
use super::state::Shared;
use crate::admin::grpc::Status;
use crate::admin::http::AdminPages;
use crate::config::{TensorConfig, WorkerConfig};
use crate::error::{Error, ErrorKind};

pub(super) const SERVICE: &str = "inference.GRPCInferenceService";

/// Answers a request message of a local method.
pub(super) type Answer = fn(&Shared, Bytes) -> Result<Vec<u8>, Status>;

/// A request for the model, as far as it could be read.
pub(super) struct Inference {
    pub envelope: InferEnvelope,
    pub request: Result<(Payload, Meta), Failure>,
}

/// inference.ServerLiveResponse, ServerReadyResponse and ModelReadyResponse.
#[derive(Message)]
struct Flag {
    #[prost(bool, tag = "1")]
    is_set: bool,
}

/// inference.ServerMetadataResponse.
#[derive(Message)]
struct ServerMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, repeated, tag = "3")]
    extensions: Vec<String>,
}

/// inference.ModelReadyRequest and ModelMetadataRequest.
#[derive(Message)]
struct ModelAsked {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

/// inference.ModelMetadataResponse.
#[derive(Message)]
struct ModelMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    versions: Vec<String>,
    #[prost(string, tag = "3")]
    platform: String,
    #[prost(message, repeated, tag = "4")]
    inputs: Vec<TensorMetadata>,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<TensorMetadata>,
}

#[derive(Message)]
struct TensorMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

/// inference.RepositoryIndexRequest.
#[derive(Message)]
struct IndexAsked {
    #[prost(bool, tag = "2")]
    only_ready: bool,
}

/// inference.RepositoryIndexResponse.
#[derive(Message)]
struct Index {
    #[prost(message, repeated, tag = "1")]
    models: Vec<ModelIndex>,
}

#[derive(Message)]
struct ModelIndex {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, tag = "3")]
    state: String,
    #[prost(string, tag = "4")]
    reason: String,
}

/// How a method that the model is not needed for is answered; `None` for every other path.
pub(super) fn local(path: &str) -> Option<Answer> {
    let method = path.strip_prefix('/')?.strip_prefix(SERVICE)?;
    Some(match method {
        "/ServerLive" => |_, _| Ok(Flag { is_set: true }.encode_to_vec()),
        "/ServerReady" => |shared, _| Ok(ready(shared)),
        "/ServerMetadata" => |_, _| Ok(server_metadata()),
        "/ModelReady" => |shared, request| asked(shared, request).map(|()| ready(shared)),
        "/ModelMetadata" => {
            |shared, request| asked(shared, request).map(|()| model_metadata(&shared.config))
        }
        "/RepositoryIndex" => index,
        _ => return None,
    })
}

/// Decode a ModelInferRequest for this model, with a panic confined to it.
pub(super) fn decode(shared: &Shared, body: &Bytes, is_stream: bool) -> Inference {
    let decoded = catch_unwind(AssertUnwindSafe(|| try_decode(shared, body, is_stream)));
    decoded.unwrap_or_else(|_| Inference {
        envelope: envelope(shared, "", Vec::new(), is_stream),
        request: Err(Error::new(ErrorKind::Internal, "").into()),
    })
}

fn try_decode(shared: &Shared, body: &Bytes, is_stream: bool) -> Inference {
    let mut head = InferHead::default();
    let decoded = InferHead::decode(body)
        .map_err(Failure::from)
        .and_then(|found| {
            head = found;
            shared.check_model(&head.model_name, &head.model_version)?;
            Ok(head.request(shared.config.limits.max_message_bytes)?)
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

fn ready(shared: &Shared) -> Vec<u8> {
    let is_set = shared.ready().is_ok();
    Flag { is_set }.encode_to_vec()
}

fn server_metadata() -> Vec<u8> {
    let metadata = ServerMetadata {
        name: "dl-inference".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: vec!["model_repository".to_owned()],
    };
    metadata.encode_to_vec()
}

/// Check that a request names this model.
fn asked(shared: &Shared, request: Bytes) -> Result<(), Status> {
    let asked = parse::<ModelAsked>(request)?;
    let checked = shared.check_model(&asked.name, &asked.version);
    checked.map_err(|failure| Status::new(failure.code, failure.message))
}

fn model_metadata(config: &WorkerConfig) -> Vec<u8> {
    let tensors = |tensors: &[TensorConfig]| tensors.iter().filter_map(tensor_metadata).collect();
    let metadata = ModelMetadata {
        name: config.model.clone(),
        versions: vec![config.version.clone()],
        platform: config.platform.clone(),
        inputs: tensors(&config.inputs),
        outputs: tensors(&config.outputs),
    };
    metadata.encode_to_vec()
}

/// `None` for a type that OIP does not have: such a tensor can be neither sent nor described.
fn tensor_metadata(tensor: &TensorConfig) -> Option<TensorMetadata> {
    let datatype = DType::from_numpy_name(&tensor.dtype)?.oip_name()?;
    Some(TensorMetadata {
        name: tensor.name.clone(),
        datatype: datatype.to_owned(),
        shape: tensor.shape.clone(),
    })
}

fn index(shared: &Shared, request: Bytes) -> Result<Vec<u8>, Status> {
    let asked = parse::<IndexAsked>(request)?;
    let reason = shared.ready().err().unwrap_or_default();
    let model = ModelIndex {
        name: shared.config.model.clone(),
        version: shared.config.version.clone(),
        state: if reason.is_empty() {
            "READY"
        } else {
            "UNAVAILABLE"
        }
        .to_owned(),
        reason,
    };
    let mut models = vec![model];
    models.retain(|model| !asked.only_ready || model.reason.is_empty());
    Ok(Index { models }.encode_to_vec())
}

fn parse<M: Message + Default>(request: Bytes) -> Result<M, Status> {
    M::decode(request).map_err(|error| Error::new(ErrorKind::BadRequest, error.to_string()).into())
}
