//! Calls in flight, counted up to a limit. `tests/interleavings.rs` runs this file with threads in every order.

use std::sync::Arc;

use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Calls in flight, of a cluster or of the process.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    calls: Arc<AtomicUsize>,
}

/// One call in flight, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    calls: Arc<AtomicUsize>,
}

// === impl InFlight ===

impl InFlight {
    /// Count one more call; `None` when there are `limit` already. The limit comes with each call because a
    /// reload may change it.
    pub fn acquire(&self, limit: usize) -> Option<Permit> {
        add_within(&self.calls, 1, limit).then(|| Permit {
            calls: self.calls.clone(),
        })
    }

    /// Calls in flight now.
    pub fn count(&self) -> usize {
        self.calls.load(Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Relaxed);
    }
}

/// Add to a counter unless it would exceed the limit. Never above it, not even for a moment: an optimistic add
/// that is taken back could refuse another caller for whom there was room.
pub fn add_within(counter: &AtomicUsize, amount: usize, limit: usize) -> bool {
    let add = |now: usize| now.checked_add(amount).filter(|&sum| sum <= limit);
    counter.fetch_update(Relaxed, Relaxed, add).is_ok()
}
