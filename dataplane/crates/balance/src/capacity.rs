//! How many calls a second an endpoint ends while it has any: how long a queue in front of it takes.

use super::decay::kept;
use super::{Nanos, SECOND};

/// Busy time in which what was counted falls to 1/e.
const MEMORY: f64 = SECOND as f64;
/// Ends before the estimate says anything.
const ENOUGH: f64 = 3.0;

#[derive(Clone, Copy, Debug, Default)]
pub struct Capacity {
    /// Calls that ended, and the busy time in which they did, both with exponential forgetting.
    ended: f64,
    busy: f64,
    /// Since when busy time was not counted.
    since: Nanos,
}

impl Capacity {
    /// A call begins at an endpoint that had none.
    pub fn begin(&mut self, now: Nanos) {
        self.since = now;
    }

    /// A call ended, answered or not; `is_answer`: it did.
    pub fn end(&mut self, is_answer: bool, now: Nanos) {
        let busy = now.saturating_sub(self.since) as f64;
        let keep = kept(busy * (1.0 / MEMORY));
        self.ended = self.ended * keep + f64::from(u8::from(is_answer));
        self.busy = self.busy * keep + busy;
        self.since = now;
    }

    /// Calls a second; none while too few ended.
    pub fn per_second(&self, is_busy: bool, now: Nanos) -> Option<f64> {
        let more = if is_busy {
            now.saturating_sub(self.since) as f64
        } else {
            0.0
        };
        let busy = (self.busy + more).max(1.0);
        (self.ended >= ENOUGH).then(|| self.ended / busy * SECOND as f64)
    }
}
