//! What both requests have in common: a model by its name, one method of it, one output, and what it used.

use crate::error::{Error, ErrorKind};
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::Caller;
use crate::rest::model::Model;
use crate::rest::tensors::Tensor;
use crate::rest::tensors::json::{Reader, bad};
use crate::rest::tensors::numbers::{self, TOKENS};
use crate::rest::tensors::parameters::{self, Parameters};
use crate::rest::tensors::signature::Signature;
use crate::rest::web::reply::{Failed, Reply};

/// What a model answers to the inputs, and parameters beside them, that `make` makes for it. Where it has methods
/// (`torch_predict.method`), this one is called.
///
/// # Errors
/// Those of `make` and of the call.
pub async fn ask<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    model: &str,
    method: &str,
    make: impl Fn(&Signature, &mut Parameters) -> Result<Vec<Tensor>, Error>,
) -> Result<Vec<Tensor>, Failed> {
    let model = Model {
        name: model,
        version: "",
        label: "",
    };
    let make = |signature: &Signature| {
        let mut parameters = Parameters::new();
        if signature.has_parameters() {
            parameters::add(&mut parameters, "method", parameters::text(method))?;
        }
        Ok((make(signature, &mut parameters)?, parameters))
    };
    model.predict_with(caller, "", make).await
}

/// The model that a request has to name.
///
/// # Errors
/// `bad_request`.
pub fn model(named: Option<String>) -> Result<String, Error> {
    named.ok_or_else(|| bad("a request names its model".to_owned()))
}

/// A number that counts something, at least 1.
///
/// # Errors
/// `bad_request`.
pub fn count(reader: &mut Reader<'_>, name: &str) -> Result<usize, Error> {
    let text = reader.number()?;
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| {
        bad(format!(
            "{name} is {text}, and not a whole number from 1 on"
        ))
    })
}

/// The output of this name, or the only one.
///
/// # Errors
/// `bad_upstream_response`.
pub fn output<'a>(model: &str, outputs: &'a [Tensor], name: &str) -> Result<&'a Tensor, Error> {
    numbers::named(outputs, name, &[TOKENS]).ok_or_else(|| {
        let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
        let names = names.join(", ");
        wrong(format!(
            "{model} gave the outputs {names}, and none is {name}"
        ))
    })
}

/// What is wrong with a model's answer.
pub fn wrong(text: String) -> Error {
    Error::new(ErrorKind::BadUpstreamResponse, text)
}

/// The answer whose JSON lacks its end: the tokens that the model says it used.
///
/// # Errors
/// `bad_upstream_response`.
pub fn finish(mut json: Vec<u8>, outputs: &[Tensor]) -> Result<Reply, Error> {
    let tokens = numbers::tokens(outputs)?;
    let usage = format!(",\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}");
    json.extend_from_slice(usage.as_bytes());
    Ok(Reply::of(json.into()))
}
