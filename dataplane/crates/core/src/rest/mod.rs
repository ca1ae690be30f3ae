//! Calls over HTTP. A request becomes a call of gRPC that this process makes to itself, so that routing, balancing, limits
//! and counting are the same, and its answer becomes JSON.

mod batch;
mod body;
mod coding;
mod cors;
mod data_uri;
mod docs;
mod elements;
mod envelope;
mod eval;
mod events;
mod examples;
mod form;
mod frame;
pub mod fuzzing;
mod grpc;
mod grpc_web;
mod json;
mod known;
mod metadata;
mod model;
mod numbers;
mod oip;
mod oip_over;
mod oip_told;
mod openai;
mod openapi;
mod parameters;
mod reply;
mod repository;
mod rerank;
mod result;
mod seldon;
mod seldon_outputs;
mod seldon_over;
mod seldon_wire;
mod sending;
mod signature;
mod streamed;
mod target;
mod tfs;
mod tfs_wire;
mod uris;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, VARY};
use http::{HeaderValue, Method, StatusCode};

use crate::call::head::{request_id, shortened};
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::{X_MODEL, X_REQUEST_ID};
use crate::net::guard::StreamGuard;
use crate::net::stream::{Answer, Body, Head, Sender};
pub use body::Intake;
use body::Unread;
use coding::Coding;
use eval::Draft;
use events::Events;
use frame::Frame;
use grpc::Caller;
use grpc_web::{Form, Relayed};
pub use known::Known;
use model::Model;
pub use openapi::Described;
use reply::{Failed, Reply};
use sending::{Left, Sending};
use signature::{Protocol, Signature};
use target::{Refusal, Target, Tfs};
pub use uris::Uris;

/// The verbs that there are at all.
const VERBS: &str = "GET, HEAD, POST, OPTIONS";

/// The paths that there are, for who asks for another.
const PATHS: &str = "/docs, /openapi.json, /v2, /v2/health/live, /v2/health/ready, /v2/models/NAME[/versions/VERSION][/ready], \
                     /v1/models/NAME[/versions/VERSION|/labels/LABEL][/metadata], and POST to \
                     /v2/models/NAME[/versions/VERSION]/infer, \
                     /v1/models/NAME[/versions/VERSION|/labels/LABEL]:predict|:classify|:regress, /api/v1.0/predictions, \
                     /v2/repository/index, /v2/repository/models/NAME/load, /v2/repository/models/NAME/unload, \
                     /v1/eval/NAME[/VERSION], /v1/batch, /api/NAME, /v1/embeddings, /v1/rerank";

/// Whether a request is a call of gRPC, or means to be one.
pub fn is_grpc(head: &Head) -> bool {
    let content_type = head.headers.get(CONTENT_TYPE);
    let rest = content_type.and_then(|it| it.as_bytes().strip_prefix(b"application/grpc"));
    // gRPC-Web is another protocol.
    rest.is_some_and(|rest| !rest.starts_with(b"-"))
}

/// What a request is answered with.
enum Said {
    Whole(Reply),
    Events(Events),
    Web(Relayed),
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
    let coding = Coding::wanted(&head.headers);
    let mut headers = cors::headers(&intake.origins, &head);
    headers.insert(X_REQUEST_ID, request_id.clone());
    let is_http2 = answer.is_http2();
    let serving = async {
        let said = said(&intake, head, body, &request_id, start).await;
        let failed = |failed| Said::Whole(frame.reply(&failed, &request_id));
        let mut said = said.unwrap_or_else(failed);
        if let Said::Whole(reply) = &mut said {
            reply.compress(coding).await;
        }
        said
    };
    let mut serving = pin!(serving);
    let said = poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(said) => Poll::Ready(Some(said)),
        // Nobody waits any more: the call, whose answer nobody reads then, is told.
        Poll::Pending => answer.poll_reset(cx).map(|()| None),
    });
    let sending = |sender| Sending::new(sender, intake.timeout);
    // An error means that the caller is gone: nobody is left to tell.
    let _ = match said.await {
        Some(Said::Whole(mut reply)) => {
            let varies = headers.remove(VARY);
            reply.headers.extend(headers);
            if let Some(varies) = varies {
                reply.headers.append(VARY, varies);
            }
            if !is_http2 && is_unread(reply.status) {
                let close = HeaderValue::from_static("close");
                reply.headers.insert(CONNECTION, close);
            }
            send(&mut answer, reply, is_head, sending).await
        }
        Some(Said::Events(events)) => {
            let sent = events.send(&mut answer, headers, &request_id, sending);
            sent.await
        }
        Some(Said::Web(relayed)) => relayed.send(&mut answer, headers, sending).await,
        None => Err(Left),
    };
}

