//! One attempt at one endpoint: the request goes up, the answer comes down, as far as it comes.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::answer;
use super::call::Call;
use super::clock::Clock;
use super::cluster::{Endpoint, Lease, Share};
use super::exchange::{Answering, Exchange};
use super::failure::Failure;
use super::method::Method;
use super::recorder::Why;
use super::relay::Relay;
use super::retry;
use super::settings::Settings;
use super::trace::Trace;
use crate::balance::Outcome;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::Frames;
use crate::grpc::load_report::{LoadReport, Unreadable};
use crate::grpc::status;
use crate::grpc::{deadline, metadata};
use crate::headers::{Headers, Token};
use crate::net::stream::{Body, Sender};

/// How the content-type of every answer of gRPC begins.
const GRPC: &[u8] = b"application/grpc";

/// One attempt, while it lasts.
pub struct Attempt {
    pub endpoint: Arc<Endpoint>,
    /// None once it is over.
    pub lease: Option<Lease>,
    pub started: Instant,
    pub why: Why,
    /// Of the call's attempts, from 1 on.
    pub number: u32,
    /// When its stream was there, of a call that is traced.
    pub opened: Option<Instant>,
    pub exchange: Option<Exchange>,
    /// What the endpoint said of its load.
    pub load: Option<LoadReport>,
}

/// How an attempt ended that the caller has not been told of yet.
pub enum Ended {
    /// The caller has its trailers; this was their code.
    Answered(Code, Outcome),
    /// The endpoint answered a status and nothing else: it may be worth another attempt.
    Status(Code, Headers, Outcome),
    Failed(Failure),
    /// The answer broke off after its headers had been passed on.
    BrokeOff(Failure, Sender),
}

// === impl Call ===

impl Call {
    /// Send the call to one endpoint, and pass its answer on as far as it comes.
    pub async fn attempt(
        &mut self,
        attempt: &mut Attempt,
        tried: &mut Vec<Arc<Endpoint>>,
        share: &Share,
        clock: &mut Clock<'_>,
    ) -> Ended {
        let settings = &*share.settings;
        let Some(upstream) = self.worker.upstream(&attempt.endpoint.address) else {
            let message = format!("endpoint {} was removed", attempt.endpoint.address.text);
            let error = Error::new(ErrorKind::ConnectFailed, message);
            return Ended::Failed(Failure::Endpoint(error));
        };
        // That a connection is closing may be seen only when a stream is opened on it. Nothing was sent then, and
        // the connection is out: the next one is taken, as often as there may be connections.
        let mut left = upstream.most_connections();
        let (exchange, response) = loop {
            let end = clock.attempt_end();
            let head = || {
                let before = (self.attempts - 1, self.trace.as_deref());
                attempt.head(self.method, &self.headers, before, end)
            };
            let opened = {
                let connect = std::pin::pin!(Exchange::open(&upstream, head));
                let wait = |cx: &mut Context<'_>| self.inbound.wait(cx);
                clock.limit(connect, &mut self.responder, wait).await
            };
            match opened {
                Ok(Ok(opened)) => break opened,
                Ok(Err(error)) if error.kind == ErrorKind::RefusedStream && left > 0 => left -= 1,
                Ok(Err(error)) => return Ended::Failed(Failure::Endpoint(error)),
                Err(failure) => return Ended::Failed(failure),
            }
        };
        attempt.opened = self.now_if_traced();
        let exchange = attempt.exchange.insert(exchange);
        let begun = if let Some(delay) = self.hedge_delay(share) {
            // In a box, so that the many calls that never hedge have no room for it.
            Box::pin(self.race(attempt, response, delay, (share, tried), clock)).await
        } else {
            let response =
                exchange.response(response, &mut self.inbound, &mut self.responder, clock);
            let response = response.await;
            self.begun(attempt, response, settings)
        };
        let (mut headers, body) = match begun {
            Ok(begun) => begun,
            Err(ended) => return ended,
        };
        let outcome = |code, headers: &Headers| outcome_of(code, headers, self.method, settings);
        let Some(exchange) = &mut attempt.exchange else {
            return Ended::Failed(Failure::Endpoint(no_status(&attempt.endpoint)));
        };
        self.inbound.commit(exchange.cursor());
        clock.set_attempt(None);
        metadata::to_downstream(&mut headers);
        let listing = self.listing.as_ref();
        let completion = listing.and_then(|listing| listing.completion());
        if completion.is_some() {
            headers.remove(Token::CONTENT_LENGTH);
        }
        let mut out = match self.responder.begin_with(headers) {
            Ok(out) => out,
            Err(error) => return Ended::Failed(Failure::Caller(error)),
        };
        let shared = &self.worker.shared;
        let framing = Frames::new(shared.config.limits.max_message_bytes);
        let to = (&mut out, &mut self.record.bytes_out);
        let relay = Relay::new((body, framing), completion, to, &shared.unread);
        match exchange.relay(relay, &mut self.inbound, clock).await {
            Ok(Some(mut trailers)) => {
                let Some(code) = status::parse_grpc_status(&trailers) else {
                    return Ended::BrokeOff(Failure::Endpoint(no_status(&attempt.endpoint)), out);
                };
                let outcome = outcome(code, &trailers);
                attempt.load = load_of(&attempt.endpoint, &trailers);
                metadata::to_downstream(&mut trailers);
                self.responder.add_trailers(&mut trailers);
                // The caller may have gone in this very moment; the call is over either way.
                let _ = out.trailers(trailers);
                Ended::Answered(code, outcome)
            }
            Ok(None) => Ended::BrokeOff(Failure::Endpoint(no_status(&attempt.endpoint)), out),
            Err(failure) => Ended::BrokeOff(failure, out),
        }
    }

