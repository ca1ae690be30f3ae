//! The methods that reach the model.

use crate::call::head::shortened;
use crate::error::{Error, ErrorKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `/seldon.protos.Model/Predict`
    Predict,
    /// `/seldon.protos.Seldon/Predict`
    SeldonPredict,
    Infer,
    StreamInfer,
}

// === impl Method ===

impl Method {
    pub const ALL: [Self; 4] = [
        Self::Predict,
        Self::SeldonPredict,
        Self::Infer,
        Self::StreamInfer,
    ];

    pub const fn path(self) -> &'static str {
        match self {
            Self::Predict => "/seldon.protos.Model/Predict",
            Self::SeldonPredict => "/seldon.protos.Seldon/Predict",
            Self::Infer => "/inference.GRPCInferenceService/ModelInfer",
            Self::StreamInfer => "/inference.GRPCInferenceService/ModelStreamInfer",
        }
    }

    pub fn find(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.path() == path)
    }
}

/// The error of a call to another method.
pub fn unknown_method(path: &str) -> Error {
    let text = format!(
        "unknown method {}: this model server answers {}",
        shortened(path),
        Method::ALL.map(Method::path).join(", ")
    );
    Error::new(ErrorKind::UnknownMethod, text)
}
