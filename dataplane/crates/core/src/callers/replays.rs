//! The signed requests that have come, as long as they could come again. One process's: several access services do not
//! tell each other.

use std::collections::HashSet;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::signing::{FUTURE_S, PAST_S, Wrong};

/// Most that are remembered: 9 bytes each, at most twice that while a set grows.
pub const MOST: usize = 4 << 20;
/// Requests are forgotten together with those signed in the same time.
const SPAN_S: u64 = 30;
/// All times of signing that are taken, and the span that is being forgotten.
const SPANS: usize = ((PAST_S + FUTURE_S) / SPAN_S) as usize + 2;
/// Threads seldom wait for each other.
const SHARDS: usize = 16;

/// What has come.
#[derive(Debug)]
pub struct Replays {
    shards: [Mutex<[Span; SPANS]>; SHARDS],
    count: AtomicUsize,
    most: usize,
}

/// What was signed in one span of time.
#[derive(Debug, Default)]
struct Span {
    /// Seconds since 1970, in spans.
    number: u64,
    /// The first eight bytes of a MAC: nobody without the secret can make them, and by chance two are equal once in a
    /// million years.
    seen: HashSet<u64>,
}

impl Default for Replays {
    fn default() -> Self {
        Self::new(MOST)
    }
}

// === impl Replays ===

impl Replays {
    pub fn new(most: usize) -> Self {
        Self {
            shards: Default::default(),
            count: AtomicUsize::new(0),
            most,
        }
    }

    /// Remember a request whose signature is right and was made at `time`; both times are seconds since 1970.
    ///
    /// # Errors
    /// `Replayed`; `Full` where there is no room until others are forgotten.
    pub fn remember(&self, fingerprint: u64, time: u64, now: u64) -> Result<(), Wrong> {
        let shard = &self.shards[fingerprint as usize % SHARDS];
        let mut spans = shard.lock().unwrap_or_else(PoisonError::into_inner);
        for span in spans.iter_mut().filter(|span| span.is_over(now)) {
            self.forget(span);
        }
        let number = time / SPAN_S;
        let span = &mut spans[number as usize % SPANS];
        if span.number != number {
            // It is empty, unless the clock has jumped.
            self.forget(span);
            span.number = number;
        }
        if span.seen.contains(&fingerprint) {
            return Err(Wrong::Replayed);
        }
        if self.count.fetch_add(1, Relaxed) >= self.most {
            self.count.fetch_sub(1, Relaxed);
            return Err(Wrong::Full);
        }
        span.seen.insert(fingerprint);
        Ok(())
    }

    /// Requests that are remembered.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    fn forget(&self, span: &mut Span) {
        let gone = mem::take(&mut span.seen);
        self.count.fetch_sub(gone.len(), Relaxed);
    }
}

// === impl Span ===

impl Span {
    /// Whether what is in it would be refused for its time.
    fn is_over(&self, now: u64) -> bool {
        !self.seen.is_empty() && (self.number + 1) * SPAN_S + PAST_S <= now
    }
}
