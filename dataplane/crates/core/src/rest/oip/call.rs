//! The calls of the Open Inference Protocol: which method of gRPC each is, its message, and its answer.

use bytes::Bytes;
use prost::Message;

use super::answer::inferred;
use super::request::{Wish, read};
use crate::error::Error;
use crate::local::messages::inference::{
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    ServerLiveResponse, ServerMetadataResponse, ServerReadyResponse,
};
use crate::rest::grpc::caller::parse;
use crate::rest::model::oip_wire;
use crate::rest::web::reply::Reply;

/// Which call of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    ServerLive,
    ServerReady,
    ServerMetadata,
    ModelReady,
    ModelMetadata,
    Infer,
}

// === impl Call ===

impl Call {
    /// Path of the call of gRPC.
    pub fn path(self) -> &'static str {
        match self {
            Self::ServerLive => "/inference.GRPCInferenceService/ServerLive",
            Self::ServerReady => "/inference.GRPCInferenceService/ServerReady",
            Self::ServerMetadata => "/inference.GRPCInferenceService/ServerMetadata",
            Self::ModelReady => "/inference.GRPCInferenceService/ModelReady",
            Self::ModelMetadata => oip_wire::METADATA,
            Self::Infer => oip_wire::INFER,
        }
    }

    /// The message of the call. `header_length` is that of the JSON in front of binary data.
    ///
    /// # Errors
    /// `bad_request`.
    pub fn request(
        self,
        model: String,
        version: String,
        body: &Bytes,
        header_length: Option<usize>,
    ) -> Result<(Vec<u8>, Wish), Error> {
        let message = match self {
            Self::ServerLive | Self::ServerReady | Self::ServerMetadata => Vec::new(),
            Self::ModelReady => ModelReadyRequest {
                name: model,
                version,
            }
            .encode_to_vec(),
            Self::ModelMetadata => ModelMetadataRequest {
                name: model,
                version,
            }
            .encode_to_vec(),
            Self::Infer => {
                let (request, wish) = read(model, version, body, header_length)?;
                return Ok((request.encode_to_vec(), wish));
            }
        };
        Ok((message, Wish::default()))
    }

    /// The answer to a call's message.
    ///
    /// # Errors
    /// `bad_upstream_response`; `bad_request` where JSON cannot say it.
    pub fn reply(self, message: Bytes, wish: &Wish) -> Result<Reply, Error> {
        match self {
            Self::ServerLive => Ok(state("live", parse::<ServerLiveResponse>(message)?.live)),
            Self::ServerReady => Ok(state("ready", parse::<ServerReadyResponse>(message)?.ready)),
            Self::ModelReady => Ok(state("ready", parse::<ModelReadyResponse>(message)?.ready)),
            Self::ServerMetadata => {
                let server: ServerMetadataResponse = parse(message)?;
                Ok(Reply::json(&serde_json::json!({
                    "name": server.name, "version": server.version, "extensions": server.extensions,
                })))
            }
            Self::ModelMetadata => Ok(metadata(parse(message)?)),
            Self::Infer => inferred(parse(message)?, wish),
        }
    }
}

/// What is not so is told by the status, too: probes read nothing else.
pub fn state(name: &str, is_so: bool) -> Reply {
    let mut reply = Reply::json(&serde_json::json!({ name: is_so }));
    if !is_so {
        reply.status = http::StatusCode::BAD_REQUEST;
    }
    reply
}

fn metadata(model: ModelMetadataResponse) -> Reply {
    let tensors = |tensors: Vec<_>| -> serde_json::Value {
        tensors
            .into_iter()
            .map(
                |it: crate::local::messages::inference::model_metadata_response::TensorMetadata| {
                    serde_json::json!({"name": it.name, "datatype": it.datatype, "shape": it.shape})
                },
            )
            .collect()
    };
    Reply::json(&serde_json::json!({
        "name": model.name, "versions": model.versions, "platform": model.platform,
        "inputs": tensors(model.inputs), "outputs": tensors(model.outputs),
    }))
}
