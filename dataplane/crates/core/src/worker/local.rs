//! What OIP asks of the model without needing it, beside what it asks of any server of ours.

use bytes::Bytes;
use prost::Message;

use super::codec::DType;
use super::state::Shared;
use crate::config::{TensorConfig, WorkerConfig};
use crate::grpc::status::Status;
use crate::local::messages::inference::model_metadata_response::TensorMetadata;
use crate::local::messages::inference::{
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
};
use crate::local::messages::parse;
use crate::local::oip;

/// Answers a request message of a local method.
pub type Answer = fn(&Shared, Bytes) -> Result<Vec<u8>, Status>;

/// Whether a path is answered without the model.
pub fn is_local(path: &str) -> bool {
    path.starts_with("/grpc.") || oip::answer(path).is_some() || answer(path).is_some()
}

/// How a method that asks of the model is answered without it; `None` for every other path.
pub fn answer(path: &str) -> Option<Answer> {
    Some(match path.strip_prefix('/')?.strip_prefix(oip::SERVICE)? {
        "/ModelReady" => model_ready,
        "/ModelMetadata" => model_metadata,
        _ => return None,
    })
}

fn model_ready(shared: &Shared, request: Bytes) -> Result<Vec<u8>, Status> {
    let asked: ModelReadyRequest = parse(request)?;
    shared.check_model(&asked.name, &asked.version)?;
    let ready = shared.ready().is_ok();
    Ok(ModelReadyResponse { ready }.encode_to_vec())
}

fn model_metadata(shared: &Shared, request: Bytes) -> Result<Vec<u8>, Status> {
    let asked: ModelMetadataRequest = parse(request)?;
    shared.check_model(&asked.name, &asked.version)?;
    let config: &WorkerConfig = &shared.config;
    let tensors = |tensors: &[TensorConfig]| tensors.iter().filter_map(tensor_metadata).collect();
    let metadata = ModelMetadataResponse {
        name: config.model.clone(),
        versions: vec![config.version.clone()],
        platform: config.platform.clone(),
        inputs: tensors(&config.inputs),
        outputs: tensors(&config.outputs),
    };
    Ok(metadata.encode_to_vec())
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
