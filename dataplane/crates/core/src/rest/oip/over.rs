//! Calls of the Open Inference Protocol over HTTP: passed on as they are, and translated where the model's server speaks
//! TF Serving's protocol or Seldon's.

use bytes::Bytes;

use super::answer::inferred;
use super::call::Call;
use super::request::{Wish, read};
use super::told;
use crate::error::Error;
use crate::local::messages::inference::ModelInferResponse;
use crate::local::messages::inference::model_infer_response::InferOutputTensor;
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::Caller;
use crate::rest::model::Model;
use crate::rest::tensors::json::bad;
use crate::rest::tensors::signature::{Protocol, Signature};
use crate::rest::tensors::{Datatype, Tensor};
use crate::rest::web::reply::{Failed, Reply};

/// Answer one call. `header_length` is that of the JSON in front of binary data.
///
/// # Errors
/// Those of the call; `bad_request` where the request does not map to the model's protocol.
pub async fn call<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    call: Call,
    (name, version): (String, String),
    body: Bytes,
    header_length: Option<usize>,
) -> Result<Reply, Failed> {
    let is_of_a_model = matches!(call, Call::Infer | Call::ModelMetadata | Call::ModelReady);
    let model = Model {
        name: &name,
        version: &version,
        label: "",
    };
    let key = model.key(caller);
    if !is_of_a_model || !caller.known.lacks(&key, Protocol::OpenInference) {
        let asked = caller.known.moment();
        let (message, wish) = call.request(name.clone(), version.clone(), &body, header_length)?;
        match caller.call(call.path(), message).await {
            Err(failed) if is_of_a_model && failed.lacks_method() => {
                let known = &caller.known;
                known.note_lack(&key, Protocol::OpenInference, asked);
            }
            answered => return Ok(call.reply(answered?, &wish)?),
        }
    }
    match call {
        Call::ModelMetadata => told::metadata(caller, &model).await,
        Call::ModelReady => told::ready(caller, &model).await,
        _ => infer(caller, &model, &body, header_length).await,
    }
}

async fn infer<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    model: &Model<'_>,
    body: &Bytes,
    header_length: Option<usize>,
) -> Result<Reply, Failed> {
    let (name, version) = (model.name.to_owned(), model.version.to_owned());
    let (request, wish) = read(name, version, body, header_length)?;
    let inputs = request.inputs.iter().zip(&request.raw_input_contents);
    let inputs = inputs.map(|(input, raw)| {
        let shape = input.shape.iter().map(|it| usize::try_from(*it).ok());
        Ok(Tensor {
            name: input.name.clone(),
            // Both were looked at as the request was read.
            datatype: Datatype::find(&input.datatype)
                .ok_or_else(|| bad("no datatype".to_owned()))?,
            shape: shape
                .collect::<Option<_>>()
                .ok_or_else(|| bad("no shape".to_owned()))?,
            raw: raw.clone(),
        })
    });
    let inputs: Vec<Tensor> = inputs.collect::<Result<_, Error>>()?;
    let make = |signature: &Signature| {
        if signature.protocol == Protocol::TensorFlow {
            check(&inputs, signature)?;
        }
        Ok(inputs.clone())
    };
    let outputs = model.predict(caller, "", make).await?;
    let wanted = request.outputs.iter().map(|it| it.name.as_str());
    let outputs = wanted_of(outputs, &wanted.collect::<Vec<_>>())?;
    Ok(answer(request.model_name, request.id, outputs, &wish)?)
}

/// Whether a signature has these inputs, with these types; the server looks at the shapes.
fn check(inputs: &[Tensor], signature: &Signature) -> Result<(), Error> {
    for input in inputs {
        let found = signature
            .inputs
            .iter()
            .find(|(name, _)| *name == input.name);
        let Some((name, datatype)) = found else {
            let names = signature.inputs.iter().map(|(name, _)| name.as_str());
            return Err(bad(format!(
                "the model has no input {:?}; it has {}",
                input.name,
                names.collect::<Vec<_>>().join(", ")
            )));
        };
        if *datatype != input.datatype {
            return Err(bad(format!(
                "input {name:?} is {}, the model takes {}: send it with that datatype",
                input.datatype.name(),
                datatype.name()
            )));
        }
    }
    Ok(())
}

/// The outputs that are asked for; all where none is.
fn wanted_of(outputs: Vec<Tensor>, wanted: &[&str]) -> Result<Vec<Tensor>, Error> {
    if wanted.is_empty() {
        return Ok(outputs);
    }
    let find = |name: &&str| {
        let found = outputs.iter().find(|it| it.name == *name);
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = outputs.iter().map(|it| it.name.as_str()).collect();
            bad(format!(
                "the model has no output {name:?}; it has {}",
                names.join(", ")
            ))
        })
    };
    wanted.iter().map(find).collect()
}

fn answer(
    model_name: String,
    id: String,
    outputs: Vec<Tensor>,
    wish: &Wish,
) -> Result<Reply, Error> {
    let mut answer = ModelInferResponse {
        model_name,
        id,
        ..ModelInferResponse::default()
    };
    for output in outputs {
        let shape = output
            .shape
            .iter()
            .map(|length| i64::try_from(*length).unwrap_or(i64::MAX));
        answer.outputs.push(InferOutputTensor {
            name: output.name,
            datatype: output.datatype.name().to_owned(),
            shape: shape.collect(),
            ..InferOutputTensor::default()
        });
        answer.raw_output_contents.push(output.raw);
    }
    inferred(answer, wish)
}
