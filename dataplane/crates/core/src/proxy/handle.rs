//! One call from its request headers to its trailers. Every other module of the request path is called from
//! here, in the order in which a call meets them.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, header};
use tokio::time::Instant;

use super::attempt::Attempt;
use super::body::Inbound;
use super::clock::Clock;
use super::cluster::{Cluster, Lease, Settings};
use super::endpoint::Endpoint;
use super::local;
use super::method::{self, Kind, Method, Streaming};
use super::responder::Responder;
use super::route_key::RouteKey;
use super::state::Worker;
use super::verdict::{Last, Next};
use crate::admin::access_log::{AccessLog, Entry};
use crate::admin::metrics::CallStats;
use crate::error::{Error, ErrorKind};
use crate::grpc::status::Code;
use crate::grpc::{deadline, metadata};
use crate::net::connection::StreamGuard;

/// One call that goes to an endpoint.
pub(super) struct Call {
    pub(super) worker: Rc<Worker>,
    pub(super) stream: StreamGuard,
    pub(super) method: &'static Method,
    pub(super) headers: HeaderMap,
    pub(super) inbound: Inbound,
    pub(super) responder: Responder,
    pub(super) started: Instant,
    /// The caller's own deadline.
    pub(super) caller_deadline: Option<Duration>,
    pub(super) attempts: u32,
    pub(super) record: Record,
}

/// What is counted and logged when the call ends.
pub(super) struct Record {
    pub(super) stats: Arc<CallStats>,
    pub(super) key: RouteKey,
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    pub(super) error: Option<ErrorKind>,
    pub(super) bytes_out: usize,
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
            key: RouteKey::default(),
            cluster: None,
            endpoint: None,
            error: None,
            bytes_out: 0,
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

        let task_id = self.method.task_id;
        let uses = |model: Option<&str>, version: Option<&str>| {
            let state = shared.state.load();
            state.routes.version_use(model, version, task_id)
        };
        let key = self
            .inbound
            .route_key(
                self.method,
                &self.headers,
                uses,
                &mut self.responder,
                &mut clock,
            )
            .await
            .inspect_err(|error| shared.stats.count_held(error))?;
        let cluster = {
            let state = shared.state.load();
            let route = state.routes.find(&key, task_id)?;
            if let Some(model) = route.model {
                self.record.stats = model.stats.clone();
            }
            let is_changed = self
                .inbound
                .set_version(self.method, route.version)
                .inspect_err(|error| shared.stats.count_held(error))?;
            if is_changed {
                // It is of the message before the change.
                self.headers.remove(header::CONTENT_LENGTH);
            }
            route.cluster
        };
        self.record.key = key;
        let settings = cluster.settings();
        let is_stream = self.method.streaming == Streaming::Bidi;
        if is_stream {
            clock.set_deadline(caller_deadline, Some(settings.stream_idle_timeout));
        } else {
            let own = self.started + settings.timeout;
            clock.set_deadline(Some(caller_deadline.map_or(own, |at| at.min(own))), None);
        }
        metadata::to_upstream(&mut self.headers);
        self.headers
            .insert(metadata::X_REQUEST_ID, self.responder.request_id().clone());
        self.shares(cluster, settings, &mut clock).await
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

    /// Try the share of the route that the call is in; where it cannot answer, and another attempt is allowed, one
    /// other share.
    async fn shares(
        &mut self,
        mut cluster: Arc<Cluster>,
        mut settings: Arc<Settings>,
        clock: &mut Clock<'_>,
    ) -> Result<Code, Error> {
        let mut is_other = false;
        loop {
            let permit = cluster.in_flight.acquire(settings.max_in_flight);
            if permit.is_none() {
                cluster.stats.shed.fetch_add(1, Ordering::Relaxed);
                let what = format!("cluster {}", cluster.name);
                return Err(shed(&what, settings.max_in_flight));
            }
            if !is_other {
                cluster.budget.request();
            }
            self.record.cluster = Some(cluster.clone());
            let last = match self.attempts(&cluster, &settings, clock).await {
                Ok(code) => return Ok(code),
                Err(last) => last,
            };
            let other = (!is_other).then(|| self.pick_share(&cluster, &settings, clock, &last));
            let Some(other) = other.flatten() else {
                return self.give_up(last);
            };
            (settings, cluster, is_other) = (other.settings(), other, true);
        }
    }

    /// Try a cluster's endpoints until one answers, a limit is reached, or another attempt is not allowed.
    async fn attempts(
        &mut self,
        cluster: &Arc<Cluster>,
        settings: &Settings,
        clock: &mut Clock<'_>,
    ) -> Result<Code, Last> {
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        let picked = self.pick(cluster, clock).await;
        let mut lease = picked.map_err(|error| Last::Error(error, false))?;
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
            if next.is_answer() {
                endpoint.stats.answered(code, started.elapsed());
            } else {
                endpoint.stats.failed(code);
            }
            lease.finish(outcome);
            let last = match next {
                Next::Done(error) => {
                    self.record.error = error;
                    return Ok(code);
                }
                Next::Undecided(last) => last,
            };
            tried.push(endpoint);
            let Some(another) = self.pick_another(cluster, settings, clock, &tried, &last) else {
                return Err(last);
            };
            // The same endpoint again means a connection that takes no more calls.
            if let Some(exchange) = exchange.filter(|_| another.is_repeat) {
                exchange.discard_connection();
            }
            lease = another.lease;
        }
    }

    /// Tell the caller what the last attempt came to.
    fn give_up(&mut self, last: Last) -> Result<Code, Error> {
        match last {
            Last::Error(error, _) => Err(error),
            Last::Status(code, headers) => {
                let endpoint = self.record.endpoint.clone();
                let exposed = endpoint.as_deref().and_then(|one| self.exposed(one));
                self.responder
                    .trailers_only(headers, self.attempts, exposed);
                Ok(code)
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

    pub(super) fn exposed<'a>(&self, endpoint: &'a Endpoint) -> Option<&'a HeaderValue> {
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
        // A caller that gives up at its own deadline floods nobody.
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
        let duration = self.started.elapsed();
        self.record.stats.record(self.method.id, code, duration);
        if let Some(log) = &self.worker.shared.access_log {
            self.log(log, code, duration);
        }
    }

    /// Write the call's line; off the request path, as the caller has its answer.
    fn log(&self, log: &AccessLog, code: Code, duration: Duration) {
        let Record {
            key,
            cluster,
            endpoint,
            error,
            bytes_out,
            ..
        } = &self.record;
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        log.write(Entry {
            time: SystemTime::now(),
            request_id: text(self.responder.request_id().to_str().ok()),
            method: self.method.path.trim_start_matches('/'),
            model: text(key.model.as_deref()),
            version: text(key.version.as_deref().or(key.label.as_deref())),
            cluster: text(cluster.as_ref().map(|cluster| &*cluster.name)),
            endpoint: text(endpoint.as_ref().map(|endpoint| &*endpoint.address.text)),
            attempts: self.attempts,
            code: code.name(),
            error: error.map(ErrorKind::name),
            duration_ms: duration.as_secs_f64() * 1e3,
            bytes_in: self.inbound.bytes() as u64,
            bytes_out: *bytes_out as u64,
            peer: self.stream.peer().to_string(),
        });
    }
}

fn shed(what: &str, limit: usize) -> Error {
    Error::new(
        ErrorKind::Shed,
        format!("{what} has {limit} calls in flight, its limit; try again later"),
    )
}
