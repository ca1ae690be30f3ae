//! The span of a request over HTTP: the parent of the calls that it becomes.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode};

use super::span::{Clock, Kind, Span};
use super::tracer::{Sampled, Tracer};
use crate::headers::Headers;

/// A request over HTTP that is traced.
pub struct HttpTrace {
    tracer: Arc<Tracer>,
    sampled: Sampled,
    method: String,
    path: String,
    started: Instant,
}

// === impl HttpTrace ===

impl HttpTrace {
    /// None where the request is not traced; else its calls are, by the headers from here on.
    pub fn begin(
        tracer: &Arc<Tracer>,
        (method, path): (&Method, &str),
        headers: &mut Headers,
    ) -> Option<Self> {
        let sampled = tracer.sample(headers, true)?;
        sampled.context.put(headers);
        Some(Self {
            tracer: tracer.clone(),
            sampled,
            method: method.as_str().chars().take(16).collect(),
            path: path.chars().take(256).collect(),
            started: Instant::now(),
        })
    }

    /// It is answered; without a status its caller went before.
    pub fn end(self, status: Option<StatusCode>) {
        let clock = Clock::now();
        let mut attributes = vec![
            ("http.request.method", self.method.clone().into()),
            ("url.path", self.path.into()),
        ];
        if let Some(status) = status {
            let number = i64::from(status.as_u16());
            attributes.push(("http.response.status_code", number.into()));
        }
        let is_error = status.is_some_and(|status| status.is_server_error());
        self.tracer.export(vec![Span {
            trace_id: self.sampled.context.trace_id,
            id: self.sampled.context.span_id,
            parent: self.sampled.parent,
            name: self.method.into(),
            kind: Kind::Server,
            start: clock.time(self.started),
            end: clock.time(Instant::now()),
            attributes,
            error: is_error.then_some("".into()),
        }]);
    }
}
