//! The spans of a call that is traced: itself, and of each of its messages the queue and the stages of the model's work.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::method::Method;
use super::reply::Times;
use super::state::Shared;
use crate::code::Code;
use crate::headers::Headers;
use crate::spans::{Clock, Kind, Sampled, Span};

/// Messages of a stream that have spans: a stream may last for ever.
const MAX_MESSAGES: usize = 128;
/// Children of a message's.
const STAGES: u32 = 4;

pub struct Trace {
    shared: Arc<Shared>,
    sampled: Sampled,
    started: Instant,
    /// When each message came into the queue, and where its time went.
    messages: Vec<(Instant, Times)>,
}

// === impl Trace ===

impl Trace {
    /// None where the call is not traced.
    pub fn begin(
        shared: &Arc<Shared>,
        metadata: &mut Headers,
        may_begin: bool,
    ) -> Option<Box<Self>> {
        let sampled = shared.tracer.as_ref()?.sample(metadata, may_begin)?;
        Some(Box::new(Self {
            shared: shared.clone(),
            sampled,
            started: Instant::now(),
            messages: Vec::new(),
        }))
    }

    /// A message that came into the queue then is answered.
    pub fn answered(&mut self, queued: Instant, times: Times) {
        if self.messages.len() < MAX_MESSAGES {
            self.messages.push((queued, times));
        }
    }

    /// Hand the spans over of a call that ends now.
    pub fn export(self, method: Method, code: Code) {
        let Some(tracer) = &self.shared.tracer else {
            return;
        };
        let (clock, now) = (Clock::now(), Instant::now());
        let config = &self.shared.config;
        let path = method.path().trim_start_matches('/');
        let (service, name) = path.split_once('/').unwrap_or((path, ""));
        let mut spans = vec![Span {
            trace_id: self.sampled.context.trace_id,
            id: self.sampled.context.span_id,
            parent: self.sampled.parent,
            name: path.into(),
            kind: Kind::Server,
            start: clock.time(self.started),
            end: clock.time(now),
            attributes: vec![
                ("rpc.system", "grpc".into()),
                ("rpc.service", service.into()),
                ("rpc.method", name.into()),
                ("rpc.grpc.status_code", i64::from(code as u8).into()),
                ("dl.model", config.model.clone().into()),
                ("dl.version", config.version.clone().into()),
            ],
            error: (code != Code::Ok).then(|| Cow::from(code.name())),
        }];
        for (index, (queued, times)) in self.messages.iter().enumerate() {
            let stages = &times.stages;
            let parts = [
                ("queue", times.queue),
                ("preprocess", stages.preprocess),
                ("model", stages.model),
                ("postprocess", stages.postprocess),
            ];
            let mut at = *queued;
            // Bounded above.
            let first = 1 + STAGES * index as u32;
            for ((name, took), number) in parts.into_iter().zip(first..) {
                if took > Duration::ZERO || name == "queue" {
                    spans.push(self.sampled.span(&clock, number, name, (at, at + took)));
                }
                at += took;
            }
        }
        tracer.export(spans);
    }
}
