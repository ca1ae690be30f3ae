//! Calls over HTTP. A request becomes a call of gRPC that this process makes to itself, so that routing, balancing, limits
//! and counting are the same, and its answer becomes JSON.
//!
//! Rooms, from the bottom up (tests/project/test_layout_rust.py says who may use whom): `tensors`, `web` · `grpc` ·
//! `model` and `uris` · one for each form: `oip`, `tfs`, `seldon`, `atserving`, `openai`, `goinfer` · `openapi`, `docs`.

mod atserving;
mod dispatch;
mod docs;
mod frame;
pub mod fuzzing;
mod goinfer;
mod grpc;
mod intake;
mod model;
mod oip;
mod openai;
mod openapi;
mod seldon;
mod target;
mod tensors;
mod tfs;
mod uris;
mod web;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::{Method, StatusCode};

use crate::call::head;
use crate::error::ErrorKind;
use crate::grpc::metadata::RequestId;
use crate::headers::Token;
use crate::net::guard::StreamGuard;
use crate::net::stream::{Answer, Body, Head, Sender};
use frame::Frame;
use grpc::caller::Caller;
use grpc::metadata;
use grpc::web::{self as grpc_web, Form, Relayed};
pub use intake::{Guest, Intake};
use oip::events::{self, Events};
use target::Target;
pub use target::{Wanted, wanted};
pub use uris::Uris;
use web::body::Bodies;
use web::coding::Coding;
use web::cors;
use web::reply::{Failed, Reply};
use web::sending::{Left, Sending};

/// The verbs that there are at all.
const VERBS: &str = "GET, HEAD, POST, OPTIONS";

/// Whether a request is a call of gRPC, or means to be one.
pub fn is_grpc(head: &Head) -> bool {
    let content_type = head.headers.get(Token::CONTENT_TYPE);
    let rest = content_type.and_then(|it| it.strip_prefix(b"application/grpc"));
    // gRPC-Web is another protocol.
    rest.is_some_and(|rest| !rest.starts_with(b"-"))
}

/// What a request is answered with.
enum Said {
    Whole(Reply),
    Events(Events),
    Web(Relayed),
}

/// Answer one request. `guest` says what who calls means; `start` starts a call of gRPC; `_stream` counts the request until
/// it is answered.
///
/// Returns the status, none where the caller went before there was one, and the error of ours behind it.
pub async fn serve(
    intake: Rc<Intake>,
    guest: Guest,
    head: Head,
    body: Body,
    mut answer: Answer,
    _stream: StreamGuard,
    start: impl Fn(Head, Body, Answer),
) -> (Option<StatusCode>, Option<ErrorKind>) {
    let request_id = RequestId::of_call(&head.headers);
    let is_cut = head.is_cut;
    let is_head = head.verb == Method::HEAD;
    let frame = Frame::of(head.path_alone());
    let coding = Coding::wanted(&head.headers);
    let mut headers = cors::headers(&intake.origins, &head);
    request_id.put(&mut headers);
    let is_http2 = answer.is_http2();
    let serving = async {
        let said = said(&intake, guest, head, body, &request_id, start).await;
        let error = said.as_ref().err().and_then(|failed| failed.kind);
        let failed = |failed| Said::Whole(frame.reply(&failed, &request_id));
        let mut said = said.unwrap_or_else(failed);
        if let Said::Whole(reply) = &mut said {
            if is_cut {
                reply.status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            }
            reply.compress(coding).await;
        }
        (said, error)
    };
    let mut serving = pin!(serving);
    let said = poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(said) => Poll::Ready(Some(said)),
        // Nobody waits any more: the call, whose answer nobody reads then, is told.
        Poll::Pending => answer.poll_reset(cx).map(|()| None),
    });
    let sending = |sender| Sending::new(sender, intake.bodies.timeout);
    let Some((said, error)) = said.await else {
        return (None, None);
    };
    let status = match &said {
        Said::Whole(reply) => reply.status,
        Said::Events(_) | Said::Web(_) => StatusCode::OK,
    };
    // An error means that the caller is gone: nobody is left to tell.
    let _ = match said {
        Said::Whole(mut reply) => {
            reply.headers.append(&headers);
            if reply.status == StatusCode::UNAUTHORIZED {
                // As RFC 9110#15.5.2 asks for.
                reply.headers.push(Token::WWW_AUTHENTICATE, "Bearer");
            }
            if !is_http2 && is_unread(reply.status) {
                reply.headers.push(Token::CONNECTION, "close");
            }
            send(&mut answer, reply, is_head, sending).await
        }
        Said::Events(events) => {
            let sent = events.send(&mut answer, headers, &request_id, sending);
            sent.await
        }
        Said::Web(relayed) => relayed.send(&mut answer, headers, sending).await,
    };
    (Some(status), error)
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
    guest: Guest,
    head: Head,
    body: Body,
    request_id: &RequestId,
    start: impl Fn(Head, Body, Answer),
) -> Result<Said, Failed> {
    head::check_size(&head, intake.most_metadata)?;
    if cors::is_preflight(&head) || (head.verb == Method::OPTIONS && head.path_alone() == "*") {
        return Ok(Said::Whole(Reply::options(VERBS)));
    }
    if let Some(form) = Form::of(&head.headers)
        && head.verb == Method::POST
    {
        if let Some(refused) = guest.refused {
            Bodies::discard(body).await;
            return Ok(Said::Web(Relayed::failed(form, &refused.into())));
        }
        let relayed = grpc_web::answer(
            form,
            (&intake.bodies, guest.signed),
            head,
            body,
            request_id,
            start,
        );
        return Ok(Said::Web(relayed.await));
    }
    if let Some(refused) = guest.refused {
        Bodies::discard(body).await;
        return Err(refused.into());
    }
    let known = intake.known(guest.scope);
    if events::are_wanted(&head.headers)
        && let Ok(Target::Oip {
            call: oip::Call::Infer,
            model,
            version,
        }) = target::find(&head.verb, head.path_alone())
    {
        let header_length = metadata::header_length(&head.headers)?;
        let caller = Caller {
            metadata: metadata::of_call(&head.headers, request_id),
            max_message_bytes: intake.bodies.max_message_bytes,
            known,
            start,
        };
        let (whole, _held) = intake
            .bodies
            .read(&head.headers, body, guest.signed)
            .await?;
        let (message, _) = oip::Call::Infer.request(model, version, &whole, header_length)?;
        drop(whole);
        return Ok(Said::Events(events::begin(&caller, message).await?));
    }
    let reply =
        dispatch::reply((intake, known, guest.signed), head, body, request_id, start).await?;
    Ok(Said::Whole(reply))
}
