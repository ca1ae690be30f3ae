//! What was counted in each of the last seconds, of one model or of all: only seconds with calls take room.

use std::collections::VecDeque;

use crate::stats::Snapshot;

/// Seconds that are kept.
pub const SECONDS: usize = 600;
/// By how much a line grows: doubling would waste half of its memory.
const GROWTH: usize = 32;

/// The calls of one second: 20 bytes.
#[derive(Clone, Copy)]
struct Entry {
    requests: u32,
    /// p50, p90 and p99 in ms.
    quantiles_ms: [f32; 3],
    /// The second's number, of which a line spans far fewer than there are of these.
    second: u16,
}

/// The errors of one kind in one second: 8 bytes.
#[derive(Clone, Copy)]
struct Errors {
    count: u32,
    second: u16,
    kind: u8,
}

/// What was counted in one second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Second {
    pub requests: u32,
    /// Those that ended in another code than OK.
    pub errors: u32,
    /// (label, count) of errors.
    pub kinds: Vec<(u8, u32)>,
    /// p50, p90 and p99 in ms, if there were calls.
    pub quantiles_ms: Option<[f32; 3]>,
}

/// The seconds of one model, or of all.
#[derive(Default)]
pub struct Line {
    entries: VecDeque<Entry>,
    errors: VecDeque<Errors>,
}

// === impl Line ===

impl Line {
    /// Add what was counted in a second that is later than all before.
    ///
    /// Args: `errors`: (label, count), none of them 0.
    pub fn add(&mut self, second: u64, requests: u64, seconds: &Snapshot, errors: &[(usize, u64)]) {
        let number = second as u16;
        for &(kind, count) in errors {
            grow(&mut self.errors);
            self.errors.push_back(Errors {
                count: narrow(count),
                second: number,
                kind: kind as u8,
            });
        }
        if requests > 0 {
            let quantile = |q| seconds.quantile(q).map_or(f32::NAN, |s| (s * 1e3) as f32);
            grow(&mut self.entries);
            self.entries.push_back(Entry {
                requests: narrow(requests),
                quantiles_ms: [0.5, 0.9, 0.99].map(quantile),
                second: number,
            });
        }
    }

    /// Forget what is older than the last [`SECONDS`] before and with `now`.
    pub fn forget(&mut self, now: u64) {
        let is_old = |second: u16| usize::from((now as u16).wrapping_sub(second)) >= SECONDS;
        while self.entries.front().is_some_and(|it| is_old(it.second)) {
            self.entries.pop_front();
        }
        while self.errors.front().is_some_and(|it| is_old(it.second)) {
            self.errors.pop_front();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.errors.is_empty()
    }

    /// The last `length` seconds up to `now`, the oldest first.
    pub fn seconds(&self, now: u64, length: usize) -> Vec<Second> {
        let mut seconds = vec![Second::default(); length];
        let place = |second: u16| {
            let age = usize::from((now as u16).wrapping_sub(second));
            length.checked_sub(age + 1)
        };
        for entry in &self.entries {
            if let Some(place) = place(entry.second) {
                let second = &mut seconds[place];
                second.requests = entry.requests;
                let [p50, ..] = entry.quantiles_ms;
                second.quantiles_ms = (!p50.is_nan()).then_some(entry.quantiles_ms);
            }
        }
        for errors in &self.errors {
            if let Some(place) = place(errors.second) {
                seconds[place].kinds.push((errors.kind, errors.count));
                seconds[place].errors += errors.count;
            }
        }
        seconds
    }

    /// The second `now`; none if nothing was counted in it.
    pub fn last(&self, now: u64) -> Option<Second> {
        let is_now = |second: u16| second == now as u16;
        let kinds = self.errors.iter().rev();
        let kinds: Vec<_> = kinds
            .take_while(|it| is_now(it.second))
            .map(|it| (it.kind, it.count))
            .collect();
        let entry = self.entries.back().filter(|it| is_now(it.second));
        if entry.is_none() && kinds.is_empty() {
            return None;
        }
        let quantiles = entry.map(|it| it.quantiles_ms);
        Some(Second {
            requests: entry.map_or(0, |it| it.requests),
            errors: kinds.iter().map(|(_, count)| count).sum(),
            kinds,
            quantiles_ms: quantiles.filter(|[p50, ..]| !p50.is_nan()),
        })
    }

    /// Bytes that it holds.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.errors.capacity() * size_of::<Errors>()
    }
}

fn grow<T>(queue: &mut VecDeque<T>) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(GROWTH);
    }
}

fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
