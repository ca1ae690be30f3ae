//! Which models there are, and loading and unloading them, over HTTP in the form of Triton and MLServer.

use bytes::Bytes;
use prost::Message;

use crate::error::Error;
use crate::local::messages::inference::model_repository_parameter::ParameterChoice;
use crate::local::messages::inference::{
    ModelRepositoryParameter, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
};
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::Caller;
use crate::rest::grpc::caller::parse;
use crate::rest::model::index::INDEX;
use crate::rest::tensors::json::{Kind, Reader, bad};
use crate::rest::web::reply::{Failed, Reply};

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Index,
    Load,
    Unload,
}

const LOAD: &str = "/inference.GRPCInferenceService/RepositoryModelLoad";
const UNLOAD: &str = "/inference.GRPCInferenceService/RepositoryModelUnload";

/// What a body asks for beside the model; an empty body asks for nothing.
#[derive(Default)]
struct Asked {
    is_ready: bool,
    parameters: Vec<(String, ParameterChoice)>,
}

/// Answer one call.
///
/// # Errors
/// Those of the call; `bad_request`.
pub async fn call<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    call: Call,
    name: String,
    body: &[u8],
) -> Result<Reply, Failed> {
    let asked = Asked::read(body)?;
    let parameters = asked.parameters.into_iter().map(|(name, choice)| {
        let parameter_choice = Some(choice);
        (name, ModelRepositoryParameter { parameter_choice })
    });
    // Where the models are other servers', it says which server is asked.
    let model = (name.as_str(), "");
    match call {
        Call::Index => {
            let message = RepositoryIndexRequest {
                ready: asked.is_ready,
                ..RepositoryIndexRequest::default()
            };
            return Ok(index(caller.call(INDEX, message.encode_to_vec()).await?)?);
        }
        Call::Load => {
            let message = RepositoryModelLoadRequest {
                model_name: name.clone(),
                parameters: parameters.collect(),
                ..RepositoryModelLoadRequest::default()
            };
            let message = message.encode_to_vec();
            caller.call_for(model, LOAD, message).await?
        }
        Call::Unload => {
            let message = RepositoryModelUnloadRequest {
                model_name: name.clone(),
                parameters: parameters.collect(),
                ..RepositoryModelUnloadRequest::default()
            };
            let message = message.encode_to_vec();
            caller.call_for(model, UNLOAD, message).await?
        }
    };
    // Triton and MLServer answer with nothing.
    Ok(Reply::of(Bytes::new()))
}

fn index(message: Bytes) -> Result<Reply, Error> {
    let told: RepositoryIndexResponse = parse(message)?;
    let models = told.models.into_iter().map(|it| {
        serde_json::json!({
            "name": it.name, "version": it.version, "state": it.state, "reason": it.reason,
        })
    });
    Ok(Reply::json(&models.collect()))
}

// === impl Asked ===

impl Asked {
    fn read(body: &[u8]) -> Result<Self, Error> {
        let mut asked = Self::default();
        if body.is_empty() {
            return Ok(asked);
        }
        let mut reader = Reader::new(body);
        reader.object(|reader, key| match (key, reader.kind()?) {
            ("ready", Kind::Null) => reader.null(),
            ("ready", _) => {
                asked.is_ready = reader.bool()?;
                Ok(())
            }
            ("parameters", Kind::Object) => reader.object(|reader, name| {
                let choice = match reader.kind()? {
                    Kind::Bool => ParameterChoice::BoolParam(reader.bool()?),
                    Kind::String => ParameterChoice::StringParam(reader.string()?.into_owned()),
                    Kind::Number => {
                        let text = reader.number()?;
                        let number = text.parse();
                        let number = number.map_err(|_| bad(format!("{text} is no INT64")))?;
                        ParameterChoice::Int64Param(number)
                    }
                    Kind::Null | Kind::Array | Kind::Object => {
                        return Err(reader.error("true or false, a whole number, or a string"));
                    }
                };
                asked.parameters.push((name.to_owned(), choice));
                Ok(())
            }),
            _ => reader.skip(),
        })?;
        reader.end()?;
        Ok(asked)
    }
}
