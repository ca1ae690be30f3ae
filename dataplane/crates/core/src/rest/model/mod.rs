//! A model as the forms of HTTP see it: named inputs and outputs, whatever protocol its server speaks.

pub mod index;
pub mod oip_wire;
mod seldon_outputs;
pub mod seldon_wire;
pub mod tfs_wire;

use std::rc::Rc;

use crate::code::Code;
use crate::error::Error;
use crate::grpc::metadata::{X_MODEL, X_MODEL_VERSION};
use crate::local::messages::tensorflow::serving::ModelSpec;
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::Caller;
use crate::rest::tensors::Tensor;
use crate::rest::tensors::json::bad;
use crate::rest::tensors::known::Moment;
use crate::rest::tensors::parameters::Parameters;
use crate::rest::tensors::signature::{Protocol, Signature};
use crate::rest::web::reply::Failed;

/// Which model is asked; empty is what the request leaves open.
#[derive(Debug)]
pub struct Model<'a> {
    pub name: &'a str,
    pub version: &'a str,
    /// TF Serving's name for a version.
    pub label: &'a str,
}

// === impl Model ===

impl Model<'_> {
    pub fn spec(&self) -> Result<ModelSpec, Error> {
        tfs_wire::spec(self.name, self.version, self.label)
    }

    /// What of a request decides whose signature it meets.
    pub fn key<F>(&self, caller: &Caller<F>) -> Vec<u8> {
        let given = [X_MODEL, X_MODEL_VERSION];
        let given = given.map(|name| caller.metadata.get(name).unwrap_or_default());
        let [name, version, label] = [self.name, self.version, self.label].map(str::as_bytes);
        let mut key = Vec::new();
        for part in [name, version, label, given[0], given[1]] {
            key.extend_from_slice(&part.len().to_le_bytes());
            key.extend_from_slice(part);
        }
        key
    }

    /// What the model takes, as it was told lately or is told now. `name` is that of TF Serving's signature, empty for
    /// the default one.
    ///
    /// # Errors
    /// `bad_request`: there is no such signature; and those of the call.
    pub async fn signature<F: Fn(Head, Body, Answer)>(
        &self,
        caller: &Caller<F>,
        name: &str,
    ) -> Result<Rc<Signature>, Failed> {
        let key = self.key(caller);
        match caller.known.signature(&key, name) {
            Some(signature) => Ok(signature),
            None => self.ask(caller, &key, name).await,
        }
    }

    /// Call the model with tensors that are made for its signature; its outputs. Where a signature that was told
    /// before may be to blame for a failure, the server is asked again.
    ///
    /// # Errors
    /// Those of `make` and of the calls; `bad_request`: the tensors do not do for Seldon's protocol;
    /// `bad_upstream_response`.
    pub async fn predict<F: Fn(Head, Body, Answer)>(
        &self,
        caller: &Caller<F>,
        name: &str,
        make: impl Fn(&Signature) -> Result<Vec<Tensor>, Error>,
    ) -> Result<Vec<Tensor>, Failed> {
        let make = |signature: &Signature| Ok((make(signature)?, Parameters::new()));
        self.predict_with(caller, name, make).await
    }

    /// As [`predict`](Self::predict), with parameters beside the tensors.
    ///
    /// # Errors
    /// `bad_request`: the model's protocol has no parameters.
    pub async fn predict_with<F: Fn(Head, Body, Answer)>(
        &self,
        caller: &Caller<F>,
        name: &str,
        make: impl Fn(&Signature) -> Result<(Vec<Tensor>, Parameters), Error>,
    ) -> Result<Vec<Tensor>, Failed> {
        let key = self.key(caller);
        let was_told = caller.known.signature(&key, name).is_some();
        let told = self.signature(caller, name).await?;
        let answered = self.infer_made(caller, &told, &make).await;
        let failed = match answered {
            Err(failed) if was_told && may_be_outdated(failed.code) => failed,
            answered => return answered,
        };
        caller.known.forget(&key);
        let signature = self.ask(caller, &key, name).await?;
        if signature == told {
            return Err(failed);
        }
        self.infer_made(caller, &signature, &make).await
    }

    async fn infer_made<F: Fn(Head, Body, Answer)>(
        &self,
        caller: &Caller<F>,
        signature: &Signature,
        make: &impl Fn(&Signature) -> Result<(Vec<Tensor>, Parameters), Error>,
    ) -> Result<Vec<Tensor>, Failed> {
        let (inputs, parameters) = make(signature)?;
        self.infer(caller, signature, inputs, parameters).await
    }

    async fn ask<F: Fn(Head, Body, Answer)>(
        &self,
        caller: &Caller<F>,
        key: &[u8],
        name: &str,
    ) -> Result<Rc<Signature>, Failed> {
        let asked = caller.known.moment();
        let signature = Rc::new(self.told(caller, key, name, asked).await?);
        caller.known.note_signature(key, name, &signature, asked);
        Ok(signature)
    }

    /// Ask in each protocol that the server is not known to lack.
    async fn told<F: Fn(Head, Body, Answer)>(
        &self,
        caller: &Caller<F>,
        key: &[u8],
        name: &str,
        asked: Moment,
    ) -> Result<Signature, Failed> {
        let has = |protocol| !caller.known.lacks(key, protocol);
        // Where another protocol is spoken, a version need not be a number.
        let spec = self.spec();
        if let Ok(spec) = &spec
            && has(Protocol::TensorFlow)
        {
            let message = tfs_wire::metadata_request(spec.clone());
            match caller.call(tfs_wire::METADATA, message).await {
                Ok(metadata) => {
                    return Ok(Signature {
                        inputs: tfs_wire::inputs(metadata, name)?,
                        protocol: Protocol::TensorFlow,
                        name: name.to_owned(),
                    });
                }
                Err(failed) if failed.lacks_method() => {
                    caller.known.note_lack(key, Protocol::TensorFlow, asked);
                }
                Err(failed) => return Err(failed),
            }
        }
        if !name.is_empty() {
            return Err(bad(format!(
                "signature_name is {name:?}, but model {:?} has no signatures, as only TF Serving's have: leave it out",
                self.name
            ))
            .into());
        }
        if has(Protocol::OpenInference) {
            let message = oip_wire::metadata_request(self.name, self.version_or_label());
            match caller.call(oip_wire::METADATA, message).await {
                Ok(metadata) => {
                    return Ok(Signature {
                        inputs: oip_wire::inputs(metadata)?,
                        protocol: Protocol::OpenInference,
                        name: String::new(),
                    });
                }
                Err(failed) if failed.lacks_method() => {
                    caller.known.note_lack(key, Protocol::OpenInference, asked);
                }
                Err(failed) => return Err(failed),
            }
        }
        spec?;
        Ok(Signature {
            inputs: Vec::new(),
            protocol: Protocol::Seldon,
            name: String::new(),
        })
    }

    async fn infer<F: Fn(Head, Body, Answer)>(
        &self,
        caller: &Caller<F>,
        signature: &Signature,
        inputs: Vec<Tensor>,
        parameters: Parameters,
    ) -> Result<Vec<Tensor>, Failed> {
        if !parameters.is_empty() && !signature.has_parameters() {
            let names: Vec<_> = parameters.keys().map(String::as_str).collect();
            let (name, names) = (self.name, names.join(", "));
            let text = format!(
                "{name} does not speak the Open Inference Protocol and takes inputs alone: leave out {names}"
            );
            return Err(bad(text).into());
        }
        match signature.protocol {
            Protocol::TensorFlow => {
                let message =
                    tfs_wire::predict_request(self.spec()?, signature.name.clone(), inputs);
                let answered = caller.call(tfs_wire::PREDICT, message).await?;
                Ok(tfs_wire::outputs(answered)?)
            }
            Protocol::OpenInference => {
                let message =
                    oip_wire::infer_request(self.name, self.version_or_label(), inputs, parameters);
                let answered = caller.call(oip_wire::INFER, message).await?;
                Ok(oip_wire::outputs(answered)?)
            }
            Protocol::Seldon => {
                let message = seldon_wire::request(self.name, inputs)?;
                let answered = caller
                    .call_for(self.in_metadata(), seldon_wire::PREDICT, message)
                    .await;
                seldon_outputs::outputs(answered.map_err(|failed| self.speaks_nothing(failed))?)
            }
        }
    }

    /// Its name and its version, for messages without a place for them.
    pub fn in_metadata(&self) -> (&str, &str) {
        (self.name, self.version_or_label())
    }

    /// Labels stand where versions do, but in TF Serving's messages.
    fn version_or_label(&self) -> &str {
        match self.version {
            "" => self.label,
            version => version,
        }
    }

    /// Seldon's protocol is tried last.
    fn speaks_nothing(&self, failed: Failed) -> Failed {
        if !failed.lacks_method() {
            return failed;
        }
        let text = format!(
            "the server of model {:?} has none of the methods ModelInfer, Predict of TF Serving's and Predict of \
             Seldon's: name an endpoint that serves one of these protocols ({})",
            self.name, failed.text
        );
        Failed { text, ..failed }
    }
}

/// Whether a call may have failed because the model has another signature by now, or its server another protocol.
fn may_be_outdated(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::Unimplemented
    )
}
