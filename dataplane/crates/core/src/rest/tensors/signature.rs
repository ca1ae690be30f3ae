//! How a model is called: what it takes, and which protocol its server speaks.

use crate::rest::tensors::Named;

/// How a model is called.
#[derive(Debug, PartialEq, Eq)]
pub struct Signature {
    /// None where the model's server tells of none.
    pub inputs: Vec<Named>,
    pub protocol: Protocol,
    /// TF Serving's name for it, empty for the default one.
    pub name: String,
}

// === impl Signature ===

impl Signature {
    /// Whether a call of the model may have parameters beside its inputs.
    pub fn has_parameters(&self) -> bool {
        self.protocol == Protocol::OpenInference
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    TensorFlow,
    OpenInference,
    /// One tensor without a name and a type, in and out.
    Seldon,
}
