//! One call that goes to an endpoint, and what is counted and logged when it ends.

use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::access_log::AccessLog;
use super::access_log::entry::{Entry, bounded};
use super::access_log::web::WebRequest;
use super::body::Inbound;
use super::caller::Who;
use super::cluster::{Cluster, Endpoint, Share};
use super::listing::Listing;
use super::method::{Method, Streaming};
use super::recorder::{Flight, LEGS, Leg, Short, Why};
use super::retry;
use super::route_key::RouteKey;
use super::split::Split;
use super::trace::{Facts, Trace, trace_id};
use super::worker::Worker;
use crate::call::limit::{InFlight, Permit, low_limit, shed, shed_low};
use crate::call::responder::Responder;
use crate::callers::Reason;
use crate::callers::signing::Wrong;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::headers::Headers;
use crate::net::guard::StreamGuard;
use crate::net::stream::Body;
use crate::spans::Tracer;
use crate::stats::CallStats;

pub struct Call {
    pub worker: Rc<Worker>,
    pub who: Who,
    pub stream: StreamGuard,
    pub method: &'static Method,
    pub headers: Headers,
    pub inbound: Inbound,
    pub responder: Responder,
    pub started: Instant,
    /// The caller's own deadline.
    pub caller_deadline: Option<Duration>,
    /// The shares of the call's route, if there are several.
    pub split: Option<Arc<Split>>,
    /// What the access service adds to the answer, if that lists versions.
    pub listing: Option<Rc<Listing>>,
    pub attempts: u32,
    /// Why the next attempt is made.
    pub why: Why,
    /// Shed first.
    pub is_low: bool,
    /// Those of them that no endpoint worked on: they do not count towards `max_attempts`.
    pub unreached: u32,
    /// An endpoint was full, and the call has been sent to another for it.
    pub has_met_full: bool,
    /// The endpoint that did not have the model, after which the call went to another one.
    pub lacking: Option<Arc<Endpoint>>,
    /// Hash of what keeps calls on one endpoint of the share that the call is in.
    pub affinity: Option<u64>,
    /// When the attempt ended that answered it.
    pub answered: Option<Instant>,
    pub record: Record,
    /// Of a call that is traced.
    pub trace: Option<Box<Trace>>,
    /// The request over HTTP that the call is made for, where there is an access log.
    pub web: Option<Rc<WebRequest>>,
}

/// What is counted and logged when the call ends.
pub struct Record {
    pub stats: Arc<CallStats>,
    pub key: RouteKey,
    pub cluster: Option<Arc<Cluster>>,
    pub endpoint: Option<Arc<Endpoint>>,
    pub error: Option<ErrorKind>,
    pub bytes_out: usize,
    pub legs: [Option<Leg>; LEGS],
}

// === impl Call ===

impl Call {
    pub fn new(
        (worker, who): (Rc<Worker>, Who),
        stream: StreamGuard,
        method: &'static Method,
        (headers, body): (Headers, Body),
        mut responder: Responder,
        web: Option<Rc<WebRequest>>,
    ) -> Self {
        responder.tell_attempts(0, None);
        Self {
            method,
            inbound: {
                let shared = &worker.shared;
                let budgets = (&shared.held, &shared.unsent);
                Inbound::new((body, stream.kept()), &shared.config, budgets)
            },
            started: stream.opened(),
            stream,
            headers,
            responder,
            caller_deadline: None,
            split: None,
            listing: None,
            attempts: 0,
            why: Why::First,
            is_low: false,
            unreached: 0,
            has_met_full: false,
            lacking: None,
            affinity: None,
            answered: None,
            record: Record {
                stats: worker.shared.unrouted.clone(),
                key: RouteKey::default(),
                cluster: None,
                endpoint: None,
                error: None,
                bytes_out: 0,
                legs: [const { None }; LEGS],
            },
            worker,
            trace: None,
            web,
            who,
        }
    }

    /// A place among the calls in flight, of the process or of a cluster.
    ///
    /// # Errors
    /// `shed`; for calls of low priority before the limit is reached.
    pub fn permit(
        &self,
        in_flight: &InFlight,
        what: impl Display,
        limit: usize,
    ) -> Result<Permit, Error> {
        let least = if self.is_low { low_limit(limit) } else { limit };
        in_flight.acquire(least).ok_or_else(|| match self.is_low {
            true => shed_low(&what.to_string(), limit),
            false => shed(&what.to_string(), limit),
        })
    }

    /// Count an attempt that begins now.
    pub fn begin_attempt(&mut self, endpoint: &Arc<Endpoint>) {
        self.attempts += 1;
        self.name_endpoint(endpoint);
    }

    /// Attempts that count towards `max_attempts`: an endpoint has worked on them, or does.
    pub fn worked(&self) -> u32 {
        self.attempts.saturating_sub(self.unreached)
    }

