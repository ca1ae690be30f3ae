//! What TF Serving tells of a model, in its JSON: signatures, and the states of its versions.

use bytes::Bytes;

use crate::error::Error;
use crate::local::messages::tensorflow::serving::{
    GetModelStatusResponse, model_spec::VersionChoice, model_version_status::State,
};
use crate::local::messages::tensorflow::{self, DataType, TensorInfo, tensor_info};
use crate::rest::grpc::caller::parse;
use crate::rest::model::tfs_wire::signatures;
use crate::rest::web::reply::Reply;

/// The answer about a model's signatures, as protobuf's JSON has it.
///
/// # Errors
/// `bad_upstream_response`.
pub fn metadata(message: Bytes) -> Result<Reply, Error> {
    let (spec, signatures) = signatures(message)?;
    let version = match spec.version_choice {
        Some(VersionChoice::Version(version)) => version.to_string(),
        Some(VersionChoice::VersionLabel(_)) | None => String::new(),
    };
    let infos = |infos: Vec<(&String, &TensorInfo)>| -> serde_json::Value {
        let each = infos
            .into_iter()
            .map(|(name, info)| (name.clone(), info_json(info)));
        serde_json::Value::Object(each.collect())
    };
    let mut listed = serde_json::Map::new();
    for (name, signature) in &signatures.signature_def {
        let entry = serde_json::json!({
            "inputs": infos(signature.inputs.iter().collect()),
            "outputs": infos(signature.outputs.iter().collect()),
            "method_name": signature.method_name,
        });
        listed.insert(name.clone(), entry);
    }
    Ok(Reply::json(&serde_json::json!({
        "model_spec": {"name": spec.name, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": listed}},
    })))
}

fn info_json(info: &TensorInfo) -> serde_json::Value {
    let shape = info.tensor_shape.clone().unwrap_or_default();
    let dims = shape.dim.iter().map(|dim| {
        // 64-bit numbers are strings in protobuf's JSON.
        serde_json::json!({"size": dim.size.to_string(), "name": dim.name})
    });
    let name = match &info.encoding {
        Some(tensor_info::Encoding::Name(name)) => name.as_str(),
        Some(_) | None => "",
    };
    let dtype = DataType::try_from(info.dtype).map_or("DT_INVALID", |dtype| dtype.as_str_name());
    serde_json::json!({
        "dtype": dtype, "name": name,
        "tensor_shape": {"dim": dims.collect::<Vec<_>>(), "unknown_rank": shape.unknown_rank},
    })
}

/// The answer about the states of a model's versions.
///
/// # Errors
/// `bad_upstream_response`.
pub fn status(message: Bytes) -> Result<Reply, Error> {
    let answer: GetModelStatusResponse = parse(message)?;
    let versions = answer.model_version_status.iter().map(|each| {
        let status = each.status.clone().unwrap_or_default();
        let code = tensorflow::error::Code::try_from(status.error_code);
        let state = State::try_from(each.state);
        serde_json::json!({
            "version": each.version.to_string(),
            "state": state.map_or("UNKNOWN", |state| state.as_str_name()),
            "status": {
                "error_code": code.map_or("UNKNOWN", |code| code.as_str_name()),
                "error_message": status.error_message,
            },
        })
    });
    let versions: Vec<_> = versions.collect();
    Ok(Reply::json(
        &serde_json::json!({ "model_version_status": versions }),
    ))
}
