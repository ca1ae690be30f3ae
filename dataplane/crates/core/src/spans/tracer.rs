//! Which calls are traced, and where their spans go.

use std::time::Instant;

use super::export::{Counts, Exporter};
use super::span::{Clock, Kind, Span};
use crate::config::TracingConfig;
use crate::grpc::trace_context::{SpanId, TRACESTATE, TraceContext};
use crate::headers::Headers;
use crate::notice::Notice;

/// Of a program.
#[derive(Debug)]
pub struct Tracer {
    /// Of the calls without a trace of their caller's, 0..=1.
    sample: f64,
    exporter: Exporter,
}

/// A call that is traced.
#[derive(Clone, Copy, Debug)]
pub struct Sampled {
    /// Of the call's own span.
    pub context: TraceContext,
    /// The caller's span.
    pub parent: Option<SpanId>,
}

// === impl Tracer ===

impl Tracer {
    /// # Errors
    /// The collector's address is none, or the thread cannot be started.
    pub fn start(config: &TracingConfig, counts: Counts) -> Result<Self, String> {
        Ok(Self {
            sample: config.sample,
            exporter: Exporter::start(&config.endpoint, &config.service, counts)?,
        })
    }

    /// Whether a call is traced: as its caller's trace says; where it has none, and `may_begin`, by chance. What belongs to
    /// a trace that is not gone on with is taken out of the metadata then.
    pub fn sample(&self, metadata: &mut Headers, may_begin: bool) -> Option<Sampled> {
        match TraceContext::find(metadata) {
            Some(callers) => callers.is_sampled.then(|| Sampled {
                context: TraceContext {
                    span_id: random(),
                    ..callers
                },
                parent: Some(callers.span_id),
            }),
            None => (may_begin && fastrand::f64() < self.sample).then(|| {
                metadata.remove(TRACESTATE);
                Sampled {
                    context: TraceContext {
                        trace_id: random(),
                        span_id: random(),
                        is_sampled: true,
                    },
                    parent: None,
                }
            }),
        }
    }

    /// Hand spans over; never waits.
    pub fn export(&self, spans: Vec<Span>) {
        self.exporter.send(spans);
    }

    /// What is new for the operator: that the collector takes nothing, or does again.
    pub fn notice(&self) -> Option<Notice> {
        self.exporter.notice()
    }
}

// === impl Sampled ===

impl Sampled {
    /// The id of the span's child of this number, from 1 on: as random as the span's own.
    pub fn child(&self, number: u32) -> SpanId {
        // Of splitmix64: odd, so that no two numbers give the same.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let own = u64::from_be_bytes(self.context.span_id);
        own.wrapping_add(STEP.wrapping_mul(number.into()))
            .max(1)
            .to_be_bytes()
    }

    /// The span of the child of this number.
    pub fn span(
        &self,
        clock: &Clock,
        number: u32,
        name: &'static str,
        (start, end): (impl Into<Instant>, impl Into<Instant>),
    ) -> Span {
        Span {
            trace_id: self.context.trace_id,
            id: self.child(number),
            parent: Some(self.context.span_id),
            name: name.into(),
            kind: Kind::Internal,
            start: clock.time(start),
            end: clock.time(end),
            attributes: Vec::new(),
            error: None,
        }
    }

    /// What a call that is made for the span's child says of itself.
    pub fn child_context(&self, number: u32) -> TraceContext {
        TraceContext {
            span_id: self.child(number),
            ..self.context
        }
    }
}

/// Not all 0, which is no id.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fastrand::fill(&mut bytes);
    bytes[0] |= 1;
    bytes
}
