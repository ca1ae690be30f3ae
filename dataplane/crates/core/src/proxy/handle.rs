//! One call from its request headers to its trailers. Every other module of the request path is called from
//! here, in the order in which a call meets them.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::uri::{self, Scheme};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use tokio::time::Instant;

use super::body::Inbound;
use super::clock::{Clock, Expired};
use super::cluster::{Cluster, Lease, Settings};
use super::endpoint::Endpoint;
use super::local;
use super::method::{self, Kind, Method, Streaming};
use super::responder::Responder;
use super::retry;
use super::state::Worker;
use super::upstream::{Exchange, Failure};
use crate::admin::metrics::{CallStats, RetryCause};
use crate::balance::Outcome;
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::Frames;
use crate::grpc::status::{self, Code};
use crate::grpc::{deadline, metadata};
use crate::net::connection::StreamGuard;

/// Attempts of one call that may end without reaching an endpoint.
const MAX_UNREACHED: u32 = 8;

/// One call that goes to an endpoint.
struct Call {
    worker: Rc<Worker>,
    stream: StreamGuard,
    method: &'static Method,
    headers: HeaderMap,
    inbound: Inbound,
    responder: Responder,
    started: Instant,
    /// The caller's own deadline.
    caller_deadline: Option<Duration>,
    attempts: u32,
    record: Record,
}

/// What is counted and logged when the call ends.
struct Record {
    stats: Arc<CallStats>,
    cluster: Option<Arc<Cluster>>,
    endpoint: Option<Arc<Endpoint>>,
    error: Option<ErrorKind>,
}

/// One attempt, while it lasts.
struct Attempt<'a> {
    endpoint: &'a Endpoint,
    started: Instant,
    exchange: Option<Exchange>,
}

/// What follows an attempt.
enum Next {
    /// The caller has been answered; the error is ours, if there was one.
    Done(Option<ErrorKind>),
    /// A status to pass on, or to retry.
    Forward(HeaderMap),
    /// Nothing has been passed on. The flag says that `attempt_timeout_ms` ran out.
    Retry(Error, bool),
}

/// What the caller gets when no other attempt follows.
enum Last {
    Error(Error),
    /// An endpoint's own status, as it came.
    Status(Code, HeaderMap),
}

/// How an attempt ended that the caller has not been told of yet.
enum Ended {
    /// The caller has its trailers; this was their code.
    Answered(Code, Outcome),
    /// The endpoint answered a status and nothing else: it may be worth another attempt.
    Status(Code, HeaderMap, Outcome),
    Failed(Failure),
    /// The answer broke off after its headers had been passed on.
    BrokeOff(Failure, SendStream<Bytes>),
}

/// Serve one request of a downstream connection.
pub async fn handle(
    worker: Rc<Worker>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    stream: StreamGuard,
) {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let request_id = metadata::request_id(&head.headers)
        .cloned()
        .unwrap_or_else(metadata::make_request_id);
    let Some(method) = method::find(head.uri.path()) else {
        let mut responder = Responder::new(respond, request_id);
        let path: String = head.uri.path().chars().take(256).collect();
        let error = Error::new(ErrorKind::UnknownMethod, format!("unknown method {path}"));
        worker.shared.stats.errors.add(error.kind);
        return responder.fail(&error, 0, None);
    };
    if method.kind == Kind::Local {
        let code = local::serve(&worker, method, head.headers, body, respond, request_id).await;
        if code == Code::Cancelled {
            stream.reset_before_headers();
        }
        return;
    }
    let limits = &worker.shared.config.limits;
    let mut call = Call {
        stream,
        method,
        inbound: Inbound::new(body, limits, &worker.shared.held),
        headers: head.headers,
        responder: Responder::new(respond, request_id),
        started,
        caller_deadline: None,
        attempts: 0,
        record: Record {
            stats: worker.shared.unrouted.clone(),
            cluster: None,
            endpoint: None,
            error: None,
        },
        worker,
    };
    let code = match call.serve().await {
        Ok(code) => code,
        Err(error) => call.fail(&error),
    };
    call.finish(code);
}

