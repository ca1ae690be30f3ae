//! What all calls of the model server share: its checks, its queue, its counters.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::codec::{self, Meta, Payload};
use super::group;
use super::hand;
use super::infer::{self, Inference};
use super::local;
use super::method::Method;
use super::queue::Call;
use super::reply::{Envelope, Times, Waiting};
use super::state::Shared;
use crate::call::head;
use crate::call::limit::{Permit, shed};
use crate::call::messages::Messages;
use crate::call::responder::Responder;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::load_report::LoadReport;
use crate::grpc::metadata::{self, Priority, RequestId};
use crate::grpc::status::Status;
use crate::headers::Headers;
use crate::local::call::LocalCall;
use crate::local::services::LocalServices;
use crate::net::stream::{Body, Head};

pub struct Front {
    pub shared: Arc<Shared>,
    local: LocalServices,
}

/// A request as the model gets it.
pub struct Request {
    pub payload: Payload,
    pub meta: Meta,
    pub envelope: Envelope,
    /// As in [`Call`].
    pub fingerprint: u64,
}

// === impl Front ===

impl Front {
    pub fn new(shared: Arc<Shared>) -> Self {
        let local = LocalServices {
            health: shared.clone(),
            inventory: shared.clone(),
            reflection: shared.reflection.clone(),
        };
        Self { shared, local }
    }

    /// Answer health, reflection and what else needs no model; not counted among the model's calls.
    pub async fn serve_local(&self, head: &Head, body: Body, responder: Responder) {
        let idle = Duration::from_millis(self.shared.config.limits.body_timeout_ms);
        let call = LocalCall::new(&head.headers, body, responder, idle);
        match local::answer(&head.path) {
            Some(answer) => call.unary(|request| answer(&self.shared, request)).await,
            None => self.local.serve(&head.path, call).await,
        };
    }

    /// Check what a call says of itself, and that there is a model; return the timeout that it asks for.
    ///
    /// # Errors
    /// `bad_request`, `model_not_ready`.
    pub fn check_call(&self, head: &Head) -> Result<Option<Duration>, Error> {
        let limits = &self.shared.config.limits;
        head::check(head, limits)?;
        let asked = head::timeout(&head.headers)?;
        if !self.shared.is_ready() {
            return Err(Error::new(
                ErrorKind::ModelNotReady,
                "the model is not ready",
            ));
        }
        if let Some(version) = head.headers.get(metadata::X_MODEL_VERSION) {
            let version = String::from_utf8_lossy(version);
            self.shared.check_model("", &version)?;
        }
        Ok(asked)
    }

    /// Count a call as in flight until what this returns is dropped.
    ///
    /// # Errors
    /// `shed`, where the process has more to do than it may.
    pub fn enter(&self) -> Result<Permit, Error> {
        let limit = self.shared.config.limits.max_in_flight;
        self.shared.in_flight.acquire(limit).ok_or_else(|| {
            let shed_calls = &self.shared.server.stats.shed_in_flight;
            shed_calls.fetch_add(1, Ordering::Relaxed);
            shed("the model server", limit)
        })
    }

    /// Reads the messages of a request.
    pub fn messages(&self, headers: &Headers, body: Body) -> Messages {
        let limit = self.shared.config.limits.max_message_bytes;
        Messages::new(headers, body, limit, self.shared.held.clone())
    }

    /// Decode the message of a unary call.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(&self, method: Method, message: &Bytes) -> Result<Request, Status> {
        if method == Method::Infer {
            let Inference { envelope, request } = infer::decode(&self.shared, message, false);
            let (payload, meta) = request?;
            return Ok(Request {
                payload,
                meta,
                envelope: Envelope::Infer(envelope),
                fingerprint: self.fingerprint(method, message),
            });
        }
        let mut request = decode_seldon(message, self.shared.config.limits.max_message_bytes)?;
        let envelope = Envelope::Seldon(std::mem::take(&mut request.meta.answer));
        Ok(Request {
            payload: request.payload,
            meta: request.meta,
            envelope,
            fingerprint: self.fingerprint(method, message),
        })
    }

    /// What tells a message from others, where processes tell each other of the calls that they have.
    pub fn fingerprint(&self, method: Method, message: &[u8]) -> u64 {
        let is_asked = self.shared.config.hands.is_some();
        if is_asked {
            hand::fingerprint(method, message)
        } else {
            0
        }
    }

    /// Put a request into the model's queue.
    ///
    /// # Errors
    /// `shed`, `draining`.
    pub fn submit(
        &self,
        method: Method,
        request: Request,
        deadline: Instant,
        request_id: RequestId,
        priority: Priority,
    ) -> Result<Waiting, Error> {
        let max_bytes = self.shared.config.limits.max_message_bytes;
        let batching = &self.shared.config.batching;
        let group = group::group(
            &request.payload,
            &request.meta,
            batching.alike,
            batching.pad_axis,
        );
        let queue = &self.shared.queue;
        let (slot, waiting) = queue.slot(deadline.into_std(), request.envelope, max_bytes);
        let call = Call {
            payload: request.payload,
            meta: request.meta,
            method: method.path(),
            request_id,
            priority,
            group,
            fingerprint: request.fingerprint,
            slot,
            queued: std::time::Instant::now(),
        };
        queue.push(call).inspect_err(|error| {
            let shed = u64::from(error.kind == ErrorKind::Shed);
            let stats = &self.shared.server.stats;
            stats.shed_in_flight.fetch_add(shed, Ordering::Relaxed);
        })?;
        Ok(waiting)
    }

    /// Count a call, or a message of a stream, that ended now.
    pub fn record(&self, method: Option<Method>, ended: Result<(), &Status>, started: Instant) {
        if let Some(kind) = ended.err().and_then(|status| status.kind) {
            self.shared.server.stats.errors.add(kind);
        }
        let code = ended.err().map_or(Code::Ok, |status| status.code);
        self.count(method, code, started);
    }

    /// Count a call by its code alone.
    pub fn count(&self, method: Option<Method>, code: Code, started: Instant) {
        let id = method.map_or(Method::ALL.len(), |method| method as usize);
        let now = Instant::now();
        self.shared
            .calls
            .record(id, code, now.saturating_duration_since(started));
        self.shared
            .meter
            .count(is_servers_fault(code), now.into_std());
    }

    /// Let the trailers of a call say how loaded this model server is, and where the call's time went.
    pub fn tell_load(&self, responder: &mut Responder, times: Times) {
        if !self.shared.config.load_reports {
            return;
        }
        let load = self.shared.meter.load(std::time::Instant::now());
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let report = LoadReport {
            utilization: load.busy,
            rps: load.rps,
            eps: load.eps,
            queue: self.shared.queue.len() as f64,
            queue_ms: milliseconds(times.queue),
            compute_ms: milliseconds(times.compute),
            preprocess_ms: milliseconds(times.stages.preprocess),
            model_ms: milliseconds(times.stages.model),
            postprocess_ms: milliseconds(times.stages.postprocess),
        };
        responder.tell_load(report.text());
    }
}

/// What a balancer should count as an error of this server, as access.yaml's `failure_codes` do.
fn is_servers_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss
    )
}

/// Decode, with a panic confined to this call.
fn decode_seldon(body: &Bytes, max_filled_bytes: usize) -> Result<codec::Request, Error> {
    catch_unwind(AssertUnwindSafe(|| codec::decode(body, max_filled_bytes)))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "")))
}
