//! One call of the model server from its request headers to its trailers.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::front::Front;
use super::local;
use super::method::{Method, unknown_method};
use super::reply::{Times, Waiting, expired};
use super::stream;
use super::trace::Trace;
use crate::call::limit::Permit;
use crate::call::responder::Responder;
use crate::code::Code;
use crate::grpc::metadata::{self, RequestId};
use crate::grpc::status::Status;
use crate::net::guard::StreamGuard;
use crate::net::stream::{Answer, Body, Head};

/// Serve one call: of [`Method`], or of what needs no model; UNIMPLEMENTED to any other.
pub async fn handle(
    front: Rc<Front>,
    mut head: Head,
    body: Body,
    answer: Answer,
    guard: StreamGuard,
) {
    // A request over HTTP decides for its calls.
    let is_own = answer.is_http2();
    let mut responder = Responder::new(answer, RequestId::of_call(&head.headers));
    if local::is_local(&head.path) {
        return front.serve_local(&head, body, responder).await;
    }
    let started = Instant::now();
    let method = Method::find(&head.path);
    let mut trace = Trace::begin(&front.shared, &mut head.headers, is_own);
    if method == Some(Method::StreamInfer) {
        return stream::serve(&front, &head, body, responder, &guard, trace).await;
    }
    let outcome = match method {
        Some(method) => {
            let call = (&head, method, body, started);
            serve(&front, call, &mut responder, trace.as_deref_mut()).await
        }
        None => Err(unknown_method(&head.path).into()),
    };
    if let (Some(trace), Some(method)) = (trace, method) {
        let code = outcome
            .as_ref()
            .err()
            .map_or(Code::Ok, |status| status.code);
        trace.export(method, code);
    }
    match outcome {
        Ok((message, times, deadline, _permit)) => {
            front.tell_load(&mut responder, times);
            let code = responder.answer(message, deadline).await;
            front.count(method, code, started);
        }
        Err(status) if status.is_gone() => {
            responder.abandon();
            guard.reset_before_headers();
            front.count(method, status.code, started);
        }
        Err(status) => {
            front.tell_load(&mut responder, Times::default());
            responder.fail(&status);
            front.record(method, Err(&status), started);
        }
    }
}

/// The framed answer of a call, where its time went, until when its caller may take it, and what counts it as in
/// flight.
async fn serve(
    front: &Front,
    (head, method, body, started): (&Head, Method, Body, Instant),
    responder: &mut Responder,
    trace: Option<&mut Trace>,
) -> Result<(Bytes, Times, Instant, Permit), Status> {
    let asked = front.check_call(head)?;
    let permit = front.enter()?;
    let config = &front.shared.config;
    let limit = Duration::from_millis(config.timeout_ms);
    let deadline = started + asked.map_or(limit, |asked| asked.min(limit));
    let stall = Duration::from_millis(config.limits.body_timeout_ms);
    let mut messages = front.messages(&head.headers, body);
    // Counted as held until the model has answered: what it works on is as large.
    let message = messages.only(Some(deadline), stall).await?;
    let request = front.decode(method, &message.bytes)?;
    let _held = message.held;
    drop(message.bytes);
    let id = *responder.request_id();
    let queued = trace.as_ref().map(|_| std::time::Instant::now());
    let waiting = front.submit(
        method,
        request,
        deadline,
        id,
        metadata::priority(&head.headers),
    )?;
    let (answer, times) = wait(waiting, deadline, responder).await;
    if let (Some(trace), Some(queued)) = (trace, queued) {
        trace.answered(queued, times);
    }
    let answer = answer?;
    Ok((answer, times, deadline, permit))
}

/// Wait for the model's answer, the deadline or the caller's reset, whichever comes first.
async fn wait(
    mut waiting: Waiting,
    deadline: Instant,
    responder: &mut Responder,
) -> (Result<Bytes, Status>, Times) {
    let answer = {
        let mut reply = pin!(waiting.reply());
        let mut timer = pin!(sleep_until(deadline));
        poll_fn(|cx| {
            if let Poll::Ready(reply) = reply.as_mut().poll(cx) {
                return Poll::Ready(reply);
            }
            if responder.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Status::gone()));
            }
            timer.as_mut().poll(cx).map(|()| Err(expired()))
        })
        .await
    };
    (answer, waiting.times())
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "oip_tests.rs"]
mod oip_tests;