// === impl Call ===

impl Call {
    async fn serve(&mut self) -> Result<Code, Error> {
        let shared = self.worker.shared.clone();
        let limits = &shared.config.limits;
        self.check_request()?;
        self.caller_deadline = self
            .headers
            .get(deadline::GRPC_TIMEOUT)
            .map(deadline::parse_timeout)
            .transpose()?;
        let Some(_permit) = shared.in_flight.acquire(limits.max_in_flight) else {
            shared.stats.shed_in_flight.fetch_add(1, Ordering::Relaxed);
            return Err(shed("the access service", limits.max_in_flight));
        };
        let mut timer = std::pin::pin!(tokio::time::sleep_until(
            self.started + Duration::from_secs(86_400)
        ));
        let caller_deadline = self.caller_deadline.map(|limit| self.started + limit);
        let stall = Duration::from_millis(limits.body_timeout_ms);
        let mut clock = Clock::new(timer.as_mut(), self.started, caller_deadline, stall);

        let has_versions = |model: &str| shared.state.load().routes.has_versions(model);
        let key = self
            .inbound
            .route_key(
                self.method,
                &self.headers,
                has_versions,
                &mut self.responder,
                &mut clock,
            )
            .await
            .inspect_err(|error| {
                if error.kind == ErrorKind::Shed {
                    shared.stats.shed_held_bytes.fetch_add(1, Ordering::Relaxed);
                }
            })?;
        let cluster = {
            let state = shared.state.load();
            let route = state.routes.find(&key, self.method.task_id)?;
            if let Some(model) = route.model {
                self.record.stats = model.stats.clone();
            }
            route.cluster
        };
        self.record.cluster = Some(cluster.clone());
        let settings = cluster.settings();
        let is_stream = self.method.streaming == Streaming::Bidi;
        if is_stream {
            clock.set_deadline(caller_deadline, Some(settings.stream_idle_timeout));
        } else {
            let own = self.started + settings.timeout;
            clock.set_deadline(Some(caller_deadline.map_or(own, |at| at.min(own))), None);
        }
        let Some(_permit) = cluster.in_flight.acquire(settings.max_in_flight) else {
            cluster.stats.shed.fetch_add(1, Ordering::Relaxed);
            return Err(shed(
                &format!("cluster {}", cluster.name),
                settings.max_in_flight,
            ));
        };
        cluster.budget.request();
        metadata::to_upstream(&mut self.headers);
        self.headers
            .insert(metadata::X_REQUEST_ID, self.responder.request_id().clone());
        self.attempts(&cluster, &settings, &mut clock).await
    }

