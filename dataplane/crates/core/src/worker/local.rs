//! What OIP and TF Serving's health checks ask of the model without needing it, beside what OIP asks of any server of
//! ours.

use bytes::Bytes;
use prost::Message;

use super::codec::DType;
use super::state::Shared;
use crate::config::{TensorConfig, WorkerConfig};
use crate::error::Error;
use crate::grpc::status::Status;
use crate::local::messages::inference::model_metadata_response::TensorMetadata;
use crate::local::messages::inference::{
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
};
use crate::local::messages::parse;
use crate::local::model_status::{self, State};
use crate::local::oip;

/// Answers a request message of a local method.
pub type Answer = fn(&Shared, Bytes) -> Result<Vec<u8>, Status>;

/// Whether a path is answered without the model.
pub fn is_local(path: &str) -> bool {
    path.starts_with("/grpc.") || oip::answer(path).is_some() || answer(path).is_some()
}

/// How a method that asks of the model is answered without it; `None` for every other path.
pub fn answer(path: &str) -> Option<Answer> {
    if path == model_status::PATH {
        return Some(model_state);
    }
    Some(match path.strip_prefix('/')?.strip_prefix(oip::SERVICE)? {
        "/ModelReady" => model_ready,
        "/ModelMetadata" => model_metadata,
        _ => return None,
    })
}

/// As TF Serving answers, in its words.
fn model_state(shared: &Shared, request: Bytes) -> Result<Vec<u8>, Status> {
    let (name, version) = model_status::asked(parse(request)?);
    let asked = version.map(|version| version.to_string());
    if let Err(error) = shared.check_model(&name, asked.as_deref().unwrap_or_default()) {
        let text = match asked {
            Some(version) if shared.check_model(&name, "").is_ok() => {
                format!(
                    "Could not find version {version} of model {name}: {}",
                    error.message
                )
            }
            _ => format!(
                "Could not find any versions of model {name}: {}",
                error.message
            ),
        };
        return Err(Error::new(error.kind, text).into());
    }
    let reason = shared.ready().err();
    let state = match reason {
        None => State::Available,
        Some(_) if shared.is_ready() => State::Unloading,
        Some(_) => State::Loading,
    };
    // A version is a number, the name of its folder.
    let number = shared.config.version.parse().unwrap_or_default();
    Ok(model_status::encode(vec![model_status::entry(
        number,
        state,
        reason.as_deref(),
    )]))
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
