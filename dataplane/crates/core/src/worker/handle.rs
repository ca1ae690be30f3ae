//! One call of the model server from its request headers to its trailers.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request};
use tokio::time::Instant;

use super::codec::{self, Meta, Payload};
use super::inference::{self, Inference};
use super::message::{self, ReadError};
use super::queue::Call;
use super::reply::{Envelope, Failure, Waiting};
use super::responder::Responder;
use super::state::Shared;
use super::stream;
use crate::admin::grpc::{self, LocalCall, LocalServices, MAX_REQUEST_BYTES};
use crate::error::{Error, ErrorKind};
use crate::grpc::status::Code;
use crate::grpc::{deadline, metadata};

/// The methods that reach the model.
pub const METHODS: [&str; 4] = [
    "/seldon.protos.Model/Predict",
    "/seldon.protos.Seldon/Predict",
    "/inference.GRPCInferenceService/ModelInfer",
    "/inference.GRPCInferenceService/ModelStreamInfer",
];

/// Indices of [`METHODS`].
const INFER: usize = 2;
pub(super) const STREAM: usize = 3;

/// What all calls of the front share, on its thread.
pub(super) struct Front {
    pub shared: Arc<Shared>,
    local: LocalServices,
}

/// Counts a call as in flight until it is dropped.
pub(super) struct InFlight<'a> {
    count: &'a AtomicUsize,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Answered,
    /// The caller reset it before there was an answer.
    Cancelled,
}

/// Serve one call: of [`METHODS`], of health, reflection or OIP's local methods; UNIMPLEMENTED to any other.
pub(super) async fn handle(
    front: Rc<Front>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> Ended {
    let (head, body) = request.into_parts();
    let id = metadata::request_id(&head.headers).cloned();
    let id = id.unwrap_or_else(metadata::make_request_id);
    let path = head.uri.path();
    if path.starts_with("/grpc.") || inference::local(path).is_some() {
        return front.serve_local(&head, body, respond, id).await;
    }
    let started = Instant::now();
    let mut responder = Responder::new(respond, id);
    let method = METHODS.iter().position(|&method| method == path);
    if method == Some(STREAM) {
        return stream::serve(&front, &head, body, responder).await;
    }
    let _in_flight = front.enter();
    let outcome = front
        .serve(&head, method, body, started, &mut responder)
        .await;
    let (code, ended) = match outcome {
        Ok((message, deadline)) => (responder.answer(message, deadline).await, Ended::Answered),
        Err(ReadError::Failed(failure)) => {
            front.shared.count(&failure);
            responder.fail(&failure);
            (failure.code, Ended::Answered)
        }
        Err(ReadError::Cancelled) => {
            responder.abandon();
            (Code::Cancelled, Ended::Cancelled)
        }
    };
    front
        .shared
        .calls
        .record(method.unwrap_or(METHODS.len()), code, started.elapsed());
    ended
}

// === impl Front ===

impl Front {
    pub fn new(shared: Arc<Shared>) -> Self {
        let local = LocalServices {
            health: shared.clone(),
            reflection: shared.reflection.clone(),
        };
        Self { shared, local }
    }

    /// Health, reflection and OIP's local methods: not counted among the model's calls.
    async fn serve_local(
        &self,
        head: &Parts,
        body: RecvStream,
        respond: SendResponse<Bytes>,
        id: HeaderValue,
    ) -> Ended {
        let idle = Duration::from_millis(self.shared.config.limits.body_timeout_ms);
        let trailers = HeaderMap::from_iter([(metadata::X_REQUEST_ID, id)]);
        let call = LocalCall::new(
            &head.headers,
            body,
            respond,
            trailers,
            MAX_REQUEST_BYTES,
            idle,
        );
        match inference::local(head.uri.path()) {
            Some(answer) => call.unary(|request| answer(&self.shared, request)).await,
            None => grpc::serve_local(head.uri.path(), call, &self.local).await,
        };
        Ended::Answered
    }

    async fn serve(
        &self,
        head: &Parts,
        method: Option<usize>,
        mut body: RecvStream,
        started: Instant,
        responder: &mut Responder,
    ) -> Result<(Bytes, Instant), ReadError> {
        let method = method.ok_or_else(|| unknown_method(head))?;
        let asked = self.check_call(head)?;
        self.check_load()?;
        let limit = Duration::from_millis(self.shared.config.timeout_ms);
        let deadline = started + asked.map_or(limit, |asked| asked.min(limit));
        let mut held = self.shared.budget.hold();
        let limits = &self.shared.config.limits;
        let body = message::read(&head.headers, &mut body, limits, &mut held, deadline).await?;
        let (payload, meta, envelope) = self.decode(method, &body)?;
        drop(body);
        let id = responder.request_id().clone();
        let waiting = self.submit(method, payload, meta, envelope, deadline, id)?;
        Ok((wait(waiting, deadline, responder).await?, deadline))
    }

    fn decode(&self, method: usize, body: &Bytes) -> Result<(Payload, Meta, Envelope), Failure> {
        if method == INFER {
            let Inference { envelope, request } = inference::decode(&self.shared, body, false);
            let (payload, meta) = request?;
            return Ok((payload, meta, Envelope::Infer(envelope)));
        }
        let mut request = decode_seldon(body, self.shared.config.limits.max_message_bytes)?;
        let envelope = Envelope::Seldon(std::mem::take(&mut request.meta.answer));
        Ok((request.payload, request.meta, envelope))
    }

    /// Put a request into the model's queue.
    pub fn submit(
        &self,
        method: usize,
        payload: Payload,
        meta: Meta,
        envelope: Envelope,
        deadline: Instant,
        request_id: HeaderValue,
    ) -> Result<Waiting, Failure> {
        let max_bytes = self.shared.config.limits.max_message_bytes;
        let queue = &self.shared.queue;
        let (slot, waiting) = queue.slot(deadline.into_std(), envelope, max_bytes);
        let call = Call {
            payload,
            meta,
            method: METHODS[method],
            request_id,
            slot,
        };
        queue.push(call).inspect_err(|error| {
            let shed = u64::from(error.kind == ErrorKind::Shed);
            self.shared
                .process
                .shed_in_flight
                .fetch_add(shed, Ordering::Relaxed);
        })?;
        Ok(waiting)
    }

    /// Count a call, or a message of a stream, that ended now.
    pub fn record(&self, method: usize, ended: Result<(), &Failure>, started: Instant) {
        if let Err(failure) = ended {
            self.shared.count(failure);
        }
        let code = ended.err().map_or(Code::Ok, |failure| failure.code);
        self.shared.calls.record(method, code, started.elapsed());
    }

    pub fn enter(&self) -> InFlight<'_> {
        let count = &self.shared.in_flight;
        count.fetch_add(1, Ordering::Relaxed);
        InFlight { count }
    }

    /// Check what a call says of itself, and that there is a model; return the timeout that it asks for.
    pub fn check_call(&self, head: &Parts) -> Result<Option<Duration>, Failure> {
        check_http(head, self.shared.config.limits.max_metadata_fields)?;
        let asked = head.headers.get(deadline::GRPC_TIMEOUT);
        let asked = asked.map(deadline::parse_timeout).transpose()?;
        if !self.shared.is_ready() {
            let text = "the model is not ready";
            return Err(Failure::new(Code::Unavailable, text, "model_not_ready"));
        }
        Ok(asked)
    }

    /// Shed where the process has more to do than it may.
    pub fn check_load(&self) -> Result<(), Failure> {
        let limit = self.shared.config.limits.max_in_flight;
        if self.shared.in_flight.load(Ordering::Relaxed) > limit {
            self.shared
                .process
                .shed_in_flight
                .fetch_add(1, Ordering::Relaxed);
            let text = format!("{limit} calls are in flight (max_in_flight); try again later");
            return Err(Error::new(ErrorKind::Shed, text).into());
        }
        Ok(())
    }
}