    /// What is wrong with the request's head, if anything.
    fn check_request(&self) -> Result<(), Error> {
        let shared = &self.worker.shared;
        let limit = shared.config.limits.max_metadata_fields;
        if self.headers.len() > limit {
            let message = format!("{} metadata fields, limit {limit}", self.headers.len());
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
        if self.method.kind == Kind::Admin {
            if !shared.config.admin_methods {
                let message = format!(
                    "{} is not allowed: set admin_methods to allow it",
                    self.method.path
                );
                return Err(Error::new(ErrorKind::Denied, message));
            }
            if !self.headers.contains_key(metadata::X_MODEL) {
                let message = format!(
                    "{} needs the metadata x-model, to choose an endpoint",
                    self.method.path
                );
                return Err(Error::new(ErrorKind::BadRouteKey, message));
            }
        }
        Ok(())
    }

    /// Try endpoints until one answers, a limit is reached, or another attempt is not allowed.
    async fn attempts(
        &mut self,
        cluster: &Arc<Cluster>,
        settings: &Settings,
        clock: &mut Clock<'_>,
    ) -> Result<Code, Error> {
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        let mut lease = self.pick(cluster, clock).await?;
        loop {
            let endpoint = lease.endpoint.clone();
            let started = Instant::now();
            clock.set_attempt(settings.attempt_timeout.map(|limit| started + limit));
            self.attempts += 1;
            self.record.endpoint = Some(endpoint.clone());
            let mut attempt = Attempt {
                endpoint: &endpoint,
                started,
                exchange: None,
            };
            let ended = self.attempt(&mut attempt, settings, clock).await;
            let (code, outcome, next) = self.conclude(ended, &attempt, clock);
            let exchange = attempt.exchange.take();
            endpoint.stats.record(code, started.elapsed());
            lease.finish(outcome);
            tried.push(endpoint);
            let (last, is_attempt_timeout) = match next {
                Next::Done(error) => {
                    self.record.error = error;
                    return Ok(code);
                }
                Next::Forward(headers) => (Last::Status(code, headers), false),
                Next::Retry(error, is_attempt_timeout) => (Last::Error(error), is_attempt_timeout),
            };
            let exchange = exchange.as_ref();
            match self.pick_another(
                cluster,
                settings,
                clock,
                &tried,
                &last,
                is_attempt_timeout,
                exchange,
            ) {
                Some(other) => lease = other,
                None => return self.give_up(last),
            }
        }
    }

    /// The endpoint of the first attempt. Where none is live yet, wait for the first connection.
    async fn pick(&self, cluster: &Arc<Cluster>, clock: &Clock<'_>) -> Result<Lease, Error> {
        if let Some(lease) = cluster.pick(&[]) {
            return Ok(lease);
        }
        let limit = Duration::from_millis(self.worker.shared.config.limits.connect_timeout_ms);
        let left = clock.deadline().map_or(limit, |at| {
            limit.min(at.saturating_duration_since(Instant::now()))
        });
        if cluster.wait_live(left).await
            && let Some(lease) = cluster.pick(&[])
        {
            return Ok(lease);
        }
        let message = format!("cluster {} has no live endpoint", cluster.name);
        Err(Error::new(ErrorKind::NoEndpoints, message))
    }

    /// The endpoint of another attempt, where one is allowed, possible and affordable.
    ///
    /// Where every live endpoint has been tried, a call that the last one never saw goes there once more, on a
    /// new connection.
    #[allow(clippy::too_many_arguments)] // what one decision is made of
    fn pick_another(
        &self,
        cluster: &Arc<Cluster>,
        settings: &Settings,
        clock: &Clock<'_>,
        tried: &[Arc<Endpoint>],
        last: &Last,
        is_attempt_timeout: bool,
        exchange: Option<&Exchange>,
    ) -> Option<Lease> {
        // Asked first, so that no budget is spent on an attempt that cannot be made.
        let is_other = cluster.has_untried(tried);
        let endpoint = tried.last()?;
        let was_repeated = tried.len() > 1 && Arc::ptr_eq(endpoint, &tried[tried.len() - 2]);
        let is_same = !is_other
            && !was_repeated
            && matches!(last, Last::Error(error) if error.kind == ErrorKind::RefusedStream);
        if !is_other && !is_same {
            return None;
        }
        let cause = match last {
            Last::Status(code, _) => (settings.retry_codes.contains(*code)
                && self.may_repeat(cluster, settings, clock))
            .then_some(RetryCause::UpstreamStatus),
            Last::Error(error) => self
                .may_retry(error, is_attempt_timeout, cluster, settings, clock)
                .then_some(RetryCause::Error(error.kind)),
        }?;
        let lease = if is_same {
            if let Some(exchange) = exchange {
                exchange.discard_connection();
            }
            cluster.lease(endpoint.clone())
        } else {
            cluster.pick(tried)?
        };
        cluster.stats.retries.add(cause);
        Some(lease)
    }

    /// Answer with how the last attempt ended.
    fn give_up(&mut self, last: Last) -> Result<Code, Error> {
        match last {
            Last::Error(error) => Err(error),
            Last::Status(code, headers) => {
                let endpoint = self.record.endpoint.clone();
                let exposed = endpoint
                    .as_deref()
                    .and_then(|endpoint| self.exposed(endpoint));
                self.responder
                    .trailers_only(headers, self.attempts, exposed);
                Ok(code)
            }
        }
    }

    /// Send the call to one endpoint, and pass its answer on as far as it comes.
    async fn attempt(
        &mut self,
        attempt: &mut Attempt<'_>,
        settings: &Settings,
        clock: &mut Clock<'_>,
    ) -> Ended {
        let upstream = self.worker.pool.upstream(&attempt.endpoint.address);
        // That a connection is closing may be seen only when a stream is opened on it. Nothing was sent then, and the
        // connection is out: the next one is taken, as often as there may be connections.
        let mut left = upstream.most_connections();
        let (exchange, response) = loop {
            let request = self.upstream_request(attempt.endpoint, clock);
            let opened = {
                let connect = std::pin::pin!(Exchange::open(&upstream, request));
                clock.limit(connect, &mut self.responder).await
            };
            match opened {
                Ok(Ok(opened)) => break opened,
                Ok(Err(error)) if error.kind == ErrorKind::RefusedStream && left > 0 => left -= 1,
                Ok(Err(error)) => return Ended::Failed(Failure::Endpoint(error)),
                Err(failure) => return Ended::Failed(failure),
            }
        };
        let exchange = attempt.exchange.insert(exchange);
        let response = match exchange
            .response(response, &mut self.inbound, &mut self.responder, clock)
            .await
        {
            Ok(response) => response,
            Err(failure) => return Ended::Failed(failure),
        };
        let (mut head, body) = response.into_parts();
        let outcome = |code, headers: &HeaderMap| outcome_of(code, headers, self.method, settings);
        if head.status != StatusCode::OK && !head.headers.contains_key(status::GRPC_STATUS) {
            let code = Code::from_http(head.status.as_u16());
            let message = format!(
                "endpoint {} answered HTTP status {}",
                attempt.endpoint.address.text,
                head.status.as_u16()
            );
            let outcome = outcome(code, &head.headers);
            return Ended::Status(code, status::headers(code, &message), outcome);
        }
        if body.is_end_stream() {
            let Some(code) = status::parse_grpc_status(&head.headers) else {
                return Ended::Failed(Failure::Endpoint(no_status(attempt.endpoint)));
            };
            let outcome = outcome(code, &head.headers);
            metadata::to_downstream(&mut head.headers);
            return Ended::Status(code, head.headers, outcome);
        }
        self.inbound.commit(exchange.cursor());
        clock.set_attempt(None);
        metadata::to_downstream(&mut head.headers);
        let mut out = match self.responder.headers(head.headers) {
            Ok(out) => out,
            Err(failure) => return Ended::Failed(failure),
        };
        let framing = Frames::new(self.worker.shared.config.limits.max_message_bytes);
        match exchange
            .relay(body, framing, &mut self.inbound, &mut out, clock)
            .await
        {
            Ok(Some(mut trailers)) => {
                let Some(code) = status::parse_grpc_status(&trailers) else {
                    return Ended::BrokeOff(Failure::Endpoint(no_status(attempt.endpoint)), out);
                };
                let outcome = outcome(code, &trailers);
                metadata::to_downstream(&mut trailers);
                self.responder.add_trailers(
                    &mut trailers,
                    self.attempts,
                    self.exposed(attempt.endpoint),
                );
                // The caller may have gone in this very moment; the call is over either way.
                let _ = out.send_trailers(trailers);
                Ended::Answered(code, outcome)
            }
            Ok(None) => Ended::BrokeOff(Failure::Endpoint(no_status(attempt.endpoint)), out),
            Err(failure) => Ended::BrokeOff(failure, out),
        }
    }

    fn upstream_request(&self, endpoint: &Endpoint, clock: &Clock<'_>) -> Request<()> {
        let mut headers = self.headers.clone();
        if let Some(end) = clock.attempt_end() {
            let left = end.saturating_duration_since(Instant::now());
            headers.insert(deadline::GRPC_TIMEOUT, deadline::format_timeout(left));
        }
        if self.attempts > 1 {
            headers.insert(
                metadata::PREVIOUS_ATTEMPTS,
                HeaderValue::from(self.attempts - 1),
            );
        }
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = upstream_uri(self.method, endpoint);
        *request.headers_mut() = headers;
        request
    }

    /// What the end of an attempt means: the code that is counted for the endpoint, what the balancer learns, and
    /// what happens next.
    fn conclude(
        &mut self,
        ended: Ended,
        attempt: &Attempt<'_>,
        clock: &Clock<'_>,
    ) -> (Code, Outcome, Next) {
        match ended {
            Ended::Answered(code, outcome) => (code, outcome, Next::Done(None)),
            Ended::Status(code, headers, outcome) => {
                let outcome = if matches!(code, Code::DeadlineExceeded | Code::Cancelled)
                    && clock.is_nearly_over(attempt.started)
                {
                    attempt.blame_for_time()
                } else {
                    outcome
                };
                (code, outcome, Next::Forward(headers))
            }
            Ended::Failed(failure) => {
                let is_attempt_timeout = matches!(failure, Failure::Expired(Expired::Attempt));
                let (error, outcome) = self.judge(failure, attempt, clock);
                (
                    error.kind.code(),
                    outcome,
                    Next::Retry(error, is_attempt_timeout),
                )
            }
            Ended::BrokeOff(failure, mut out) => {
                let is_unread = attempt.waits(|exchange| exchange.is_unread);
                let is_over = matches!(failure, Failure::Expired(_));
                let (error, outcome) = self.judge(failure, attempt, clock);
                self.worker.shared.stats.errors.add(error.kind);
                if is_unread && is_over {
                    // Trailers would wait behind what the caller does not take, and hold it here for ever.
                    out.send_reset(Reason::CANCEL);
                    return (error.kind.code(), outcome, Next::Done(Some(error.kind)));
                }
                let mut trailers = status::headers(error.kind.code(), &error.message);
                trailers.insert(
                    metadata::ACCESS_ERROR,
                    HeaderValue::from_static(error.kind.name()),
                );
                self.responder.add_trailers(
                    &mut trailers,
                    self.attempts,
                    self.exposed(attempt.endpoint),
                );
                let _ = out.send_trailers(trailers);
                (error.kind.code(), outcome, Next::Done(Some(error.kind)))
            }
        }
    }

    /// The error of a failure, and whether the endpoint is to blame (design.md, error table, last column).
    fn judge(
        &self,
        failure: Failure,
        attempt: &Attempt<'_>,
        clock: &Clock<'_>,
    ) -> (Error, Outcome) {
        match failure {
            Failure::Caller(error) => {
                // A caller's reset at its own deadline usually beats our timer (balancing.md 2.2, cancel trap).
                let late = error.kind == ErrorKind::Cancelled
                    && self.caller_deadline.is_some()
                    && clock.is_nearly_over(self.started);
                let outcome = if late {
                    attempt.blame_for_time()
                } else {
                    Outcome::Neutral
                };
                (error, outcome)
            }
            Failure::Endpoint(error) => {
                let outcome = retry::outcome(error.kind);
                let text = &attempt.endpoint.address.text;
                let message = if error.message.contains(&**text) {
                    error.message
                } else {
                    format!("endpoint {text}: {}", error.message).into()
                };
                (Error::new(error.kind, message), outcome)
            }
            Failure::Expired(expired) => {
                let text = &attempt.endpoint.address.text;
                let held = attempt.started.elapsed().as_millis();
                let message = match expired {
                    Expired::Deadline => {
                        format!("deadline exceeded; endpoint {text} had the call for {held} ms")
                    }
                    Expired::Attempt => format!(
                        "endpoint {text} did not answer within attempt_timeout_ms ({held} ms)"
                    ),
                    Expired::Idle => format!(
                        "no message either way for stream_idle_timeout_ms (endpoint {text})"
                    ),
                    Expired::Stalled => {
                        "the caller moved fewer than 16 KiB in body_timeout_ms".to_owned()
                    }
                };
                let outcome = if expired == Expired::Stalled {
                    Outcome::Neutral
                } else {
                    attempt.blame_for_time()
                };
                (Error::new(ErrorKind::DeadlineExceeded, message), outcome)
            }
        }
    }

    fn may_retry(
        &self,
        error: &Error,
        is_attempt_timeout: bool,
        cluster: &Cluster,
        settings: &Settings,
        clock: &Clock<'_>,
    ) -> bool {
        if retry::never_reached(error.kind) {
            // Nobody did any work: it costs no budget, and only the number of endpoints limits it.
            return self.attempts < MAX_UNREACHED
                && self.inbound.is_replayable()
                && clock.has_time_left();
        }
        retry::may_retry(error.kind, is_attempt_timeout, self.is_idempotent(settings))
            && self.may_repeat(cluster, settings, clock)
    }

    /// Whether another attempt of a call that may have been processed is possible and affordable.
    fn may_repeat(&self, cluster: &Cluster, settings: &Settings, clock: &Clock<'_>) -> bool {
        let is_possible = self.is_idempotent(settings)
            && self.attempts < settings.max_attempts
            && self.inbound.is_replayable()
            && clock.has_time_left();
        let is_retried_already = self.headers.contains_key(metadata::PREVIOUS_ATTEMPTS);
        is_possible && cluster.budget.take(is_retried_already)
    }

    /// A caller that gives up at its own deadline floods nobody.
    fn is_callers_deadline_near(&self) -> bool {
        self.caller_deadline
            .is_some_and(|limit| retry::is_nearly_over(self.started.elapsed(), limit))
    }

    fn is_idempotent(&self, settings: &Settings) -> bool {
        settings.idempotent && self.method.idempotent
    }

    fn exposed<'a>(&self, endpoint: &'a Endpoint) -> Option<&'a HeaderValue> {
        self.worker
            .shared
            .config
            .expose_endpoints
            .then_some(&endpoint.address.header)
    }

    /// Tell the caller, unless it is gone.
    fn fail(&mut self, error: &Error) -> Code {
        self.record.error = Some(error.kind);
        self.worker.shared.stats.errors.add(error.kind);
        if error.kind == ErrorKind::Cancelled && !self.is_callers_deadline_near() {
            self.stream.reset_before_headers();
        }
        let endpoint = self.record.endpoint.clone();
        let exposed = endpoint
            .as_deref()
            .and_then(|endpoint| self.exposed(endpoint));
        self.responder.fail(error, self.attempts, exposed);
        error.kind.code()
    }

    fn finish(self, code: Code) {
        self.record
            .stats
            .record(self.method.id, code, self.started.elapsed());
    }
}