    /// What an answer's head means: the answer begins, or this was all of it.
    pub fn begun(
        &self,
        attempt: &mut Attempt,
        answer: Result<Answering, Failure>,
        settings: &Settings,
    ) -> Result<(Headers, Body), Ended> {
        let (http_status, mut headers, body) = answer.map_err(Ended::Failed)?;
        let outcome = |code, headers: &Headers| outcome_of(code, headers, self.method, settings);
        let content_type = headers.get(Token::CONTENT_TYPE).unwrap_or(GRPC);
        let is_grpc = http_status == StatusCode::OK && content_type.starts_with(GRPC);
        if !is_grpc && !headers.has(status::GRPC_STATUS) {
            let (text, number) = (&attempt.endpoint.address.text, http_status.as_u16());
            let code = Code::from_http(number);
            let (message, outcome) = if http_status == StatusCode::OK {
                let content_type = String::from_utf8_lossy(content_type);
                let message = format!("endpoint {text} answered {content_type}, not gRPC");
                (message, Outcome::Hard)
            } else {
                let message = format!("endpoint {text} answered HTTP status {number}");
                (message, outcome(code, &headers))
            };
            return Err(Ended::Status(
                code,
                status::headers(code, &message),
                outcome,
            ));
        }
        if body.has_ended() {
            if let Some(exchange) = &attempt.exchange {
                let complete = exchange.complete(body.number(), &mut headers);
                complete.map_err(Ended::Failed)?;
            }
            let Some(code) = status::parse_grpc_status(&headers) else {
                let error = no_status(&attempt.endpoint);
                return Err(Ended::Failed(Failure::Endpoint(error)));
            };
            let outcome = outcome(code, &headers);
            attempt.load = load_of(&attempt.endpoint, &headers);
            metadata::to_downstream(&mut headers);
            return Err(Ended::Status(code, headers, outcome));
        }
        Ok((headers, body))
    }
}

// === impl Attempt ===

impl Attempt {
    /// An attempt that began with the pick of its endpoint.
    pub fn new(lease: Lease, why: Why) -> Self {
        Self {
            endpoint: lease.endpoint.clone(),
            started: lease.started,
            lease: Some(lease),
            why,
            number: 0,
            opened: None,
            exchange: None,
            load: None,
        }
    }

    /// The head of its request: of the caller's `headers`, after so many attempts `before` it, in the trace of the call;
    /// it `end`s then.
    pub fn head(
        &self,
        method: &Method,
        headers: &Headers,
        (before, trace): (u32, Option<&Trace>),
        end: Option<Instant>,
    ) -> Headers {
        let mut head = self.endpoint.address.request(&method.upstream);
        head.append(headers);
        if let Some(end) = end {
            deadline::put_timeout(&mut head, end.saturating_duration_since(self.started));
        }
        if before > 0 {
            let before = metadata::previous_attempts(&head).saturating_add(before);
            head.set(
                metadata::PREVIOUS_ATTEMPTS,
                itoa::Buffer::new().format(before),
            );
        }
        if let Some(trace) = trace {
            trace.context(self.number).put(&mut head);
        }
        head
    }

    /// When it ends at the latest, if it has a limit of its own.
    pub fn end(&self, settings: &Settings) -> Option<Instant> {
        settings.attempt_timeout.map(|limit| self.started + limit)
    }

    /// What its exchange, if it came so far, says of whom it waits for.
    pub fn waits(&self, on: impl Fn(&Exchange) -> bool) -> bool {
        self.exchange.as_ref().is_some_and(on)
    }

    /// Running out of time counts against the endpoint if it held the call for at least its median latency and
    /// 10 ms, and it was not the caller that the call waited for: else short deadlines would be an attack.
    pub fn blame_for_time(&self) -> Outcome {
        if self.waits(|exchange| exchange.waits_for_caller || exchange.is_unread) {
            return Outcome::Neutral;
        }
        let median = self
            .endpoint
            .stats
            .seconds
            .quantile(0.5)
            .map_or(Duration::ZERO, Duration::from_secs_f64);
        retry::time_outcome(self.started.elapsed(), median)
    }
}

/// The load report in an answer's trailers. It stays there for the caller, who may balance over access services by it:
/// what this one would say of itself is how loaded its endpoints are.
fn load_of(endpoint: &Endpoint, trailers: &Headers) -> Option<LoadReport> {
    match LoadReport::find(trailers) {
        Ok(None) => None,
        Ok(Some(report)) => {
            endpoint.stats.load.count(Some(report.utilization));
            Some(report)
        }
        Err(Unreadable) => {
            endpoint.stats.load.count(None);
            None
        }
    }
}

fn outcome_of(code: Code, headers: &Headers, method: &Method, settings: &Settings) -> Outcome {
    // The user's own hook failed, not the endpoint.
    if metadata::hook_failed(headers) {
        return Outcome::Neutral;
    }
    if answer::is_full(code, headers) {
        return Outcome::Full;
    }
    retry::status_outcome(code, settings.failure_codes(method.protocol))
}

fn no_status(endpoint: &Endpoint) -> Error {
    let message = format!(
        "endpoint {} answered without a grpc-status",
        endpoint.address.text
    );
    Error::new(ErrorKind::BadUpstreamResponse, message)
}
