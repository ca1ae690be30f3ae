//! An endpoint: some slots, and a queue before them, first come, first served.

use std::collections::VecDeque;

use dl_core::balancing::Nanos;

use crate::rule::Report;

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
    rate: Rate,
    /// How often it has lost everything it was doing.
    pub epoch: u32,
    /// Attempts that came and are not answered or given up: what the endpoint itself would report.
    pub in_flight: u32,
}

/// Answers and errors a second, and slots that are busy, of about the last second.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    answers: f64,
    errors: f64,
    busy: f64,
    at: Nanos,
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

    /// Let time pass; said before anything changes.
    pub fn pass(&mut self, now: Nanos) {
        let kept = (-((now - self.rate.at) as f64) / 1e9).exp();
        self.rate = Rate {
            answers: self.rate.answers * kept,
            errors: self.rate.errors * kept,
            busy: self.rate.busy * kept + self.busy as f64 * (1.0 - kept),
            at: now,
        };
    }

    /// Count an answer.
    pub fn answered(&mut self, is_ok: bool) {
        self.rate.answers += 1.0;
        self.rate.errors += f64::from(!is_ok);
    }

    /// What it says of its load.
    pub fn report(&self) -> Report {
        Report {
            utilization: self.rate.busy / self.slots as f64,
            queue: self.queue.len() as u32,
            rps: self.rate.answers,
            eps: self.rate.errors,
        }
    }

    /// Everything it was doing is lost.
    pub fn crash(&mut self) {
        self.epoch += 1;
        self.busy = 0;
        self.queue.clear();
        self.held.clear();
    }
}
