//! When a batch goes to the model, and with which calls: learnt from how long batches took and how calls come.
//!
//! Pure: no clock, no lock, no calls, so that tests run it in virtual time (tuner_tests.rs).
//! - What waits goes at once, as much of it as a batch holds; so batches grow with the load by themselves.
//! - Where that would be too late for a call in it, the batch is the one after which most calls are in time. A call
//!   that would be late even alone waits until nothing else does.
//! - A batch holds calls of one group, which the model can get together, beginning with the oldest call of all. So a
//!   call waits for no more calls of the model than where all groups go at once. Groups that take a moment do that.
//! - A batch is held for the next call only where calls come so much faster than the model answers that those in it
//!   lose less by waiting than the next one gains, and none of them becomes late.

use std::time::{Duration, Instant};

use super::group_times::GroupTimes;
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
    /// As in [`Call`](super::queue::Call).
    pub group: u64,
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

/// A batch that the model has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    pub calls: usize,
    pub rows: usize,
    /// How many groups its calls were of.
    pub groups: usize,
    /// One of them.
    pub group: u64,
}

#[derive(Debug)]
pub struct Tuner {
    batching: Batching,
    times: GroupTimes,
    gaps: Gaps,
    /// The share of the calls that are of the group of the one before.
    same: f64,
    last_group: Option<u64>,
    /// Until when the batch that waits now is held at most.
    held_until: Option<Instant>,
}

/// How much goes at once of what the model gets one after the other: the rest can still be left out, or be overtaken,
/// until then.
const APART_S: f64 = 0.001;

/// The share of its gain that waiting may cost: what is expected does not always come.
const CAUTION: f64 = 0.5;

/// Calls over which the share of one group is averaged.
const SAME_OF: f64 = 32.0;

/// Groups whose batch may be the first, where calls would be late.
const FIRST_GROUPS: usize = 4;

/// Batches looked ahead when calls would be late.
const AHEAD: usize = 4;

// === impl Tuner ===

impl Tuner {
    pub fn new(batching: Batching) -> Self {
        Self {
            batching,
            times: GroupTimes::default(),
            gaps: Gaps::default(),
            same: 1.0,
            last_group: None,
            held_until: None,
        }
    }

    /// A call has come.
    pub fn arrived(&mut self, now: Instant, group: u64) {
        self.gaps.arrived(now);
        let is_same = self
            .last_group
            .replace(group)
            .is_none_or(|last| last == group);
        self.same += (f64::from(u8::from(is_same)) - self.same) / SAME_OF;
    }

    /// A batch was worked on for a time.
    pub fn served(&mut self, batch: Served, took: Duration) {
        let took = took.as_secs_f64();
        if !self.batching.joins {
            let calls = batch.calls.max(1) as f64;
            self.times.add(batch.group, 1, took / calls);
        } else if batch.groups > 1 {
            let rows = batch.rows.div_ceil(batch.groups);
            self.times.add_to_all(rows, took / batch.groups as f64);
        } else {
            self.times.add(batch.group, batch.rows, took);
        }
    }

