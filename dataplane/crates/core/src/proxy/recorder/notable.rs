//! The calls of the last ten minutes that stand out: the slowest and the last failed ones of each ten seconds. Kept apart
//! from the last calls, which at high rates go back a fraction of a second. For each worker 16 calls in ten seconds are
//! kept, 280 KB in ten minutes.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{Flight, Microseconds};
use crate::code::Code;
use crate::proxy::method::Streaming;

/// How long calls are compared with each other; then it begins anew.
const SLOT: Duration = Duration::from_secs(10);
/// How far back calls are told.
const REACH: Duration = Duration::from_secs(600);
/// Slots that are kept: the last one has just begun.
const SLOTS: u64 = REACH.as_secs() / SLOT.as_secs() + 1;
/// Slowest calls of a slot, and last failed ones.
const CALLS: usize = 8;

/// The calls of one worker that stand out.
#[derive(Default)]
pub struct Notable {
    /// Calls that took no longer are not among the slowest.
    bar: Microseconds,
    slots: VecDeque<Slot>,
}

#[derive(Default)]
struct Slot {
    number: u64,
    slow: Vec<Flight>,
    failed: VecDeque<Flight>,
}

// === impl Notable ===

impl Notable {
    /// Whether a call may stand out. Asked at the end of every call.
    pub fn wants(&self, flight: &Flight) -> bool {
        flight.took > self.bar || flight.code != Code::Ok
    }

    /// Keep a call if it stands out.
    pub fn keep(&mut self, flight: &Flight) {
        if self.slots.is_empty() {
            self.slots.push_back(Slot::default());
        }
        let Some(slot) = self.slots.back_mut() else {
            return;
        };
        if flight.code != Code::Ok {
            if slot.failed.len() == CALLS {
                slot.failed.pop_front();
            }
            slot.failed.push_back(flight.clone());
        }
        // A stream is open for as long as its caller likes.
        let is_stream = flight.method.streaming == Streaming::Bidi;
        if is_stream || flight.took <= self.bar {
            return;
        }
        if slot.slow.len() < CALLS {
            slot.slow.push(flight.clone());
        } else if let Some(least) = slot.slow.iter_mut().min_by_key(|it| it.took) {
            *least = flight.clone();
        }
        if slot.slow.len() == CALLS {
            let least = slot.slow.iter().map(|it| it.took).min();
            self.bar = least.unwrap_or_default();
        }
    }

    /// Begin a slot, if the second is not in the one that goes on, and forget those that are too old.
    pub fn begin(&mut self, second: u64) {
        let number = second / SLOT.as_secs();
        if self.slots.back().is_some_and(|it| it.number == number) {
            return;
        }
        self.bar = Microseconds::default();
        self.slots.push_back(Slot {
            number,
            ..Slot::default()
        });
        let is_old = |slot: &Slot| slot.number + SLOTS <= number;
        while self.slots.front().is_some_and(is_old) {
            self.slots.pop_front();
        }
    }

    /// The slowest calls, or those that failed, that have ended in the time before `now` that is told.
    pub fn calls(&self, is_failed: bool, now: Instant) -> impl Iterator<Item = &Flight> {
        let calls = self.slots.iter().flat_map(move |slot| {
            let slow = slot.slow.iter().filter(move |_| !is_failed);
            slow.chain(slot.failed.iter().filter(move |_| is_failed))
        });
        calls.filter(move |it| now.saturating_duration_since(it.ended()) < REACH)
    }
}

#[cfg(test)]
#[path = "notable_tests.rs"]
mod tests;
