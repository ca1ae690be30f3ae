//! What the Open Inference Protocol asks of a server, not of a model: whether it lives and is ready, what it is, and
//! which models it has.

use bytes::Bytes;
use prost::Message;

pub use super::messages::inference::repository_index_response::ModelIndex;
use super::messages::inference::{
    RepositoryIndexRequest, RepositoryIndexResponse, ServerLiveResponse, ServerMetadataResponse,
    ServerReadyResponse,
};
use super::messages::parse;
use crate::grpc::status::Status;

/// Full name of the service.
pub const SERVICE: &str = "inference.GRPCInferenceService";

const READY: &str = "READY";

/// What the answers are made from.
pub trait Inventory: Send + Sync {
    fn is_ready(&self) -> bool;
    /// One entry for each model and version.
    fn models(&self) -> Vec<ModelIndex>;
}

/// Answers a request message.
pub type Answer = fn(&dyn Inventory, Bytes) -> Result<Vec<u8>, Status>;

/// How a method that asks of the server is answered; `None` for every other path.
pub fn answer(path: &str) -> Option<Answer> {
    let method = path.strip_prefix('/')?.strip_prefix(SERVICE)?;
    Some(match method {
        "/ServerLive" => |_, _| Ok(ServerLiveResponse { live: true }.encode_to_vec()),
        "/ServerReady" => |inventory, _| {
            let ready = inventory.is_ready();
            Ok(ServerReadyResponse { ready }.encode_to_vec())
        },
        "/ServerMetadata" => |_, _| Ok(server_metadata().encode_to_vec()),
        "/RepositoryIndex" => index,
        _ => return None,
    })
}

/// An entry of the index; `reason` says why the model is not ready, if it is not.
pub fn entry(name: &str, version: &str, reason: Option<&str>) -> ModelIndex {
    ModelIndex {
        name: name.to_owned(),
        version: version.to_owned(),
        state: reason.map_or(READY, |_| "UNAVAILABLE").to_owned(),
        reason: reason.unwrap_or_default().to_owned(),
    }
}

fn server_metadata() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: "dl-inference".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: vec!["model_repository".to_owned()],
    }
}

fn index(inventory: &dyn Inventory, request: Bytes) -> Result<Vec<u8>, Status> {
    let asked: RepositoryIndexRequest = parse(request)?;
    let mut models = inventory.models();
    models.retain(|model| !asked.ready || model.state == READY);
    models.sort_unstable_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(RepositoryIndexResponse { models }.encode_to_vec())
}
