//! What the Open Inference Protocol asks of a model whose server speaks TF Serving's protocol or Seldon's: its metadata,
//! and whether it is ready.

use bytes::Bytes;
use prost::Message;

use crate::error::{Error, ErrorKind};
use crate::local::messages::health::health_check_response::ServingStatus;
use crate::local::messages::health::{HealthCheckRequest, HealthCheckResponse};
use crate::local::messages::seldon::protos::{SeldonModelMetadata, SeldonModelMetadataRequest};
use crate::local::messages::tensorflow::serving::GetModelStatusResponse;
use crate::local::messages::tensorflow::serving::model_spec::VersionChoice;
use crate::local::messages::tensorflow::serving::model_version_status::State;
use crate::local::messages::tensorflow::{SignatureDef, TensorInfo};
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::{Caller, parse};
use crate::rest::model::Model;
use crate::rest::model::tfs_wire;
use crate::rest::web::reply::{Failed, Reply};

const SELDON: &str = "/seldon.protos.Seldon/ModelMetadata";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// What the model is.
///
/// # Errors
/// Those of the call; `bad_upstream_response`.
pub async fn metadata<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    model: &Model<'_>,
) -> Result<Reply, Failed> {
    if let Ok(spec) = model.spec() {
        let message = tfs_wire::metadata_request(spec);
        let answered = caller.call(tfs_wire::METADATA, message).await;
        if let Some(metadata) = where_there_is(answered)? {
            return Ok(of_tensorflow(model, metadata)?);
        }
    }
    let message = SeldonModelMetadataRequest {
        name: model.name.to_owned(),
    };
    let answered = caller
        .call_for(model.in_metadata(), SELDON, message.encode_to_vec())
        .await;
    let metadata = where_there_is(answered)?.ok_or_else(|| {
        let text = format!(
            "the server of model {:?} has none of the methods ModelMetadata, GetModelMetadata of TF Serving's and \
             ModelMetadata of Seldon's",
            model.name
        );
        Error::new(ErrorKind::UnknownMethod, text)
    })?;
    Ok(of_seldon(model, metadata)?)
}

/// Nothing where the server has no such method.
fn where_there_is(answered: Result<Bytes, Failed>) -> Result<Option<Bytes>, Failed> {
    match answered {
        Ok(message) => Ok(Some(message)),
        Err(failed) if failed.lacks_method() => Ok(None),
        Err(failed) => Err(failed),
    }
}

/// The default signature's inputs and outputs.
fn of_tensorflow(model: &Model<'_>, metadata: Bytes) -> Result<Reply, Error> {
    let (spec, signatures) = tfs_wire::signatures(metadata)?;
    let versions = match spec.version_choice {
        Some(VersionChoice::Version(version)) => vec![version.to_string()],
        Some(VersionChoice::VersionLabel(_)) | None => Vec::new(),
    };
    let none = SignatureDef::default();
    let default = signatures.signature_def.get(tfs_wire::DEFAULT);
    let default = default.unwrap_or(&none);
    Ok(Reply::json(&serde_json::json!({
        "name": model.name, "versions": versions, "platform": "tensorflow_savedmodel",
        "inputs": tensors(default.inputs.iter().collect())?,
        "outputs": tensors(default.outputs.iter().collect())?,
    })))
}

/// In the order of their names.
fn tensors(mut infos: Vec<(&String, &TensorInfo)>) -> Result<serde_json::Value, Error> {
    infos.sort_unstable_by_key(|(name, _)| *name);
    let each = infos.into_iter().map(|(name, info)| {
        let shape = info.tensor_shape.clone().unwrap_or_default();
        let shape: Vec<i64> = shape.dim.iter().map(|dim| dim.size).collect();
        let datatype = tfs_wire::datatype(info.dtype)?.name();
        Ok(serde_json::json!({"name": name, "datatype": datatype, "shape": shape}))
    });
    each.collect()
}

fn of_seldon(model: &Model<'_>, metadata: Bytes) -> Result<Reply, Error> {
    let told: SeldonModelMetadata = parse(metadata)?;
    let tensors = |each: Vec<crate::local::messages::seldon::protos::SeldonMessageMetadata>| {
        let each = each.into_iter().map(
            |it| serde_json::json!({"name": it.name, "datatype": it.datatype, "shape": it.shape}),
        );
        each.collect::<serde_json::Value>()
    };
    // The server says what it calls itself; the caller asked for the model by its name here.
    Ok(Reply::json(&serde_json::json!({
        "name": model.name, "versions": told.versions, "platform": told.platform,
        "inputs": tensors(told.inputs), "outputs": tensors(told.outputs),
    })))
}

/// Whether the model can be called: TF Serving says so, else the health of the model, as it is known here.
///
/// # Errors
/// Those of the call; `bad_upstream_response`.
pub async fn ready<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    model: &Model<'_>,
) -> Result<Reply, Failed> {
    if let Ok(spec) = model.spec() {
        let message = tfs_wire::status_request(spec);
        let answered = caller.call(tfs_wire::STATUS, message).await;
        if let Some(status) = where_there_is(answered)? {
            let told: GetModelStatusResponse = parse(status)?;
            let mut states = told.model_version_status.iter();
            let is_ready = states.any(|it| it.state == i32::from(State::Available));
            return Ok(super::call::state("ready", is_ready));
        }
    }
    let message = HealthCheckRequest {
        service: model.name.to_owned(),
    };
    let answered = caller.call(HEALTH, message.encode_to_vec()).await?;
    let told: HealthCheckResponse = parse(answered)?;
    let is_ready = told.status == i32::from(ServingStatus::Serving);
    Ok(super::call::state("ready", is_ready))
}
