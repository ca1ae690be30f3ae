//! A share of the last events, with exponential forgetting: by time, and where there are many by number, so that an
//! endpoint that was busy and well for long is not believed for long when it fails.

use super::decay::kept;
use super::{Nanos, SECOND};

/// Time in which what was counted falls to 1/e.
const MEMORY: f64 = 5.0 * SECOND as f64;

/// Events that are remembered at most.
const MOST: f64 = 50.0;

#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    pub hits: f64,
    pub total: f64,
    at: Nanos,
}

impl Share {
    pub fn record(&mut self, is_hit: bool, now: Nanos) {
        self.settle(now);
        if self.total >= MOST {
            self.hits *= 1.0 - 1.0 / MOST;
            self.total *= 1.0 - 1.0 / MOST;
        }
        self.total += 1.0;
        self.hits += f64::from(u8::from(is_hit));
    }

    /// Forget what is old.
    pub fn settle(&mut self, now: Nanos) {
        let gap = now.saturating_sub(self.at);
        // Within a millisecond nothing is forgotten that matters.
        if gap > 1_000_000 {
            let keep = kept(gap as f64 * (1.0 / MEMORY));
            self.total *= keep;
            self.hits *= keep;
            self.at = now;
        }
    }

    /// hits / total; 1 where nothing was counted.
    pub fn ratio(&self) -> f64 {
        if self.total > 0.0 {
            self.hits / self.total
        } else {
            1.0
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.total += other.total;
    }

    /// The share of what was no hit.
    pub fn rest(&self) -> Self {
        Self {
            hits: self.total - self.hits,
            ..*self
        }
    }

    pub fn without(&self, other: &Self) -> Self {
        Self {
            hits: (self.hits - other.hits).max(0.0),
            total: (self.total - other.total).max(0.0),
            at: self.at,
        }
    }
}