    /// Tell, and log, this endpoint as the one that answers.
    pub fn name_endpoint(&mut self, endpoint: &Arc<Endpoint>) {
        self.record.endpoint = Some(endpoint.clone());
        let is_exposed = self.worker.shared.config.expose_endpoints;
        let endpoint = is_exposed.then_some(&endpoint.address.header);
        self.responder.tell_attempts(self.attempts, endpoint);
    }

    /// Tell the caller of an error of ours, unless it is gone.
    pub fn fail(&mut self, error: Error) -> Code {
        let (kind, code) = (error.kind, error.kind.code());
        self.record.error = Some(kind);
        self.worker.shared.server.stats.errors.add(kind);
        if kind == ErrorKind::Unauthenticated && self.who.known().is_some() {
            let reason = Reason::Signature(Wrong::Body);
            self.worker.shared.refusals.met(reason, self.stream.peer());
        }
        // A caller that gives up at its own deadline floods nobody.
        if kind == ErrorKind::Cancelled && !self.is_callers_deadline_near() {
            self.stream.reset_before_headers();
        }
        if let Some(wait) = error.retry_after {
            self.responder.push_back(wait);
        }
        self.responder.fail(&error.into());
        code
    }

    /// Whether the caller's own deadline is over, or nearly.
    pub fn is_callers_deadline_near(&self) -> bool {
        self.caller_deadline
            .is_some_and(|limit| retry::is_nearly_over(self.started.elapsed(), limit))
    }

    /// When the call has to end if it goes to a share; a stream has no limit but its caller's.
    pub fn deadline_in(&self, share: &Share) -> Option<Instant> {
        let callers = self.caller_deadline.map(|limit| self.started + limit);
        if self.method.streaming == Streaming::Bidi {
            return callers;
        }
        let own = self.started + share.settings.timeout;
        Some(callers.map_or(own, |at| at.min(own)))
    }

    /// Count the call, which is over.
    pub fn finish(mut self, code: Code) {
        let duration = self.answered.unwrap_or_else(Instant::now) - self.started;
        self.record.stats.record(self.method.id, code, duration);
        self.who.count(code);
        if let Some(log) = &self.worker.shared.access_log {
            self.log(log, code, duration);
        }
        if let (Some(trace), Some(tracer)) = (self.trace.take(), &self.worker.shared.tracer) {
            self.export(&trace, tracer, code);
        }
        let Record {
            key, error, legs, ..
        } = self.record;
        self.worker.ring.write(Flight {
            id: Short::of_ascii(self.responder.request_id().as_bytes()),
            model: Short::new(key.model.as_deref().unwrap_or_default()),
            caller: Short::new(self.who.name()),
            method: self.method,
            started: self.started,
            took: duration.into(),
            code,
            error,
            attempts: self.attempts,
            legs,
        });
    }

    /// A look at the clock for a call that is traced.
    pub fn now_if_traced(&self) -> Option<Instant> {
        self.trace.as_ref().map(|_| Instant::now())
    }

    fn export(&self, trace: &Trace, tracer: &Tracer, code: Code) {
        let Record { key, cluster, .. } = &self.record;
        tracer.export(trace.spans(&Facts {
            path: &self.method.path,
            started: self.started,
            code,
            error: self.record.error,
            attempts: self.attempts,
            peer: self.stream.peer().to_string(),
            request_id: Some(self.responder.request_id().as_str()),
            model: key.model.as_deref(),
            version: key.version.as_deref().or(key.label.as_deref()),
            cluster: cluster.as_ref().map(|cluster| &*cluster.name),
        }));
    }

    /// Write the call's line; off the request path, as the caller has its answer.
    fn log(&self, log: &AccessLog, code: Code, duration: Duration) {
        let Record {
            key,
            cluster,
            endpoint,
            error,
            bytes_out,
            legs,
            ..
        } = &self.record;
        let text = |text: Option<&str>| bounded(text.unwrap_or_default());
        let last = legs.iter().flatten().next_back();
        let entry = Entry {
            time: SystemTime::now(),
            request_id: text(Some(self.responder.request_id().as_str())),
            trace_id: trace_id(&self.headers, self.trace.as_deref()),
            caller: self.who.logged(),
            method: self.method.path.trim_start_matches('/').into(),
            model: text(key.model.as_deref()),
            version: text(key.version.as_deref().or(key.label.as_deref())),
            cluster: text(cluster.as_ref().map(|cluster| &*cluster.name)),
            endpoint: text(endpoint.as_ref().map(|endpoint| &*endpoint.address.text)),
            attempts: self.attempts,
            code: code.name(),
            error: error.map(ErrorKind::name),
            duration_ms: duration.as_secs_f64() * 1e3,
            upstream_ms: last.map(|leg| leg.took.milliseconds()),
            bytes_in: self.inbound.bytes() as u64,
            bytes_out: *bytes_out as u64,
            peer: self.stream.peer().to_string(),
            http: None,
        };
        match &self.web {
            Some(web) => web.add(entry),
            None => log.write(entry),
        }
    }
}