    /// Say what is to be done with the calls that wait, in the order in which they are to be answered; at most
    /// `max_calls` go. `waiting` is not empty.
    pub fn plan(&mut self, now: Instant, waiting: &[Pending], max_calls: usize) -> Plan {
        let in_time = |pending: &Pending| {
            let left = pending.deadline.saturating_duration_since(now);
            let times = self.times.of(pending.group);
            left.as_secs_f64() >= times.at_best(self.cost(pending.rows))
        };
        let mut able: Vec<usize> = (0..waiting.len())
            .filter(|&index| in_time(&waiting[index]))
            .collect();
        let is_late = able.is_empty();
        if is_late {
            able = (0..waiting.len()).collect();
        }
        if !self.batching.joins {
            self.held_until = None;
            return Plan::Take(self.apart(&able, max_calls));
        }
        let full = self.together(waiting, &able, max_calls);
        let plan = if !is_late && !self.is_safe(now, waiting, &able, &full) {
            Plan::Take(self.rescue(now, waiting, &able, full.len()))
        } else {
            let group = waiting[full[0]].group;
            let is_all = full.len() == waiting.len()
                && full.len() < max_calls
                && waiting.iter().all(|call| call.group == group);
            match self
                .hold(now, waiting, &full)
                .filter(|_| is_all && !is_late)
            {
                Some(until) => Plan::Hold(until),
                None => Plan::Take(full),
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

    /// The first of the calls that are answered one after the other, one at least.
    fn apart(&self, able: &[usize], max_calls: usize) -> Vec<usize> {
        let each = self.times.all().expected(1).max(1e-9);
        let most = ((APART_S / each) as usize).clamp(1, max_calls.max(1));
        able[..most.min(able.len())].to_vec()
    }

    /// The first call's batch, and those of other groups as long as all of them take a moment; ascending.
    fn together(&self, waiting: &[Pending], able: &[usize], max_calls: usize) -> Vec<usize> {
        let mut batch = Vec::new();
        let mut rest = able[..able.len().min(AHEAD * max_calls.max(1))].to_vec();
        let mut took = 0.0;
        while batch.len() < max_calls.max(1) && !rest.is_empty() {
            let next = self.of_one_group(waiting, &rest, max_calls.max(1) - batch.len());
            let rows = rows_of(waiting, &next).max(1);
            took += self.times.of(waiting[next[0]].group).expected(rows);
            if !batch.is_empty() && took > APART_S {
                break;
            }
            let group = waiting[next[0]].group;
            rest.retain(|&index| waiting[index].group != group);
            batch.extend(next);
        }
        batch.sort_unstable();
        batch
    }

    /// The first call, and those of its group that fit its batch.
    fn of_one_group(&self, waiting: &[Pending], able: &[usize], max_calls: usize) -> Vec<usize> {
        let group = waiting[able[0]].group;
        let (mut batch, mut rows) = (vec![able[0]], waiting[able[0]].rows);
        for &index in &able[1..] {
            let call = &waiting[index];
            if call.group != group {
                continue;
            }
            rows += call.rows;
            if batch.len() == max_calls || rows > self.batching.max_rows {
                break;
            }
            batch.push(index);
        }
        batch
    }

    /// Whether no call is late when a batch goes now: none in it, and none of the others that would be in the next ones.
    fn is_safe(&self, now: Instant, waiting: &[Pending], able: &[usize], batch: &[usize]) -> bool {
        let group = waiting[batch[0]].group;
        let rows = rows_of(waiting, batch).max(1);
        let ends = now + seconds(self.times.of(group).expected(rows));
        let mut left = self.batching.max_rows;
        let others = able.iter().map(|&index| &waiting[index]);
        batch.iter().all(|&index| ends <= waiting[index].deadline)
            && others.filter(|call| call.group != group).all(|call| {
                left = left.saturating_sub(call.rows);
                let alone = self.times.of(call.group).expected(call.rows.max(1));
                left == 0 || ends + seconds(alone) <= call.deadline
            })
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
        let rate = self.gaps.rate().min(self.times.all().best_rate() / rows);
        let mut best: Option<(f64, Vec<usize>)> = None;
        let sizes = (0..)
            .map(|power| 1 << power)
            .take_while(|&size| size < most);
        let all: Vec<(usize, f64)> = able.iter().copied().zip(left).collect();
        let groups = first_groups(waiting, &all);
        let tries = sizes
            .chain([most])
            .flat_map(|size| groups.iter().map(move |&group| (size, group)));
        for (size, group) in tries {
            let (batch, mut rest, mut at) = self.in_time(waiting, &all, group, size, 0.0);
            let mut met = batch.len();
            while met > 0 && !rest.is_empty() {
                let next = first_groups(waiting, &rest).into_iter().find_map(|group| {
                    let next = self.in_time(waiting, &rest, group, most, at);
                    (!next.0.is_empty()).then_some(next)
                });
                let Some((next, others, end)) = next else {
                    break;
                };
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

    /// The first calls of a group, `size` at most, that are all in time when they go together `at` seconds from now;
    /// those that can be in time after them; and when they have ended. Calls are (position, seconds left).
    fn in_time(
        &self,
        waiting: &[Pending],
        calls: &[(usize, f64)],
        group: u64,
        size: usize,
        at: f64,
    ) -> (Vec<usize>, Vec<(usize, f64)>, f64) {
        let rows = |call: &(usize, f64)| waiting[call.0].rows;
        // What a batch takes depends on who is in it, and who can be in it on what it takes.
        let times = self.times.of(group);
        let is_of_group = |call: &&(usize, f64)| waiting[call.0].group == group;
        let of_group = calls.iter().filter(is_of_group);
        let first: usize = of_group.take(size).map(rows).sum();
        let mut end = at + times.expected(first.clamp(1, self.batching.max_rows));
        let mut batch = Vec::new();
        let mut rest = Vec::new();
        for last_try in [false, true] {
            (batch, rest) = (Vec::new(), Vec::new());
            let mut taken = 0;
            for call in calls {
                let fits = taken == 0 || taken + rows(call) <= self.batching.max_rows;
                if is_of_group(&call) && call.1 >= end && batch.len() < size && fits {
                    taken += rows(call);
                    batch.push(call.0);
                } else if call.1 > end {
                    rest.push(*call);
                }
            }
            let takes = at + times.expected(taken.max(1));
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
        let times = self.times.of(waiting[batch[0]].group);
        let latest = first.checked_sub(seconds(times.at_worst(rows + 1)))?;
        let until = match self.batching.max_delay {
            Some(delay) => batch.iter().map(|&index| waiting[index].arrived).min()? + delay,
            None => {
                // Of its group a call comes so much later.
                let wait = self.gaps.next(now)? / self.same.max(0.01);
                let saved = gain(times, self.batching.max_rows, rows, batch.len(), wait)?;
                // Twice: it may come a little later than expected.
                let until = now + seconds(2.0 * wait);
                until.min(*self.held_until.get_or_insert(now + seconds(saved)))
            }
        };
        let until = until.min(latest);
        (until > now).then_some(until)
    }
}

// === impl Served ===

impl Served {
    /// Describe a batch by the rows and the group of each call.
    pub fn of(batch: impl Iterator<Item = (usize, u64)>) -> Self {
        let mut groups = Vec::new();
        let (mut calls, mut rows) = (0, 0);
        for (each, group) in batch {
            (calls, rows) = (calls + 1, rows + each);
            if groups.last() != Some(&group) {
                groups.push(group);
            }
        }
        groups.sort_unstable();
        groups.dedup();
        Self {
            calls,
            rows,
            groups: groups.len(),
            group: groups.first().copied().unwrap_or_default(),
        }
    }
}

/// Seconds of the model that are saved by waiting until the batch has one row more, or as many again, or is full,
/// while a call comes every `gap` seconds; `None` where that costs the calls more than it saves.
fn gain(times: &Times, max_rows: usize, rows: usize, calls: usize, gap: f64) -> Option<f64> {
    let each = rows as f64 / calls as f64;
    let most = max_rows - rows;
    [1, rows, most]
        .into_iter()
        .filter(|more| (1..=most).contains(more))
        .find_map(|more| {
            let saved = times.saved(rows, more)?;
            // All of them wait for `more` gaps, and `more` of them gain: the number is on both sides.
            let all = (rows + more) as f64 / each;
            (all * gap <= CAUTION * saved).then_some(saved)
        })
}

/// The groups of the first calls, few of them.
fn first_groups(waiting: &[Pending], calls: &[(usize, f64)]) -> Vec<u64> {
    let mut groups = Vec::with_capacity(FIRST_GROUPS);
    for group in calls.iter().map(|call| waiting[call.0].group) {
        if !groups.contains(&group) {
            groups.push(group);
        }
        if groups.len() == FIRST_GROUPS {
            break;
        }
    }
    groups
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
