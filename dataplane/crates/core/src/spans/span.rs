//! A span: something that has taken its time in a trace.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use crate::grpc::trace_context::SpanId;

#[derive(Clone, Debug)]
pub struct Span {
    pub trace_id: [u8; 16],
    pub id: SpanId,
    pub parent: Option<SpanId>,
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub start: SystemTime,
    pub end: SystemTime,
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it did.
    pub error: Option<Cow<'static, str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Client,
}

#[derive(Clone, Debug)]
pub enum Value {
    Text(Cow<'static, str>),
    Integer(i64),
    Real(f64),
}

/// Tells the times of day of moments, all by the same look at both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    day: SystemTime,
    moment: Instant,
}

// === impl Clock ===

impl Clock {
    pub fn now() -> Self {
        Self {
            day: SystemTime::now(),
            moment: Instant::now(),
        }
    }

    pub fn time(&self, moment: impl Into<Instant>) -> SystemTime {
        let moment = moment.into();
        let before = self
            .day
            .checked_sub(self.moment.saturating_duration_since(moment));
        before.unwrap_or(self.day) + moment.saturating_duration_since(self.moment)
    }
}

// === impl Value ===

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}
