//! A token bucket in one number: when it will be full again (GCRA, ITU-T I.371: the theoretical arrival time). It knows no
//! clock and takes no lock. `tests/interleavings.rs` runs this file with threads in every order.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Time, ns, from any beginning that stays.
pub type Nanos = u64;

/// Tokens are counted by the time that they take to come back.
#[derive(Debug, Default)]
pub struct Bucket {
    full_at: AtomicU64,
}

// === impl Bucket ===

impl Bucket {
    /// Take tokens that come back in `cost`, out of a bucket that an empty one would need `room` to fill.
    ///
    /// # Errors
    /// How long it takes until there are as many; nothing is taken.
    pub fn take(&self, cost: Nanos, room: Nanos, now: Nanos) -> Result<(), Nanos> {
        self.advance(cost, now, |missing| {
            missing.saturating_add(cost).saturating_sub(room)
        })
    }

    /// The same for what may be larger than the bucket: it is taken while anything is left, and what it is over is owed.
    ///
    /// # Errors
    /// How long it takes until anything is there.
    pub fn take_whole(&self, cost: Nanos, room: Nanos, now: Nanos) -> Result<(), Nanos> {
        self.advance(cost, now, |missing| {
            missing.saturating_add(1).saturating_sub(room.max(1))
        })
    }

    /// `wait` says for how long nothing may be taken while so much is missing; 0 for now.
    fn advance(&self, cost: Nanos, now: Nanos, wait: impl Fn(Nanos) -> Nanos) -> Result<(), Nanos> {
        let mut full_at = self.full_at.load(Relaxed);
        loop {
            let missing = full_at.saturating_sub(now);
            match wait(missing) {
                0 => {}
                wait => return Err(wait),
            }
            let next = now.saturating_add(missing).saturating_add(cost);
            match self
                .full_at
                .compare_exchange_weak(full_at, next, Relaxed, Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(other) => full_at = other,
            }
        }
    }

    /// Tokens take `ratio` times as long to come back from now on: as many are missing as before.
    pub fn rescale(&self, ratio: f64, now: Nanos) {
        let scaled = |full_at: Nanos| {
            let missing = full_at.saturating_sub(now) as f64 * ratio;
            Some(now.saturating_add(missing as Nanos))
        };
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, scaled);
    }

    /// The same, and `room` becomes `new_room`: as many tokens are left as before, or as there is room for now. So a
    /// bucket that grows is filled by time alone.
    pub fn resize(&self, ratio: f64, room: Nanos, new_room: Nanos, now: Nanos) {
        let resized = |full_at: Nanos| {
            let missing = full_at.saturating_sub(now);
            let left = (room as f64 - missing as f64) * ratio;
            let missing = (new_room as f64 - left).max(0.0);
            Some(now.saturating_add(missing as Nanos))
        };
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, resized);
    }
}
