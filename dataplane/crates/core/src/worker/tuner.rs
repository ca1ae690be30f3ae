//! When a batch goes to the model, and with which calls: learnt from how long batches took and how calls come.
//!
//! Pure: no clock, no lock, no calls, so that tests run it in virtual time (tuner_tests.rs).
//! - What waits goes at once, as much of it as a batch holds; so batches grow with the load by themselves.
//! - Where that would be too late for a call in it, the batch is the one after which most calls are in time. A call
//!   that would be late even alone waits until nothing else does.
//! - A batch is held for the next call only where calls come so much faster than the model answers that those in it
//!   lose less by waiting than the next one gains, and none of them becomes late.

use std::time::{Duration, Instant};

use super::times::{Gaps, Times};

/// What is known of a model, and what its owner has set.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Whether the calls of a batch are one call of the model, and not one after the other.
    pub joins: bool,
    /// Most rows of a batch of several calls.
    pub max_rows: usize,
    /// How long the oldest call of a batch waits for others; `None`: as learnt.
    pub max_delay: Option<Duration>,
}

/// A call that waits, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    pub rows: usize,
    pub arrived: Instant,
    pub deadline: Instant,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    /// Positions of the calls that go now, ascending; never empty.
    Take(Vec<usize>),
    /// Nothing goes before this time, unless another call comes.
    Hold(Instant),
}

#[derive(Debug)]
pub struct Tuner {
    batching: Batching,
    times: Times,
    gaps: Gaps,
    /// Until when the batch that waits now is held at most.
    held_until: Option<Instant>,
}

/// How much of a batch whose calls are answered one after the other goes at once: the rest can still be left out, or
/// be overtaken, until then.
const APART_S: f64 = 0.001;

/// The share of its gain that waiting may cost: what is expected does not always come.
const CAUTION: f64 = 0.5;

/// Batches looked ahead when calls would be late.
const AHEAD: usize = 4;

// === impl Tuner ===

impl Tuner {
    pub fn new(batching: Batching) -> Self {
        Self {
            batching,
            times: Times::default(),
            gaps: Gaps::default(),
            held_until: None,
        }
    }

    /// A call has come.
    pub fn arrived(&mut self, now: Instant) {
        self.gaps.arrived(now);
    }

    /// A batch of `calls` with `rows` in all was worked on for a time.
    pub fn served(&mut self, calls: usize, rows: usize, took: Duration) {
        let took = took.as_secs_f64();
        if self.batching.joins {
            self.times.add(rows, took);
        } else {
            self.times.add(1, took / calls.max(1) as f64);
        }
    }

    /// Say what is to be done with the calls that wait, in the order in which they are to be answered; at most
    /// `max_calls` go. `waiting` is not empty.
    pub fn plan(&mut self, now: Instant, waiting: &[Pending], max_calls: usize) -> Plan {
        let in_time = |pending: &Pending| {
            let left = pending.deadline.saturating_duration_since(now);
            left.as_secs_f64() >= self.times.at_best(self.cost(pending.rows))
        };
        let mut able: Vec<usize> = (0..waiting.len())
            .filter(|&index| in_time(&waiting[index]))
            .collect();
        let is_late = able.is_empty();
        if is_late {
            able = (0..waiting.len()).collect();
        }
        let full = self.prefix(waiting, &able, max_calls);
        let took = self.times.expected(rows_of(waiting, full).max(1));
        let is_safe = |index: &usize| now + seconds(took) <= waiting[*index].deadline;
        let plan = if !self.batching.joins {
            Plan::Take(full.to_vec())
        } else if !is_late && !full.iter().all(is_safe) {
            Plan::Take(self.rescue(now, waiting, &able, full.len()))
        } else {
            let is_all = full.len() == waiting.len() && full.len() < max_calls;
            match self.hold(now, waiting, full).filter(|_| is_all && !is_late) {
                Some(until) => Plan::Hold(until),
                None => Plan::Take(full.to_vec()),
            }
        };
        if let Plan::Take(_) = plan {
            self.held_until = None;
        }
        plan
    }

    /// Rows, as `times` counts them.
    fn cost(&self, rows: usize) -> usize {
        if self.batching.joins { rows.max(1) } else { 1 }
    }

