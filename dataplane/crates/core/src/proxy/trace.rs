//! The spans of a call that is traced: itself, its route, its wait for an endpoint, and each attempt with the time that the
//! endpoint had the call. Made when the call is over, from times that are noted meanwhile.

use tokio::time::Instant;

use super::recorder::Leg;
use crate::code::Code;
use crate::error::ErrorKind;
use crate::grpc::trace_context::TraceContext;
use crate::headers::Headers;
use crate::spans::{Clock, Kind, Sampled, Span, Tracer, Value};

/// Attempts have the numbers of their own; other children come far behind.
const ROUTE: u32 = 1 << 24;
const QUEUE: u32 = ROUTE + 1;
/// On top of the number of its attempt.
const UPSTREAM: u32 = 1 << 25;

pub struct Trace {
    sampled: Sampled,
    routed: Option<Instant>,
    tried: Vec<Tried>,
}

/// What is known of a call that is over.
pub struct Facts<'a> {
    pub path: &'static str,
    pub started: Instant,
    pub code: Code,
    pub error: Option<ErrorKind>,
    pub attempts: u32,
    pub peer: String,
    pub request_id: Option<&'a str>,
    pub model: Option<&'a str>,
    pub version: Option<&'a str>,
    pub cluster: Option<&'a str>,
}

/// An attempt that is over.
struct Tried {
    number: u32,
    started: Instant,
    opened: Option<Instant>,
    ended: Instant,
    leg: Leg,
}

// === impl Trace ===

impl Trace {
    /// None where the call is not traced.
    pub fn begin(tracer: &Tracer, metadata: &mut Headers, may_begin: bool) -> Option<Box<Self>> {
        let sampled = tracer.sample(metadata, may_begin)?;
        Some(Box::new(Self {
            sampled,
            routed: None,
            tried: Vec::new(),
        }))
    }

    /// What an attempt says of itself upstream.
    pub fn context(&self, attempt: u32) -> TraceContext {
        self.sampled.child_context(attempt)
    }

    /// Its route is known now.
    pub fn routed(&mut self) {
        self.routed = Some(Instant::now());
    }

    /// An attempt is over that began then, and had its stream, if it came so far.
    pub fn tried(&mut self, number: u32, (started, opened): (Instant, Option<Instant>), leg: &Leg) {
        self.tried.push(Tried {
            number,
            started,
            opened,
            ended: Instant::now(),
            leg: leg.clone(),
        });
    }

    /// The spans of a call that ends now.
    pub fn spans(&self, call: &Facts<'_>) -> Vec<Span> {
        let (clock, now) = (Clock::now(), Instant::now());
        let first = self.tried.iter().map(|tried| tried.started).min();
        let mut spans = Vec::with_capacity(3 + 2 * self.tried.len());
        spans.push(self.call(&clock, call, now));
        let routed = self.routed.unwrap_or(now);
        let child = |number, name, times| self.sampled.span(&clock, number, name, times);
        spans.push(child(ROUTE, "route", (call.started, routed)));
        if self.routed.is_some() {
            let ended = first.unwrap_or(now);
            spans.push(child(QUEUE, "queue", (routed, ended)));
        }
        for tried in &self.tried {
            self.attempt(&clock, tried, &mut spans);
        }
        spans
    }

    fn call(&self, clock: &Clock, call: &Facts<'_>, now: Instant) -> Span {
        let name = call.path.trim_start_matches('/');
        let (service, method) = name.split_once('/').unwrap_or((name, ""));
        let mut attributes: Vec<(&'static str, Value)> = vec![
            ("rpc.system", "grpc".into()),
            ("rpc.service", service.into()),
            ("rpc.method", method.into()),
            ("rpc.grpc.status_code", i64::from(call.code as u8).into()),
            ("client.address", call.peer.clone().into()),
            ("dl.attempts", i64::from(call.attempts).into()),
        ];
        for (key, text) in [
            ("dl.request_id", call.request_id),
            ("dl.model", call.model),
            ("dl.version", call.version),
            ("dl.cluster", call.cluster),
        ] {
            attributes.extend(text.map(|text| (key, text.to_owned().into())));
        }
        if let Some(kind) = call.error.map(ErrorKind::name) {
            attributes.push(("error.type", kind.into()));
        }
        Span {
            trace_id: self.sampled.context.trace_id,
            id: self.sampled.context.span_id,
            parent: self.sampled.parent,
            name: name.into(),
            kind: Kind::Server,
            start: clock.time(call.started),
            end: clock.time(now),
            attributes,
            error: is_servers_fault(call.code).then(|| call.code.name().into()),
        }
    }

    fn attempt(&self, clock: &Clock, tried: &Tried, spans: &mut Vec<Span>) {
        let Tried { number, leg, .. } = tried;
        let endpoint = &leg.endpoint.address.text;
        let (why, cause) = leg.why.told();
        let child = |number, name, start| {
            let times = (start, tried.ended);
            self.sampled.span(clock, number, name, times)
        };
        let mut attempt = child(*number, "attempt", tried.started);
        attempt.kind = Kind::Client;
        attempt.error = (leg.code != Code::Ok).then(|| leg.code.name().into());
        attempt.attributes = vec![
            ("server.address", endpoint.to_string().into()),
            ("rpc.grpc.status_code", i64::from(leg.code as u8).into()),
            ("dl.attempt", i64::from(*number).into()),
            ("dl.why", why.into()),
        ];
        let cause = cause.map(|cause| ("dl.retry_cause", cause.into()));
        attempt.attributes.extend(cause);
        let id = attempt.id;
        spans.push(attempt);
        let Some(opened) = tried.opened else { return };
        let mut upstream = child(UPSTREAM + number, "upstream", opened);
        upstream.parent = Some(id);
        upstream.attributes.extend(leg.spent.reported());
        spans.push(upstream);
    }
}

/// The id of the trace that a call is a part of, whether it is recorded or not.
pub fn trace_id(metadata: &Headers, trace: Option<&Trace>) -> Option<String> {
    let context = trace.map(|trace| trace.sampled.context);
    let context = context.or_else(|| TraceContext::find(metadata));
    context.map(|context| context.trace_id_text())
}

/// OpenTelemetry's rule for the spans of a server: a caller's mistake is no error of it.
fn is_servers_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
