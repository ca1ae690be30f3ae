//! An endpoint: some slots, and a queue before them, first come, first served.

use std::collections::VecDeque;

/// Attempts are known by their numbers.
#[derive(Debug, Default)]
pub struct Station {
    slots: usize,
    /// Most attempts that may wait; None: any number.
    limit: Option<usize>,
    busy: usize,
    queue: VecDeque<usize>,
    /// What came while it was frozen, and waits for the end of that.
    held: Vec<usize>,
    /// How often it has lost everything it was doing.
    pub epoch: u32,
    /// Attempts that came and are not answered or given up: what the endpoint itself would report.
    pub in_flight: u32,
}

/// What becomes of an attempt that comes.
#[derive(Debug, PartialEq, Eq)]
pub enum Admitted {
    Served,
    Queued,
    Full,
}

// === impl Station ===

impl Station {
    pub fn new(slots: usize, limit: Option<usize>) -> Self {
        Self {
            slots,
            limit,
            ..Self::default()
        }
    }

    pub fn admit(&mut self, attempt: usize) -> Admitted {
        if self.busy < self.slots {
            self.busy += 1;
            return Admitted::Served;
        }
        if self.limit.is_some_and(|limit| self.queue.len() >= limit) {
            return Admitted::Full;
        }
        self.queue.push_back(attempt);
        Admitted::Queued
    }

    /// A slot is free: the next attempt takes it.
    pub fn next(&mut self) -> Option<usize> {
        let next = self.queue.pop_front();
        self.busy -= usize::from(next.is_none());
        next
    }

    pub fn hold(&mut self, attempt: usize) {
        self.held.push(attempt);
    }

    pub fn release(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.held)
    }

    /// The caller gave up: an attempt that waits leaves.
    pub fn forget(&mut self, attempt: usize) {
        self.queue.retain(|one| *one != attempt);
    }

    /// Everything it was doing is lost.
    pub fn crash(&mut self) {
        self.epoch += 1;
        self.busy = 0;
        self.queue.clear();
        self.held.clear();
    }
}
