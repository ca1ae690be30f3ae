//! What each request is answered with: the call of its path, in the form of its path.

use std::rc::Rc;

use http::{Method, StatusCode};

use super::atserving::{self, Draft};
use super::frame::Frame;
use super::grpc::caller::Caller;
use super::grpc::metadata;
use super::intake::Intake;
use super::model::{Model, tfs_wire};
use super::oip::{over as oip_over, repository};
use super::target::{self, Refusal, Target, Tfs};
use super::tensors::known::Known;
use super::tensors::signature::{Protocol, Signature};
use super::tfs::examples;
use super::web::body::{Bodies, Unread};
use super::web::reply::{Failed, Reply};
use super::{docs, goinfer, is_grpc, openai, seldon, tfs};
use crate::call::head::shortened;
use crate::callers::signing::SignedBody;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::{RequestId, X_MODEL};
use crate::headers::{Token, text};
use crate::net::stream::{Answer, Body, Head};

/// The paths that there are, for who asks for another.
const PATHS: &str = "/docs, /openapi.json, /v2, /v2/health/live, /v2/health/ready, /v2/models/NAME[/versions/VERSION][/ready], \
                     /v1/models/NAME[/versions/VERSION|/labels/LABEL][/metadata], and POST to \
                     /v2/models/NAME[/versions/VERSION]/infer, \
                     /v1/models/NAME[/versions/VERSION|/labels/LABEL]:predict|:classify|:regress, /api/v1.0/predictions, \
                     /v2/repository/index, /v2/repository/models/NAME/load, /v2/repository/models/NAME/unload, \
                     /v1/eval/NAME[/VERSION], /v1/batch, /api/NAME, /v1/embeddings, /v1/rerank";

/// Answer a request.
///
/// # Errors
/// Those of its form and of the calls.
pub async fn reply(
    (intake, known, signed): (&Intake, Rc<Known>, Option<SignedBody>),
    head: Head,
    body: Body,
    request_id: &RequestId,
    start: impl Fn(Head, Body, Answer),
) -> Result<Reply, Failed> {
    if is_grpc(&head) {
        // It came over HTTP/1.
        let text = "a gRPC call is a POST over HTTP/2";
        return Err(Error::new(ErrorKind::BadRequest, text).into());
    }
    let target = match target::find(&head.verb, head.path_alone()) {
        Ok(target) => target,
        Err(refusal) => {
            Bodies::discard(body).await;
            return refused(refusal, &head, request_id);
        }
    };
    let frame = Frame::of(head.path_alone());
    let mut caller = Caller {
        metadata: metadata::of_call(&head.headers, request_id),
        max_message_bytes: intake.bodies.max_message_bytes,
        known,
        start,
    };
    let (whole, _held) = match intake.bodies.read(&head.headers, body, signed).await {
        Err(Unread::Late(failed)) => return Ok(late(frame, &failed, request_id)),
        read => read?,
    };
    let headers = &head.headers;
    match target {
        Target::Oip {
            call,
            model,
            version,
        } => {
            let header_length = metadata::header_length(headers)?;
            oip_over::call(&caller, call, (model, version), whole, header_length).await
        }
        Target::Repository { call, model } => repository::call(&caller, call, model, &whole).await,
        Target::OpenApi => intake.described.reply(caller, head.query()).await,
        Target::Docs => Ok(docs::reply()),
        Target::Seldon { model } => {
            if !model.is_empty() {
                if text(model.as_bytes()).is_none() {
                    let text = format!("{model:?} is no name of a model");
                    return Err(Error::new(ErrorKind::BadRouteKey, text).into());
                }
                caller.metadata.set(X_MODEL, &*model);
            }
            let body = seldon::json_of(headers, &whole)?;
            seldon::predict(&mut caller, &body).await
        }
        Target::Eval { model, version } => {
            let model = Model {
                name: &model,
                version: &version,
                label: "",
            };
            let question = Draft::read(headers, &whole)?;
            let question = question.fetched(&intake.uris).await?;
            let outputs = question.ask(&caller, &model).await?;
            Ok(atserving::reply(&outputs, headers)?)
        }
        Target::EvalBatch => atserving::batch(&caller, &intake.uris, &whole, request_id).await,
        Target::Envelope { model } => {
            let model = Model {
                name: &model,
                version: "",
                label: "",
            };
            Ok(goinfer::reply(&caller, &model, &whole, request_id).await)
        }
        Target::Embeddings => openai::embeddings(&caller, &whole).await,
        Target::Rerank => openai::rerank(&caller, &whole, request_id).await,
        Target::Tfs {
            call,
            model,
            version,
            label,
        } => {
            let spec = tfs_wire::spec(&model, &version, &label)?;
            let model = Model {
                name: &model,
                version: &version,
                label: &label,
            };
            match call {
                Tfs::Status => {
                    let message = tfs_wire::status_request(spec);
                    let answered = caller.call(tfs_wire::STATUS, message).await?;
                    Ok(tfs::told::status(answered)?)
                }
                Tfs::Metadata => {
                    let message = tfs_wire::metadata_request(spec);
                    let answered = caller.call(tfs_wire::METADATA, message).await?;
                    Ok(tfs::told::metadata(answered)?)
                }
                Tfs::Predict => predict(&caller, &model, &whole).await,
                Tfs::Classify => {
                    let message = examples::request(examples::CLASSIFY, spec, &whole)?;
                    Ok(examples::classes(
                        caller.call(examples::CLASSIFY, message).await?,
                    )?)
                }
                Tfs::Regress => {
                    let message = examples::request(examples::REGRESS, spec, &whole)?;
                    Ok(examples::numbers(
                        caller.call(examples::REGRESS, message).await?,
                    )?)
                }
            }
        }
    }
}

