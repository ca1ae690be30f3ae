//! What access services that share a limit tell each other: how much of it is wanted here, and which part is allowed here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A part that differs by no more than this from the one before, of which it is a part, is no other.
const SLACK: f64 = 0.05;

/// What is limited; each counts what it has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Requests,
    InFlight,
    Bytes,
}

/// The part of a limit that is allowed here: the bits of a number, 0 where nobody has said one.
#[derive(Debug, Default)]
pub struct Share(AtomicU64);

/// What was wanted since the last question, refused or not. Who asks is one thread.
#[derive(Debug, Default)]
pub struct Demand {
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Calls refused for those in flight until the last question.
    refused: AtomicU64,
    /// What the last answers were.
    before: [AtomicU64; 3],
}

// === impl Of ===

impl Of {
    pub const ALL: [Self; 3] = [Self::Requests, Self::InFlight, Self::Bytes];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_s",
            Self::InFlight => "in_flight",
            Self::Bytes => "bytes_per_s",
        }
    }
}

// === impl Share ===

impl Share {
    pub fn get(&self) -> Option<f64> {
        let part = f64::from_bits(self.0.load(Relaxed));
        (part > 0.0).then_some(part)
    }

    /// Tell whether it is another one now. Nobody gets more than the whole, whatever is said.
    pub fn set(&self, part: Option<f64>) -> bool {
        let part = part.map(|it| it.clamp(f64::MIN_POSITIVE, 1.0));
        let is_same = match (self.get(), part) {
            (None, None) => true,
            (Some(before), Some(after)) => (after - before).abs() <= SLACK * before,
            _ => false,
        };
        if !is_same {
            self.0.store(part.unwrap_or(0.0).to_bits(), Relaxed);
        }
        !is_same
    }
}

// === impl Demand ===

impl Demand {
    pub fn add(&self, requests: usize, bytes: usize) {
        if requests > 0 {
            self.requests.fetch_add(requests as u64, Relaxed);
        }
        if bytes > 0 {
            self.bytes.fetch_add(bytes as u64, Relaxed);
        }
    }

    /// A second.
    pub fn requests(&self, over_s: f64) -> f64 {
        self.requests.swap(0, Relaxed) as f64 / over_s.max(0.001)
    }

    /// A second.
    pub fn bytes(&self, over_s: f64) -> f64 {
        self.bytes.swap(0, Relaxed) as f64 / over_s.max(0.001)
    }

    /// Calls that would be in flight now if none had been refused.
    pub fn in_flight(&self, now: usize, refused: u64) -> f64 {
        let before = self.refused.swap(refused, Relaxed);
        now as f64 + refused.saturating_sub(before) as f64
    }

    /// At most the whole, and no less than half of what it was: who pauses for a second does not lose his part.
    pub fn smooth(&self, of: Of, wanted: f64) -> f64 {
        let before = &self.before[of as usize];
        let half = f64::from_bits(before.load(Relaxed)) / 2.0;
        let wanted = wanted.max(half).min(1.0);
        before.store(wanted.to_bits(), Relaxed);
        wanted
    }
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