// === impl Attempt ===

impl Attempt<'_> {
    /// What its exchange, if it came so far, says of whom it waits for.
    fn waits(&self, on: impl Fn(&Exchange) -> bool) -> bool {
        self.exchange.as_ref().is_some_and(on)
    }

    /// Running out of time counts against the endpoint if it held the call for at least its median latency and
    /// 10 ms, and it was not the caller that the call waited for: else short deadlines would be an attack.
    fn blame_for_time(&self) -> Outcome {
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

fn outcome_of(code: Code, headers: &HeaderMap, method: &Method, settings: &Settings) -> Outcome {
    // The user's own hook failed, not the endpoint.
    if metadata::hook_failed(headers) {
        return Outcome::Neutral;
    }
    retry::status_outcome(code, settings.failure_codes(method.protocol))
}

fn upstream_uri(method: &Method, endpoint: &Endpoint) -> Uri {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(endpoint.address.authority.clone());
    parts.path_and_query = Some(method.upstream.clone());
    Uri::from_parts(parts).expect("scheme, authority and path are all there")
}

fn no_status(endpoint: &Endpoint) -> Error {
    let message = format!(
        "endpoint {} answered without a grpc-status",
        endpoint.address.text
    );
    Error::new(ErrorKind::BadUpstreamResponse, message)
}

fn shed(what: &str, limit: usize) -> Error {
    Error::new(
        ErrorKind::Shed,
        format!("{what} has {limit} calls in flight, its limit; try again later"),
    )
}