/// TF Serving's `:predict`.
async fn predict<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    model: &Model<'_>,
    body: &[u8],
) -> Result<Reply, Failed> {
    let document = tfs::Document::read(body)?;
    let make = |signature: &Signature| match signature.protocol {
        Protocol::Seldon => document.tensor(),
        Protocol::TensorFlow | Protocol::OpenInference => document.tensors(&signature.inputs),
    };
    let outputs = model.predict(caller, &document.signature, make).await?;
    Ok(tfs::reply(&outputs, document.format())?)
}

/// The answer to a request whose body comes too slowly.
fn late(frame: Frame, failed: &Failed, request_id: &RequestId) -> Reply {
    let mut reply = frame.reply(failed, request_id);
    reply.status = StatusCode::REQUEST_TIMEOUT;
    reply
}

/// Whether a path is of the form `/package.Service/Method`.
fn is_method(path: &str) -> bool {
    let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    parts.is_some_and(|(service, method)| service.contains('.') && !method.contains('/'))
}

/// The answer to a request that stands for no call.
fn refused(refusal: Refusal, head: &Head, request_id: &RequestId) -> Result<Reply, Failed> {
    let path = shortened(head.path_alone());
    match refusal {
        Refusal::Unknown if head.verb == Method::POST && is_method(head.path_alone()) => {
            // Which gRPC asks for.
            let text =
                format!("{path} is a method of gRPC: send the content-type application/grpc");
            let failed = Failed::from(Error::new(ErrorKind::UnknownMethod, text));
            let mut reply = Frame::of(head.path_alone()).reply(&failed, request_id);
            reply.status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Ok(reply)
        }
        Refusal::Unknown => {
            let text = format!("nothing is at {path}; there are {PATHS}");
            Err(Error::new(ErrorKind::UnknownMethod, text).into())
        }
        Refusal::Verb(expected) if head.verb == Method::OPTIONS => {
            Ok(Reply::options(if expected == "GET" {
                "GET, HEAD, OPTIONS"
            } else {
                "POST, OPTIONS"
            }))
        }
        Refusal::Verb(expected) => {
            let text = format!("{path} takes {expected}, not {}", head.verb);
            let failed = Failed::from(Error::new(ErrorKind::UnknownMethod, text));
            let mut reply = Frame::of(head.path_alone()).reply(&failed, request_id);
            reply.status = StatusCode::METHOD_NOT_ALLOWED;
            reply.headers.push(Token::ALLOW, expected);
            Ok(reply)
        }
        Refusal::Bad(error) => Err(error.into()),
    }
}
