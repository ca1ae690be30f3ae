//! The flight recorder: what became of the last calls, call by call, in a memory that does not grow. Each worker writes
//! its own ring, once for each call, when that has ended; the admin port reads them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::cluster::Endpoint;
use super::method::Method;
use crate::balance::Outcome;
use crate::code::Code;
use crate::error::ErrorKind;
use crate::spans::Value as Attribute;
use crate::stats::{Label, RetryCause};

mod notable;

use notable::Notable;

/// Calls that one worker remembers: a quarter of a second of 16,000 calls/s, an hour of one each second; 1.3 MiB.
const CALLS: usize = 4096;
/// Attempts of a call that are remembered: the first ones, and the last.
pub const LEGS: usize = 3;
/// Bytes of a model's name that are remembered.
const MODEL_BYTES: usize = 47;
/// Bytes of a caller's name that are remembered.
const CALLER_BYTES: usize = 47;
/// As long as request ids may be.
const ID_BYTES: usize = 64;

/// A text of at most `N` bytes; what is beyond is cut.
#[derive(Clone, Copy)]
pub struct Short<const N: usize> {
    length: u8,
    bytes: [u8; N],
}

/// Why an attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    First,
    Retry(RetryCause),
    /// The first attempt took long.
    Hedge,
}

/// One attempt that is over.
#[derive(Clone)]
pub struct Leg {
    pub endpoint: Arc<Endpoint>,
    /// Since the call's start.
    pub started: Microseconds,
    pub took: Microseconds,
    pub code: Code,
    pub outcome: Outcome,
    pub why: Why,
    /// Where the endpoint says that the call's time went.
    pub spent: Spent,
}

/// Where a call's time went in an endpoint; 0 where it is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    pub queue: Microseconds,
    pub compute: Microseconds,
    /// Of `compute`.
    pub preprocess: Microseconds,
    pub model: Microseconds,
    pub postprocess: Microseconds,
}

/// Up to 71 minutes; longer times are cut to that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Microseconds(u32);

/// One call that is over.
#[derive(Clone)]
pub struct Flight {
    pub id: Short<ID_BYTES>,
    pub model: Short<MODEL_BYTES>,
    /// Empty where it is none of the document of callers.
    pub caller: Short<CALLER_BYTES>,
    pub method: &'static Method,
    pub started: Instant,
    pub took: Microseconds,
    pub code: Code,
    pub error: Option<ErrorKind>,
    pub attempts: u32,
    pub legs: [Option<Leg>; LEGS],
}

/// The last calls of one worker.
#[derive(Default)]
pub struct Ring {
    flights: Mutex<Flights>,
}

#[derive(Default)]
struct Flights {
    kept: Vec<Flight>,
    /// The oldest, which the next one replaces, once there are `CALLS`.
    next: usize,
    notable: Notable,
}

/// Which of the calls that stand out are asked for.
pub struct Which<'a> {
    /// Those that failed, newest first; else those that took longest, longest first.
    pub is_failed: bool,
    pub model: Option<&'a str>,
    pub limit: usize,
}

/// The rings of all workers.
#[derive(Default)]
pub struct Recorder {
    rings: Mutex<Vec<Arc<Ring>>>,
}

// === impl Recorder ===

impl Recorder {
    /// A ring for one worker.
    pub fn ring(&self) -> Arc<Ring> {
        let ring = Arc::new(Ring::default());
        lock(&self.rings).push(ring.clone());
        ring
    }

    /// The call with this request id, the newest if there are several, as JSON; else what the recorder holds.
    ///
    /// # Errors
    /// `{"held": calls, "oldest_s": age of the oldest, null without calls}`.
    pub fn find(&self, id: &str) -> Result<Value, Value> {
        let rings = lock(&self.rings).clone();
        let found = rings.iter().filter_map(|ring| ring.find(id));
        let newest = found.max_by_key(|(started, _)| *started);
        newest.map(|(_, call)| call).ok_or_else(|| self.held())
    }

    /// The calls that stand out, of the last ten minutes, as JSON.
    pub fn notable(&self, which: &Which<'_>) -> Value {
        let now = Instant::now();
        let model = which.model.map(Short::<MODEL_BYTES>::new);
        let rings = lock(&self.rings).clone();
        let mut found = Vec::new();
        for ring in rings {
            let flights = lock(&ring.flights);
            let calls = flights.notable.calls(which.is_failed, now);
            let of_model = |flight: &&Flight| {
                let wanted = model.as_ref().map(Short::text);
                wanted.is_none_or(|wanted| flight.model.text() == wanted)
            };
            found.extend(calls.filter(of_model).cloned());
        }
        if which.is_failed {
            found.sort_by_key(|flight| std::cmp::Reverse(flight.ended()));
        } else {
            found.sort_by_key(|flight| std::cmp::Reverse(flight.took));
        }
        let calls = found.iter().take(which.limit).map(Flight::json);
        json!({"calls": calls.collect::<Vec<_>>()})
    }

    /// Begin to look anew, every ten seconds, for calls that stand out among those that end from now on.
    pub fn second(&self, number: u64) {
        let rings = lock(&self.rings).clone();
        for ring in rings {
            lock(&ring.flights).notable.begin(number);
        }
    }

    /// How many calls there are, and how far they go back.
    pub fn held(&self) -> Value {
        let rings = lock(&self.rings).clone();
        let (mut held, mut oldest): (usize, Option<Instant>) = (0, None);
        for ring in rings {
            let flights = lock(&ring.flights);
            held += flights.kept.len();
            let ring_oldest = flights.kept.iter().map(|flight| flight.started).min();
            oldest = oldest.into_iter().chain(ring_oldest).min();
        }
        json!({"held": held, "oldest_s": oldest.map(|at| at.elapsed().as_secs_f64())})
    }
}

