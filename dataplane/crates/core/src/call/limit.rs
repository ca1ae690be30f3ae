//! Bounds on what is in hand at one time: calls in flight, and request bytes held. Both are counters with RAII
//! shares, so that no way out of a call (error, cancel, panic) can leave something counted.

pub use super::in_flight::{InFlight, Permit};

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::in_flight::add_within;
use crate::error::{Error, ErrorKind};
use crate::stats::ProcessStats;

/// Request bytes that the whole process holds: of messages being read, scanned, worked on, or kept for a retry.
#[derive(Debug)]
pub struct HeldBytes {
    bytes: AtomicUsize,
    limit: usize,
    /// Where calls are counted that were shed because of it.
    stats: Arc<ProcessStats>,
}

/// One call's share of [`HeldBytes`], given back when dropped. There are never more than the limit.
#[derive(Debug)]
pub struct Held {
    budget: Arc<HeldBytes>,
    bytes: usize,
}

// === impl HeldBytes ===

impl HeldBytes {
    pub fn new(limit: usize, stats: Arc<ProcessStats>) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            limit,
            stats,
        }
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}

// === impl Held ===

impl Held {
    /// A share of nothing yet.
    pub fn new(budget: Arc<HeldBytes>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Hold so many bytes more, which the call cannot do without.
    ///
    /// # Errors
    /// `shed`, and nothing changed, when the process would hold too many.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        if self.try_grow(bytes) {
            return Ok(());
        }
        self.budget.stats.shed_held_bytes.fetch_add(1, Relaxed);
        let text = "too many request bytes are held (max_held_bytes); try again later";
        Err(Error::new(ErrorKind::Shed, text))
    }

    /// Hold so many bytes more, if they fit. False, and nothing changed, when the process would hold too many.
    #[must_use]
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        let fits = add_within(&self.budget.bytes, bytes, self.budget.limit);
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// Give back so many bytes, at most what is held.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.bytes.fetch_sub(bytes, Relaxed);
    }

    /// Give back everything.
    pub fn release(&mut self) {
        self.shrink(self.bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

/// The error of a call beyond a limit on calls in flight. `what` has it: the process, or a cluster.
pub fn shed(what: &str, limit: usize) -> Error {
    let text =
        format!("{what} has {limit} calls in flight, its limit (max_in_flight); try again later");
    Error::new(ErrorKind::Shed, text)
}

/// How many calls may be in flight before one of low priority is shed: 70 % of the limit, rounded up.
pub const fn low_limit(limit: usize) -> usize {
    limit - limit / 10 * 3 - limit % 10 * 3 / 10
}

/// The error of a call of low priority beyond its part of a limit on calls in flight.
pub fn shed_low(what: &str, limit: usize) -> Error {
    let low = low_limit(limit);
    let text = format!(
        "{what} has {low} calls in flight, and calls with x-priority: low get no more than 70 % of its limit \
         (max_in_flight {limit}); try again later"
    );
    Error::new(ErrorKind::Shed, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_bytes(limit: usize) -> Arc<HeldBytes> {
        Arc::new(HeldBytes::new(limit, Arc::default()))
    }

    #[test]
    fn calls_of_low_priority_get_seven_tenths_and_at_least_one() {
        for (limit, low) in [(0, 0), (1, 1), (3, 3), (10, 7), (15, 11), (1024, 717)] {
            assert_eq!(low_limit(limit), low, "of {limit}");
        }
        assert!(low_limit(usize::MAX) < usize::MAX);
    }

    #[test]
    fn held_bytes_grow_to_the_limit_of_the_process_and_come_back() {
        let budget = held_bytes(100);
        let (mut one, mut two) = (Held::new(budget.clone()), Held::new(budget.clone()));
        assert!(one.try_grow(60) && two.try_grow(40));
        assert!(!two.try_grow(1));
        assert!(two.try_grow(0), "nothing always fits");
        assert_eq!((one.bytes, two.bytes, budget.bytes()), (60, 40, 100));
        one.release();
        one.release();
        assert!(two.try_grow(60));
        drop(two);
        drop(one);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn a_share_gives_back_no_more_than_it_holds() {
        let budget = held_bytes(100);
        let (mut one, mut two) = (Held::new(budget.clone()), Held::new(budget.clone()));
        assert!(one.try_grow(10) && two.try_grow(10));
        one.shrink(4);
        one.shrink(1000);
        assert_eq!((one.bytes, budget.bytes()), (0, 10));
    }

    #[test]
    fn a_size_that_would_overflow_is_refused() {
        let mut held = Held::new(Arc::new(HeldBytes::new(usize::MAX, Arc::default())));
        assert!(held.try_grow(1));
        assert!(!held.try_grow(usize::MAX));
    }
}
