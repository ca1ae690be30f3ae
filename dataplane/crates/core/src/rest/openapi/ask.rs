//! Which models there are, and what each says of itself.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::together::together;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::local::messages::inference::model_metadata_response::TensorMetadata;
use crate::local::messages::inference::{
    ModelMetadataResponse, RepositoryIndexRequest, RepositoryIndexResponse,
};
use crate::local::messages::tensorflow::TensorInfo;
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::Caller;
use crate::rest::model::index::INDEX;
use crate::rest::model::{oip_wire, tfs_wire};
use crate::rest::tensors::Datatype;
use crate::rest::web::reply::Failed;

/// Models that are asked at one time.
const WIDTH: usize = 8;
/// All models together have so long to answer; what is late is described as any model.
const LIMIT: Duration = Duration::from_secs(2);
/// What a description may have; more is no description that anybody reads.
const MAX_TENSORS: usize = 64;
const MAX_RANK: usize = 16;
const MAX_NAME: usize = 256;

/// A model, as far as it has told what it is.
#[derive(Debug, Default)]
pub struct Model {
    pub name: String,
    pub protocol: Option<Protocol>,
    pub inputs: Vec<Field>,
    pub outputs: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    TensorFlow,
    OpenInference,
}

/// An input or output.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub datatype: Datatype,
    /// A length below 0 is open; without it, so is the number of dimensions.
    pub shape: Option<Vec<i64>>,
}

// === impl Model ===

impl Model {
    pub fn unasked(name: String) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    /// One whose tensors cannot all be described is described as any model.
    fn new(
        name: String,
        protocol: Protocol,
        inputs: Option<Vec<Field>>,
        outputs: Option<Vec<Field>>,
    ) -> Self {
        Self {
            name,
            protocol: Some(protocol),
            inputs: inputs.unwrap_or_default(),
            outputs: outputs.unwrap_or_default(),
        }
    }
}

// === impl Field ===

impl Field {
    pub fn new(name: String, datatype: Option<Datatype>, shape: Option<Vec<i64>>) -> Option<Self> {
        let rank = shape.as_ref().map_or(0, Vec::len);
        let is_short = name.len() <= MAX_NAME && rank <= MAX_RANK;
        Some(Self {
            name,
            datatype: datatype.filter(|_| is_short)?,
            shape,
        })
    }
}

/// The names of all models.
///
/// # Errors
/// Those of the call.
pub async fn names<F: Fn(Head, Body, Answer)>(caller: &Caller<F>) -> Result<Vec<String>, Failed> {
    let message = RepositoryIndexRequest::default().encode_to_vec();
    let index: RepositoryIndexResponse = parse(caller.call(INDEX, message).await?)?;
    let mut names: Vec<_> = index.models.into_iter().map(|model| model.name).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// What these models say of themselves.
pub async fn all<F: Fn(Head, Body, Answer)>(caller: &Caller<F>, names: &[String]) -> Vec<Model> {
    let asked = names.iter().map(|name| ask(caller, name));
    let answers = together(asked, WIDTH, LIMIT).await;
    let models = names.iter().zip(answers);
    let models = models.map(|(name, answer)| match answer {
        Some(Ok(model)) => model,
        Some(Err(_)) | None => Model::unasked(name.clone()),
    });
    models.collect()
}

/// What one model says of itself.
///
/// # Errors
/// There is no such model.
pub async fn one<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    name: String,
) -> Result<Model, Failed> {
    let answer = together([ask(caller, &name)], 1, LIMIT).await.pop();
    match answer.flatten() {
        Some(Ok(model)) => Ok(model),
        Some(Err(failed)) if failed.code == Code::NotFound => Err(failed),
        Some(Err(_)) | None => Ok(Model::unasked(name)),
    }
}

/// By either protocol: a server that knows neither call may know another way to predict.
async fn ask<F: Fn(Head, Body, Answer)>(caller: &Caller<F>, name: &str) -> Result<Model, Failed> {
    let message = oip_wire::metadata_request(name, "");
    let failed = match caller.call(oip_wire::METADATA, message).await {
        Ok(metadata) => {
            let metadata: ModelMetadataResponse = parse(metadata)?;
            return Ok(Model::new(
                name.to_owned(),
                Protocol::OpenInference,
                fields(metadata.inputs),
                fields(metadata.outputs),
            ));
        }
        Err(failed) if failed.code == Code::Unimplemented => failed,
        Err(failed) => return Err(failed),
    };
    let message = tfs_wire::metadata_request(tfs_wire::spec(name, "", "")?);
    let Ok(metadata) = caller.call(tfs_wire::METADATA, message).await else {
        return Err(failed);
    };
    let (_, mut signatures) = tfs_wire::signatures(metadata)?;
    let signature = signatures.signature_def.remove(tfs_wire::DEFAULT);
    let signature = signature.unwrap_or_default();
    Ok(Model::new(
        name.to_owned(),
        Protocol::TensorFlow,
        named(signature.inputs),
        named(signature.outputs),
    ))
}

fn named(infos: HashMap<String, TensorInfo>) -> Option<Vec<Field>> {
    let fields = infos.into_iter().map(|(name, info)| {
        let shape = info.tensor_shape.filter(|shape| !shape.unknown_rank);
        let shape = shape.map(|shape| shape.dim.iter().map(|dim| dim.size).collect());
        Field::new(name, tfs_wire::datatype(info.dtype).ok(), shape)
    });
    let mut fields = few(fields.collect())?;
    fields.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Some(fields)
}

fn fields(tensors: Vec<TensorMetadata>) -> Option<Vec<Field>> {
    let fields = tensors.into_iter().map(|tensor| {
        let datatype = Datatype::find(&tensor.datatype);
        Field::new(tensor.name, datatype, Some(tensor.shape))
    });
    few(fields.collect())
}

fn few(fields: Option<Vec<Field>>) -> Option<Vec<Field>> {
    fields.filter(|fields| fields.len() <= MAX_TENSORS)
}

fn parse<T: Message + Default>(message: Bytes) -> Result<T, Error> {
    T::decode(message).map_err(|error| {
        let text = format!("the answer does not parse: {error}");
        Error::new(ErrorKind::BadUpstreamResponse, text)
    })
}
