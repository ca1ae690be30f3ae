//! A model as the forms of HTTP see it: named inputs and outputs, whatever protocol its server speaks.

use super::elements::Tensor;
use super::grpc::Caller;
use super::json::bad;
use super::oip::Parameters;
use super::reply::Failed;
use super::tfs::Named;
use super::{oip, tfs_wire};
use crate::code::Code;
use crate::error::Error;
use crate::local::messages::tensorflow::serving::ModelSpec;
use crate::net::stream::{Answer, Body, Head};

/// Which model is asked; empty is what the request leaves open.
#[derive(Debug)]
pub struct Model<'a> {
    pub name: &'a str,
    pub version: &'a str,
    /// TF Serving's name for a version.
    pub label: &'a str,
}

/// How a model is called.
#[derive(Debug)]
pub struct Signature {
    pub inputs: Vec<Named>,
    protocol: Protocol,
}

#[derive(Debug)]
enum Protocol {
    /// With the name of the signature, empty for the default one.
    TensorFlow(String),
    OpenInference,
}

// === impl Signature ===

impl Signature {
    /// Whether a call of the model may have parameters beside its inputs.
    pub fn has_parameters(&self) -> bool {
        !matches!(self.protocol, Protocol::TensorFlow(_))
    }
}

// === impl Model ===

impl Model<'_> {
    fn spec(&self) -> Result<ModelSpec, Error> {
        tfs_wire::spec(self.name, self.version, self.label)
    }

    /// Ask the model's server what the model takes. `name` is that of TF Serving's signature, empty for the default one.
    ///
    /// # Errors
    /// `bad_request`: there is no such signature; and those of the call.
    pub async fn signature<F: Fn(Head, Body, Answer)>(
        &self,
        caller: &Caller<F>,
        name: &str,
    ) -> Result<Signature, Failed> {
        let asked = tfs_wire::metadata_request(self.spec()?);
        match caller.call(tfs_wire::METADATA, asked).await {
            Ok(metadata) => Ok(Signature {
                inputs: tfs_wire::inputs(metadata, name)?,
                protocol: Protocol::TensorFlow(name.to_owned()),
            }),
            Err(failed) if failed.code == Code::Unimplemented => {
                let message = oip::metadata_request(self.name, self.version);
                let path = oip::Call::ModelMetadata.path();
                Ok(Signature {
                    inputs: oip::inputs(caller.call(path, message).await?)?,
                    protocol: Protocol::OpenInference,
                })
            }
            Err(failed) => Err(failed),
        }
    }

    /// Call the model; its outputs.
    ///
    /// # Errors
    /// `bad_upstream_response`, and those of the call.
    pub async fn infer<F: Fn(Head, Body, Answer)>(
        &self,
        caller: &Caller<F>,
        signature: &Signature,
        inputs: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, Failed> {
        let parameters = Parameters::new();
        self.infer_with(caller, signature, inputs, parameters).await
    }

    /// As [`infer`](Self::infer), with parameters beside the tensors.
    ///
    /// # Errors
    /// `bad_request`: the model's protocol has no parameters.
    pub async fn infer_with<F: Fn(Head, Body, Answer)>(
        &self,
        caller: &Caller<F>,
        signature: &Signature,
        inputs: Vec<Tensor>,
        parameters: Parameters,
    ) -> Result<Vec<Tensor>, Failed> {
        match &signature.protocol {
            Protocol::TensorFlow(name) => {
                if !parameters.is_empty() {
                    let names: Vec<_> = parameters.keys().map(String::as_str).collect();
                    let text = format!(
                        "{} is a TensorFlow model, which takes inputs alone: leave out {}",
                        self.name,
                        names.join(", ")
                    );
                    return Err(bad(text).into());
                }
                let message = tfs_wire::predict_request(self.spec()?, name.clone(), inputs);
                let answered = caller.call(tfs_wire::PREDICT, message).await?;
                Ok(tfs_wire::outputs(answered)?)
            }
            Protocol::OpenInference => {
                let message = oip::infer_request(self.name, self.version, inputs, parameters);
                let answered = caller.call(oip::Call::Infer.path(), message).await?;
                Ok(oip::outputs(answered)?)
            }
        }
    }
}