    /// The first of the calls, as many as fit one batch, and one at least.
    fn prefix<'a>(&self, waiting: &[Pending], able: &'a [usize], max_calls: usize) -> &'a [usize] {
        let most = if self.batching.joins {
            let mut rows = 0;
            able.iter()
                .take_while(|&&index| {
                    rows += waiting[index].rows;
                    rows <= self.batching.max_rows
                })
                .count()
        } else {
            let each = self.times.expected(1).max(1e-9);
            (APART_S / each) as usize
        };
        &able[..most.clamp(1, max_calls.max(1)).min(able.len())]
    }

    /// The batch after which most calls are in time, of those that have 1, 2, 4 ... of the calls in it.
    fn rescue(&self, now: Instant, waiting: &[Pending], able: &[usize], most: usize) -> Vec<usize> {
        let able = &able[..able.len().min(AHEAD * most)];
        let left: Vec<f64> = able
            .iter()
            .map(|&index| {
                waiting[index]
                    .deadline
                    .saturating_duration_since(now)
                    .as_secs_f64()
            })
            .collect();
        // In the meantime others come and wait, and no more of them lose by it than could have been answered.
        let rows = rows_of(waiting, able).max(1) as f64 / able.len() as f64;
        let rate = self.gaps.rate().min(self.times.best_rate() / rows);
        let mut best: Option<(f64, Vec<usize>)> = None;
        let sizes = (0..)
            .map(|power| 1 << power)
            .take_while(|&size| size < most);
        for size in sizes.chain([most]) {
            let all: Vec<(usize, f64)> = able.iter().copied().zip(left.iter().copied()).collect();
            let (batch, mut rest, mut at) = self.in_time(waiting, &all, size, 0.0);
            let mut met = batch.len();
            while met > 0 && !rest.is_empty() {
                let (next, others, end) = self.in_time(waiting, &rest, most, at);
                if next.is_empty() {
                    break;
                }
                met += next.len();
                (rest, at) = (others, end);
            }
            let worth = met as f64 - rate * at;
            if met > 0 && best.as_ref().is_none_or(|(most, _)| worth > *most) {
                best = Some((worth, batch));
            }
        }
        best.map_or_else(|| able[..1].to_vec(), |(_, batch)| batch)
    }

    /// The first calls, `size` at most, that are all in time when they go together `at` seconds from now; those that
    /// can be in time after them; and when they have ended. Calls are (position, seconds left).
    fn in_time(
        &self,
        waiting: &[Pending],
        calls: &[(usize, f64)],
        size: usize,
        at: f64,
    ) -> (Vec<usize>, Vec<(usize, f64)>, f64) {
        let rows = |call: &(usize, f64)| waiting[call.0].rows;
        // What a batch takes depends on who is in it, and who can be in it on what it takes.
        let first: usize = calls.iter().take(size).map(rows).sum();
        let mut end = at + self.times.expected(first.clamp(1, self.batching.max_rows));
        let mut batch = Vec::new();
        let mut rest = Vec::new();
        for last_try in [false, true] {
            (batch, rest) = (Vec::new(), Vec::new());
            let mut taken = 0;
            for call in calls {
                let fits = taken == 0 || taken + rows(call) <= self.batching.max_rows;
                if call.1 >= end && batch.len() < size && fits {
                    taken += rows(call);
                    batch.push(call.0);
                } else if call.1 > end {
                    rest.push(*call);
                }
            }
            let takes = at + self.times.expected(taken.max(1));
            if last_try || takes >= end || batch.len() == size {
                end = end.max(takes);
                break;
            }
            end = takes;
        }
        (batch, rest, end)
    }

    /// Until when a batch that is not full waits for the next call; `None` where it goes now.
    fn hold(&mut self, now: Instant, waiting: &[Pending], batch: &[usize]) -> Option<Instant> {
        let rows = rows_of(waiting, batch).max(1);
        if rows >= self.batching.max_rows {
            return None;
        }
        let first = batch.iter().map(|&index| waiting[index].deadline).min()?;
        let latest = first.checked_sub(seconds(self.times.at_worst(rows + 1)))?;
        let until = match self.batching.max_delay {
            Some(delay) => batch.iter().map(|&index| waiting[index].arrived).min()? + delay,
            None => {
                let wait = self.gaps.next(now)?;
                let saved = self.gain(rows, batch.len(), wait)?;
                // Twice: it may come a little later than expected.
                let until = now + seconds(2.0 * wait);
                until.min(*self.held_until.get_or_insert(now + seconds(saved)))
            }
        };
        let until = until.min(latest);
        (until > now).then_some(until)
    }

    /// Seconds of the model that are saved by waiting until the batch has one row more, or as many again, or is full,
    /// while a call comes every `gap` seconds; `None` where that costs the calls more than it saves.
    fn gain(&self, rows: usize, calls: usize, gap: f64) -> Option<f64> {
        let each = rows as f64 / calls as f64;
        let most = self.batching.max_rows - rows;
        [1, rows, most]
            .into_iter()
            .filter(|more| (1..=most).contains(more))
            .find_map(|more| {
                let saved = self.times.saved(rows, more)?;
                // All of them wait for `more` gaps, and `more` of them gain: the number is on both sides.
                let all = (rows + more) as f64 / each;
                (all * gap <= CAUTION * saved).then_some(saved)
            })
    }
}

fn rows_of(waiting: &[Pending], batch: &[usize]) -> usize {
    batch.iter().map(|&index| waiting[index].rows).sum()
}

fn seconds(time: f64) -> Duration {
    Duration::try_from_secs_f64(time).unwrap_or(Duration::MAX / 4)
}

#[cfg(test)]
#[path = "tuner_tests.rs"]
mod tests;
