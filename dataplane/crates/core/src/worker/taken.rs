//! The batches that Python has: the one that it works on, and one that it prepares meanwhile. Tells for how long each
//! kept the model busy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outbox::Outbox;
use super::queue::Call;
use super::tuner::Served;

/// Calls that Python is to answer together.
pub struct Handed {
    pub calls: Vec<Call>,
    /// Some call was there when it was asked for one.
    pub was_waiting: bool,
    pub outbox: Arc<Outbox>,
}

#[derive(Debug, Default)]
pub struct Taken {
    now: Option<Batch>,
    beside: Option<Batch>,
}

#[derive(Debug)]
struct Batch {
    /// When Python began to work on it.
    at: Instant,
    batch: Served,
}

/// A batch that is done with.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    pub batch: Served,
    pub took: Duration,
}

// === impl Taken ===

impl Taken {
    /// Python works on a batch from now on.
    pub fn take(&mut self, batch: Served, at: Instant) {
        self.now = Some(Batch { at, batch });
    }

    /// Python prepares a batch while the model works on the one before.
    pub fn take_beside(&mut self, batch: Served, at: Instant) {
        self.beside = Some(Batch { at, batch });
    }

    /// Python has done with all that it had.
    pub fn done(&mut self, at: Instant) -> Option<Done> {
        self.beside = None;
        self.now.take().map(|batch| batch.done(at))
    }

    /// Python has done with one batch, and goes on with the one beside it, on which it has `worked` already. That one
    /// has waited for the model, too, which is no part of its time.
    pub fn turn(&mut self, worked: Duration, at: Instant) -> Option<Done> {
        let done = self.now.take().map(|batch| batch.done(at));
        self.now = self.beside.take().map(|batch| Batch {
            at: at.checked_sub(worked).unwrap_or(at),
            ..batch
        });
        done
    }
}

// === impl Batch ===

impl Batch {
    fn done(self, at: Instant) -> Done {
        Done {
            batch: self.batch,
            took: at.saturating_duration_since(self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_beside_another_has_worked_while_it_was_prepared_and_when_it_had_its_turn() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let batch = |rows| Served::of([(rows, 0)].into_iter());
        let took = |rows, ms| {
            Some(Done {
                batch: batch(rows),
                took: Duration::from_millis(ms),
            })
        };
        let mut taken = Taken::default();
        assert_eq!(taken.done(at(0)), None);
        taken.take(batch(2), at(0));
        taken.take_beside(batch(4), at(5));
        assert_eq!(taken.turn(Duration::from_millis(2), at(10)), took(2, 10));
        assert_eq!(taken.done(at(20)), took(4, 12));
        assert_eq!(taken.done(at(30)), None);
    }

    #[test]
    fn a_batch_that_was_given_up_beside_another_is_forgotten_with_it() {
        let start = Instant::now();
        let mut taken = Taken::default();
        let batch = Served::of([(1, 0)].into_iter());
        taken.take(batch, start);
        taken.take_beside(batch, start);
        assert!(taken.done(start).is_some());
        assert_eq!(taken.turn(Duration::ZERO, start), None);
        assert_eq!(taken.done(start), None);
    }
}
