//! TF Serving's question for the states of a model's versions, which its health checks ask.

use prost::Message;

use super::messages::tensorflow::error::Code;
pub use super::messages::tensorflow::serving::model_version_status::State;
pub use super::messages::tensorflow::serving::{
    GetModelStatusRequest, GetModelStatusResponse, ModelVersionStatus,
};
use super::messages::tensorflow::serving::{StatusProto, model_spec::VersionChoice};

/// The method's path.
pub const PATH: &str = "/tensorflow.serving.ModelService/GetModelStatus";

/// Which model a request means, and which version; as in TF Serving, a label chooses none.
pub fn asked(request: GetModelStatusRequest) -> (String, Option<i64>) {
    let spec = request.model_spec.unwrap_or_default();
    let version = match spec.version_choice {
        Some(VersionChoice::Version(version)) => Some(version),
        Some(VersionChoice::VersionLabel(_)) | None => None,
    };
    (spec.name, version)
}

/// The state of one version; `reason` says why it does not answer, if it is known that it does not.
pub fn entry(version: i64, state: State, reason: Option<&str>) -> ModelVersionStatus {
    let code = reason.map_or(Code::Ok, |_| Code::Unavailable);
    ModelVersionStatus {
        version,
        state: state.into(),
        status: Some(StatusProto {
            error_code: code.into(),
            error_message: reason.unwrap_or_default().to_owned(),
        }),
    }
}

/// The message that holds these states, the latest version first.
pub fn encode(mut versions: Vec<ModelVersionStatus>) -> Vec<u8> {
    versions.sort_unstable_by_key(|each| std::cmp::Reverse(each.version));
    GetModelStatusResponse {
        model_version_status: versions,
    }
    .encode_to_vec()
}