/// Whether the rest of a body that nobody reads lies between this answer and the next request.
fn is_unread(status: StatusCode) -> bool {
    status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::PAYLOAD_TOO_LARGE
}

async fn send(
    answer: &mut Answer,
    mut reply: Reply,
    is_head: bool,
    sending: impl FnOnce(Sender) -> Sending,
) -> Result<(), Left> {
    reply.finish_headers();
    if is_head || reply.body.is_empty() {
        return answer
            .finish_with(reply.status, reply.headers)
            .map_err(|_| Left);
    }
    let sender = answer.begin_with(reply.status, reply.headers);
    let mut sending = sending(sender.map_err(|_| Left)?);
    sending.send(reply.body).await?;
    sending.end()
}

async fn said(
    intake: &Intake,
    head: Head,
    body: Body,
    request_id: &HeaderValue,
    start: impl Fn(Head, Body, Answer),
) -> Result<Said, Failed> {
    if cors::is_preflight(&head) || (head.verb == Method::OPTIONS && head.uri.path() == "*") {
        return Ok(Said::Whole(Reply::options(VERBS)));
    }
    if let Some(form) = Form::of(&head.headers)
        && head.verb == Method::POST
    {
        let relayed = grpc_web::answer(form, intake, head, body, request_id, start);
        return Ok(Said::Web(relayed.await));
    }
    if events::are_wanted(&head.headers)
        && let Ok(Target::Oip {
            call: oip::Call::Infer,
            model,
            version,
        }) = target::find(&head.verb, head.uri.path())
    {
        let header_length = metadata::header_length(&head.headers)?;
        let caller = Caller {
            metadata: metadata::of_call(&head.headers, request_id),
            max_message_bytes: intake.max_message_bytes,
            known: intake.known.clone(),
            start,
        };
        let (whole, _held) = intake.read(&head.headers, body).await?;
        let (message, _) = oip::Call::Infer.request(model, version, &whole, header_length)?;
        drop(whole);
        return Ok(Said::Events(events::begin(&caller, message).await?));
    }
    let reply = reply(intake, head, body, request_id, start).await?;
    Ok(Said::Whole(reply))
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
        known: intake.known.clone(),
        start,
    };
    let (whole, _held) = match intake.read(&head.headers, body).await {
        Err(Unread::Late(failed)) => return Ok(late(&failed, request_id)),
        read => read?,
    };
    let headers = head.headers;
    match target {
        Target::Oip {
            call,
            model,
            version,
        } => {
            let header_length = metadata::header_length(&headers)?;
            oip_over::call(&caller, call, (model, version), whole, header_length).await
        }
        Target::Repository { call, model } => repository::call(&caller, call, model, &whole).await,
        Target::OpenApi => intake.described.reply(caller, head.uri.query()).await,
        Target::Docs => Ok(docs::reply()),
        Target::Seldon { model } => {
            if !model.is_empty() {
                let name = HeaderValue::from_str(&model).map_err(|_| {
                    let text = format!("{model:?} is no name of a model");
                    Error::new(ErrorKind::BadRouteKey, text)
                })?;
                caller.metadata.insert(X_MODEL, name);
            }
            let body = form::json_of(&headers, &whole)?;
            seldon_over::predict(&mut caller, &body).await
        }
        Target::Eval { model, version } => {
            let model = Model {
                name: &model,
                version: &version,
                label: "",
            };
            let question = Draft::read(&headers, &whole)?;
            let question = question.fetched(&intake.uris).await?;
            let outputs = question.ask(&caller, &model).await?;
            Ok(eval::reply(&outputs, &headers)?)
        }
        Target::EvalBatch => batch::reply(&caller, &intake.uris, &whole, request_id).await,
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
    let make = |signature: &Signature| match signature.protocol {
        Protocol::Seldon => document.tensor(),
        Protocol::TensorFlow | Protocol::OpenInference => document.tensors(&signature.inputs),
    };
    let outputs = model.predict(caller, &document.signature, make).await?;
    Ok(tfs::reply(&outputs, document.format())?)
}

/// The answer to a request whose body comes too slowly.
fn late(failed: &Failed, request_id: &HeaderValue) -> Reply {
    let mut reply = Reply::problem(failed, request_id);
    reply.status = StatusCode::REQUEST_TIMEOUT;
    reply
}

/// The answer to a request that stands for no call.
fn refused(refusal: Refusal, head: &Head, request_id: &HeaderValue) -> Result<Reply, Failed> {
    let path = shortened(head.uri.path());
    match refusal {
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
            let mut reply = Frame::of(head.uri.path()).reply(&failed, request_id);
            reply.status = StatusCode::METHOD_NOT_ALLOWED;
            let allowed = HeaderValue::from_static(expected);
            reply.headers.insert(ALLOW, allowed);
            Ok(reply)
        }
        Refusal::Bad(error) => Err(error.into()),
    }
}