fn unknown_method(head: &Parts) -> Error {
    let path: String = head.uri.path().chars().take(256).collect();
    let text = format!(
        "unknown method {path}: this model server answers {}",
        METHODS.join(", ")
    );
    Error::new(ErrorKind::UnknownMethod, text)
}

fn check_http(head: &Parts, max_fields: usize) -> Result<(), Error> {
    let fields = head.headers.len();
    if fields > max_fields {
        let text = format!("{fields} metadata fields, limit {max_fields} (max_metadata_fields)");
        return Err(Error::new(ErrorKind::BadRequest, text));
    }
    let content_type = head
        .headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    if head.method != Method::POST || !content_type.starts_with(b"application/grpc") {
        let text = "a gRPC call is a POST with content-type application/grpc";
        return Err(Error::new(ErrorKind::BadRequest, text));
    }
    Ok(())
}

/// Decode, with a panic confined to this call.
fn decode_seldon(body: &Bytes, max_filled_bytes: usize) -> Result<codec::Request, Error> {
    catch_unwind(AssertUnwindSafe(|| codec::decode(body, max_filled_bytes)))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "")))
}

/// Wait for the model's answer, the deadline or the caller's reset, whichever comes first.
async fn wait(
    mut waiting: Waiting,
    deadline: Instant,
    responder: &mut Responder,
) -> Result<Bytes, ReadError> {
    let mut reply = pin!(waiting.reply());
    let mut timer = pin!(tokio::time::sleep_until(deadline));
    poll_fn(|cx| {
        if let Poll::Ready(reply) = reply.as_mut().poll(cx) {
            return Poll::Ready(reply.map_err(ReadError::Failed));
        }
        if responder.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(ReadError::Cancelled));
        }
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Err(ReadError::Failed(Failure::expired())))
    })
    .await
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "oip_tests.rs"]
mod oip_tests;
