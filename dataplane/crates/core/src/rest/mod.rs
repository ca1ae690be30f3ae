//! Calls over HTTP. A request becomes a call of gRPC that this process makes to itself, so that routing, balancing, limits
//! and counting are the same, and its answer becomes JSON.

mod batch;
mod body;
mod data_uri;
mod elements;
mod envelope;
mod eval;
mod examples;
mod frame;
mod grpc;
mod json;
mod metadata;
mod model;
mod numbers;
mod oip;
mod openai;
mod parameters;
mod reply;
mod rerank;
mod result;
mod seldon;
mod target;
mod tfs;
mod tfs_wire;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use tokio::time::timeout;

use crate::call::head::{request_id, shortened};
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::{X_MODEL, X_REQUEST_ID};
use crate::net::guard::StreamGuard;
use crate::net::stream::{Answer, Body, Broken, Head};
pub use body::Intake;
use eval::Question;
use frame::Frame;
use grpc::Caller;
use model::Model;
use reply::{Failed, Reply};
use target::{Refusal, Target, Tfs};

/// Bytes of an answer that are sent at a time.
const PIECE: usize = 64 * 1024;

/// The paths that there are, for who asks for another.
const PATHS: &str = "/v2, /v2/health/live, /v2/health/ready, /v2/models/NAME[/versions/VERSION][/ready], \
                     /v1/models/NAME[/versions/VERSION|/labels/LABEL][/metadata], and POST to \
                     /v2/models/NAME[/versions/VERSION]/infer, \
                     /v1/models/NAME[/versions/VERSION|/labels/LABEL]:predict|:classify|:regress, /api/v1.0/predictions, \
                     /v1/eval/NAME[/VERSION], /v1/batch, /api/NAME, /v1/embeddings, /v1/rerank";

/// Whether a request is a call of gRPC, or means to be one.
pub fn is_grpc(head: &Head) -> bool {
    let content_type = head.headers.get(CONTENT_TYPE);
    content_type.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}

/// Answer one request. `start` starts a call of gRPC; `_stream` counts the request until it is answered.
pub async fn serve(
    intake: Intake,
    head: Head,
    body: Body,
    mut answer: Answer,
    _stream: StreamGuard,
    start: impl Fn(Head, Body, Answer),
) {
    let request_id = request_id(&head.headers);
    let is_head = head.verb == Method::HEAD;
    let frame = Frame::of(head.uri.path());
    let serving = async {
        let replied = reply(&intake, head, body, &request_id, start).await;
        replied.unwrap_or_else(|failed| frame.reply(&failed, &request_id))
    };
    let mut serving = pin!(serving);
    let replied = poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(reply) => Poll::Ready(Some(reply)),
        // Nobody waits any more: the call, whose answer nobody reads then, is told.
        Poll::Pending => answer.poll_reset(cx).map(|()| None),
    });
    let Some(mut reply) = replied.await else {
        return;
    };
    reply.headers.insert(X_REQUEST_ID, request_id.clone());
    reply.finish_headers();
    // An error means that the caller is gone: nobody is left to tell.
    let _ = send(&mut answer, reply, is_head, intake.timeout).await;
}

async fn send(
    answer: &mut Answer,
    reply: Reply,
    is_head: bool,
    limit: Duration,
) -> Result<(), Broken> {
    if is_head || reply.body.is_empty() {
        return answer.finish_with(reply.status, reply.headers);
    }
    let mut sender = answer.begin_with(reply.status, reply.headers)?;
    let mut body = reply.body;
    // Piece by piece: who reads slowly gets all of it, who stops reading is not waited for.
    while !body.is_empty() {
        let piece = body.split_to(PIECE.min(body.len()));
        let Ok(sent) = timeout(limit, sender.send_all(piece)).await else {
            sender.reset();
            return Ok(());
        };
        sent?;
    }
    sender.send(Bytes::new(), true)
}

async fn reply(
    intake: &Intake,
    head: Head,
    body: Body,
    request_id: &HeaderValue,
    start: impl Fn(Head, Body, Answer),
) -> Result<Reply, Failed> {
    if is_grpc(&head) {
        // It came over HTTP/1.
        let text = "a gRPC call is a POST over HTTP/2";
        return Err(Error::new(ErrorKind::BadRequest, text).into());
    }
    let target = match target::find(&head.verb, head.uri.path()) {
        Ok(target) => target,
        Err(refusal) => return refused(refusal, &head, request_id),
    };
    let mut caller = Caller {
        metadata: metadata::of_call(&head.headers, request_id),
        max_message_bytes: intake.max_message_bytes,
        start,
    };
    let (whole, _held) = intake.read(&head.headers, body).await?;
    let headers = head.headers;
    match target {
        Target::Oip {
            call,
            model,
            version,
        } => {
            let header_length = metadata::header_length(&headers)?;
            let (message, wish) = call.request(model, version, &whole, header_length)?;
            drop(whole);
            let answered = caller.call(call.path(), message).await?;
            Ok(call.reply(answered, &wish)?)
        }
        Target::Seldon { model } => {
            if !model.is_empty() {
                let name = HeaderValue::from_str(&model).map_err(|_| {
                    let text = format!("{model:?} is no name of a model");
                    Error::new(ErrorKind::BadRouteKey, text)
                })?;
                caller.metadata.insert(X_MODEL, name);
            }
            let message = seldon::request(&whole)?;
            Ok(seldon::reply(caller.call(seldon::PREDICT, message).await?)?)
        }
        Target::Eval { model, version } => {
            let model = Model {
                name: &model,
                version: &version,
                label: "",
            };
            let question = Question::read(&headers, &whole)?;
            let outputs = question.ask(&caller, &model).await?;
            Ok(eval::reply(&outputs, &headers)?)
        }
        Target::EvalBatch => batch::reply(&caller, &whole, request_id).await,
        Target::Envelope { model } => {
            let model = Model {
                name: &model,
                version: "",
                label: "",
            };
            Ok(envelope::reply(&caller, &model, &whole, request_id).await)
        }
        Target::Embeddings => openai::embeddings(&caller, &whole).await,
        Target::Rerank => rerank::rerank(&caller, &whole, request_id).await,
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
                    Ok(tfs_wire::status_reply(answered)?)
                }
                Tfs::Metadata => {
                    let message = tfs_wire::metadata_request(spec);
                    let answered = caller.call(tfs_wire::METADATA, message).await?;
                    Ok(tfs_wire::metadata_reply(answered)?)
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
    let signature = model.signature(caller, &document.signature).await?;
    let inputs = document.tensors(&signature.inputs)?;
    let outputs = model.infer(caller, &signature, inputs).await?;
    Ok(tfs::reply(&outputs, document.format())?)
}

/// The answer to a request that stands for no call.
fn refused(refusal: Refusal, head: &Head, request_id: &HeaderValue) -> Result<Reply, Failed> {
    let path = shortened(head.uri.path());
    match refusal {
        Refusal::Unknown => {
            let text = format!("nothing is at {path}; there are {PATHS}");
            Err(Error::new(ErrorKind::UnknownMethod, text).into())
        }
        Refusal::Verb(expected) => {
            let text = format!("{path} takes {expected}, not {}", head.verb);
            let failed = Failed::from(Error::new(ErrorKind::UnknownMethod, text));
            let mut reply = Frame::of(head.uri.path()).reply(&failed, request_id);
            reply.status = StatusCode::METHOD_NOT_ALLOWED;
            let allowed = HeaderValue::from_static(expected);
            reply.headers.insert(ALLOW, allowed);
            Ok(reply)
        }
        Refusal::Bad(error) => Err(error.into()),
    }
}