// === impl Ring ===

impl Ring {
    /// Remember a call, in place of the oldest.
    pub fn write(&self, flight: Flight) {
        let mut flights = lock(&self.flights);
        if flights.notable.wants(&flight) {
            flights.notable.keep(&flight);
        }
        if flights.kept.len() < CALLS {
            if flights.kept.is_empty() {
                flights.kept.reserve_exact(CALLS);
            }
            flights.kept.push(flight);
            return;
        }
        let next = flights.next;
        flights.kept[next] = flight;
        flights.next = (next + 1) % CALLS;
    }

    fn find(&self, id: &str) -> Option<(Instant, Value)> {
        let flights = lock(&self.flights);
        let same = flights.kept.iter().filter(|flight| flight.id.text() == id);
        let newest = same.max_by_key(|flight| flight.started)?;
        Some((newest.started, newest.json()))
    }
}

// === impl Flight ===

impl Flight {
    pub fn ended(&self) -> Instant {
        self.started + Duration::from_micros(self.took.0.into())
    }

    fn json(&self) -> Value {
        let started = SystemTime::now().checked_sub(self.started.elapsed());
        let since_1970 = started.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        json!({
            "request_id": self.id.text(),
            "model": self.model.text(),
            "caller": self.caller.some(),
            "method": self.method.path.trim_start_matches('/'),
            "started_unix_s": since_1970.map(|time| time.as_secs_f64()),
            "duration_ms": self.took.milliseconds(),
            "code": self.code.name(),
            "error": self.error.map(ErrorKind::name),
            "attempts": self.attempts,
            "legs": self.legs.iter().flatten().map(Leg::json).collect::<Vec<_>>(),
        })
    }
}

impl Why {
    /// As it is shown, with what made a retry necessary.
    pub fn told(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::First => ("first", None),
            Self::Retry(cause) => ("retry", Some(RetryCause::value(cause.index()))),
            Self::Hedge => ("hedge", None),
        }
    }
}

impl Leg {
    fn json(&self) -> Value {
        let (why, cause) = self.why.told();
        json!({
            "endpoint": self.endpoint.address.text,
            "started_ms": self.started.milliseconds(),
            "duration_ms": self.took.milliseconds(),
            "code": self.code.name(),
            "outcome": format!("{:?}", self.outcome).to_lowercase(),
            "why": why,
            "cause": cause,
            "queue_ms": self.spent.if_known(|spent| spent.queue),
            "compute_ms": self.spent.if_known(|spent| spent.compute),
            "preprocess_ms": self.spent.if_staged(|spent| spent.preprocess),
            "model_ms": self.spent.if_staged(|spent| spent.model),
            "postprocess_ms": self.spent.if_staged(|spent| spent.postprocess),
        })
    }
}

// === impl Spent, Microseconds, Short ===

impl Spent {
    /// What the endpoint said, as attributes of a span.
    pub fn reported(&self) -> Vec<(&'static str, Attribute)> {
        let known = [
            ("dl.queue_ms", self.if_known(|spent| spent.queue)),
            ("dl.compute_ms", self.if_known(|spent| spent.compute)),
            ("dl.preprocess_ms", self.if_staged(|spent| spent.preprocess)),
            ("dl.model_ms", self.if_staged(|spent| spent.model)),
            (
                "dl.postprocess_ms",
                self.if_staged(|spent| spent.postprocess),
            ),
        ];
        let known = known.into_iter();
        known
            .filter_map(|(key, ms)| Some((key, ms?.into())))
            .collect()
    }

    fn if_known(&self, which: fn(&Self) -> Microseconds) -> Option<f64> {
        (self.compute.0 > 0).then(|| which(self).milliseconds())
    }

    fn if_staged(&self, which: fn(&Self) -> Microseconds) -> Option<f64> {
        let stages = [self.preprocess, self.model, self.postprocess];
        let is_known = stages.iter().any(|stage| stage.0 > 0);
        is_known.then(|| which(self).milliseconds())
    }
}

impl From<Duration> for Microseconds {
    fn from(time: Duration) -> Self {
        Self(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
    }
}

impl Microseconds {
    pub fn from_milliseconds(milliseconds: f64) -> Self {
        // The cast saturates at both ends.
        Self((milliseconds * 1e3) as u32)
    }

    pub fn milliseconds(self) -> f64 {
        f64::from(self.0) / 1e3
    }
}

impl<const N: usize> Short<N> {
    pub fn new(text: &str) -> Self {
        let most = text.len().min(N).min(255);
        let is_whole = |end: &usize| text.is_char_boundary(*end);
        let end = (0..=most).rev().find(is_whole).unwrap_or(0);
        Self::of_ascii(&text.as_bytes()[..end])
    }

    /// Of text of which each byte is a character.
    pub fn of_ascii(text: &[u8]) -> Self {
        let end = text.len().min(N).min(255);
        let mut bytes = [0; N];
        bytes[..end].copy_from_slice(&text[..end]);
        Self {
            length: end as u8,
            bytes,
        }
    }

    fn some(&self) -> Option<&str> {
        Some(self.text()).filter(|text| !text.is_empty())
    }

    fn text(&self) -> &str {
        // It was text, and is cut between two characters.
        std::str::from_utf8(&self.bytes[..self.length.into()]).unwrap_or_default()
    }
}

/// What is guarded is whole at any time: a panic cannot leave half a call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
