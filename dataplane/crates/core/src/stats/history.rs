//! The last ten minutes, second by second: made once a second from the counters that the request path updates, which
//! gains nothing by it. Memory: 28 bytes for each model and second with calls, 8 more for each further code of its
//! errors, and 1.5 KB for each model that was ever called: 9 MB for 500 models that are always busy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::counters::{KindCounters, Label};
use super::histogram::Snapshot;
use super::totals::CallStats;
use crate::code::Code;
use crate::error::{ErrorKind, TABLE};

mod line;

use line::Line;
pub use line::{SECONDS, Second};

const CODES: usize = Code::COUNT;
const KINDS: usize = ErrorKind::COUNT;

/// What is known of the last seconds.
#[derive(Default)]
pub struct History {
    /// Number of the last second; 0 before the first.
    now: u64,
    /// When that was.
    at: Option<SystemTime>,
    seen: Seen,
    total: Line,
    models: BTreeMap<Box<str>, Tracked>,
    unrouted: Tracked,
    origins: Origins,
}

/// Which of the last seconds were looked at, by number.
struct Seen([bool; SECONDS]);

/// The counters of a model, and what they said a second ago.
#[derive(Default)]
struct Tracked {
    /// None once it is gone, and its calls have ended.
    stats: Option<Arc<CallStats>>,
    is_routed: bool,
    before: Option<Box<Counts>>,
    line: Line,
}

#[derive(Clone)]
struct Counts {
    codes: [u64; CODES],
    seconds: Snapshot,
}

/// Whose the errors of all models are: those of this program by kind, those that endpoints answered by code.
#[derive(Default)]
struct Origins {
    /// Calls by code, counted since the start.
    codes: [u64; CODES],
    kinds: [u64; KINDS],
    /// Of `codes`, those that came from endpoints.
    passed: [u64; CODES],
}

/// Labels of [`Second::kinds`] of all models: an error kind, else a code.
pub fn kind_name(label: u8) -> &'static str {
    let label = usize::from(label);
    if label < KINDS {
        <ErrorKind as Label>::value(label)
    } else {
        Code::value(label - KINDS)
    }
}

/// Labels of [`Second::kinds`] of one model.
pub fn code_name(label: u8) -> &'static str {
    Code::value(label.into())
}

// === impl History ===

impl History {
    /// Look at all counters, at the end of a second. Seconds that were left out are gaps, and what was counted in them is
    /// in this one; a second that is not later than the last is left to the next.
    ///
    /// Args: `models`: those that have a route now; `unrouted`: calls that none of them took; `kinds`: errors of this
    /// program.
    pub fn add<'a>(
        &mut self,
        second: u64,
        at: SystemTime,
        models: impl Iterator<Item = (&'a str, &'a Arc<CallStats>)>,
        unrouted: &Arc<CallStats>,
        kinds: &KindCounters,
    ) {
        if second <= self.now {
            return;
        }
        self.seen.add(self.now, second);
        (self.now, self.at) = (second, Some(at));
        let mut all = Counts::ZERO;
        for (name, stats) in models {
            match self.models.get_mut(name) {
                Some(tracked) => tracked.route(stats),
                None if stats.used().next().is_some() => {
                    let mut tracked = Tracked::default();
                    tracked.route(stats);
                    self.models.insert(name.into(), tracked);
                }
                None => {}
            }
        }
        self.unrouted.route(unrouted);
        self.unrouted.look(second, &mut all);
        for tracked in self.models.values_mut() {
            tracked.look(second, &mut all);
        }
        self.models
            .retain(|_, it| it.stats.is_some() || !it.line.is_empty());
        // After the calls: each error of ours is counted before its call is.
        let kinds = kinds.counts();
        // Calls of no known method have no counters but this.
        let unknown = ErrorKind::UnknownMethod.index();
        let unknown = kinds[unknown] - self.origins.kinds[unknown];
        all.codes[Code::Unimplemented.index()] += unknown;
        let errors = self.origins.add(&all.codes, &kinds);
        let requests = all.codes.iter().sum();
        self.total.add(second, requests, &all.seconds, &errors);
        self.total.forget(second);
    }

    /// Number and time of the last second; none before the first.
    pub fn end(&self) -> Option<(u64, SystemTime)> {
        Some((self.now, self.at?))
    }

    /// All models' seconds, and those of calls without a model, the oldest first; none for a gap.
    pub fn total(&self) -> Vec<Option<Second>> {
        self.with_gaps(&self.total)
    }

    /// One model's seconds; none if it has no calls in them.
    pub fn model(&self, name: &str) -> Option<Vec<Option<Second>>> {
        Some(self.with_gaps(&self.models.get(name)?.line))
    }

    /// The seconds of every model that has any.
    pub fn models(&self) -> impl Iterator<Item = (&str, Vec<Option<Second>>)> {
        let models = self.models.iter();
        models.map(|(name, tracked)| (&**name, self.with_gaps(&tracked.line)))
    }

    /// What was counted in the last second, of all.
    pub fn last(&self) -> Second {
        self.total.last(self.now).unwrap_or_default()
    }

    /// What was counted in the last second, of each model that had calls.
    pub fn last_of_models(&self) -> impl Iterator<Item = (&str, Second)> {
        let models = self.models.iter();
        models.filter_map(|(name, it)| Some((&**name, it.line.last(self.now)?)))
    }

    /// The seconds of a model that has no calls in them.
    pub fn quiet(&self) -> Vec<Option<Second>> {
        self.with_gaps(&Line::default())
    }

    fn with_gaps(&self, line: &Line) -> Vec<Option<Second>> {
        let length = self.now.min(SECONDS as u64);
        let first = self.now - length + 1;
        let seconds = line.seconds(self.now, length as usize);
        let numbered = (first..).zip(seconds);
        numbered
            .map(|(number, second)| self.seen.has(number).then_some(second))
            .collect()
    }
}

// === impl Seen ===

impl Default for Seen {
    fn default() -> Self {
        Self([false; SECONDS])
    }
}

impl Seen {
    /// A second was looked at; those between it and `last` were not.
    fn add(&mut self, last: u64, second: u64) {
        // More than all of them is all of them.
        let first = (last + 1).max(second.saturating_sub(SECONDS as u64) + 1);
        for number in first..second {
            self.0[number as usize % SECONDS] = false;
        }
        self.0[second as usize % SECONDS] = true;
    }

    fn has(&self, second: u64) -> bool {
        self.0[second as usize % SECONDS]
    }
}

// === impl Tracked ===

impl Tracked {
    /// The model has a route, and its calls are counted here.
    fn route(&mut self, stats: &Arc<CallStats>) {
        self.is_routed = true;
        match &self.stats {
            Some(known) if Arc::ptr_eq(known, stats) => {}
            // New, or it went and came back within a second.
            _ => {
                self.stats = Some(stats.clone());
                self.before = None;
            }
        }
    }

    /// Note what was counted since the last look, and add it to all.
    fn look(&mut self, second: u64, all: &mut Counts) {
        let is_routed = std::mem::take(&mut self.is_routed);
        if let Some(stats) = &self.stats {
            // Calls that came before a reload took the route end later, and keep the counters until then.
            let is_last = !is_routed && Arc::strong_count(stats) == 1;
            let now = Counts::of(stats);
            let before = self.before.as_deref().unwrap_or(&Counts::ZERO);
            if now.codes != before.codes {
                let counted = now.since(before);
                all.add(&counted);
                let errors = counted.errors();
                self.line
                    .add(second, counted.requests(), &counted.seconds, &errors);
                self.before = Some(Box::new(now));
            }
            if is_last {
                (self.stats, self.before) = (None, None);
            }
        }
        self.line.forget(second);
    }
}

// === impl Counts ===

impl Counts {
    const ZERO: Self = Self {
        codes: [0; CODES],
        seconds: Snapshot::EMPTY,
    };

    fn of(stats: &CallStats) -> Self {
        let mut counts = Self::ZERO;
        for (_, counters) in stats.used() {
            add(&mut counts.codes, &counters.codes.counts());
            counts.seconds.add(&counters.seconds.snapshot());
        }
        counts
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            codes: std::array::from_fn(|i| self.codes[i].saturating_sub(before.codes[i])),
            seconds: self.seconds.since(&before.seconds),
        }
    }

    fn add(&mut self, other: &Self) {
        add(&mut self.codes, &other.codes);
        self.seconds.add(&other.seconds);
    }

    fn requests(&self) -> u64 {
        self.codes.iter().sum()
    }

    /// (label, count) of each code but OK.
    fn errors(&self) -> Vec<(usize, u64)> {
        let codes = self.codes.iter().copied().enumerate().skip(1);
        codes.filter(|&(_, count)| count > 0).collect()
    }
}

fn add(counts: &mut [u64; CODES], more: &[u64; CODES]) {
    for (count, more) in counts.iter_mut().zip(more) {
        *count += more;
    }
}

// === impl Origins ===

impl Origins {
    /// Add calls by code, and all errors of this program so far; return (label, count) of what is new.
    fn add(&mut self, codes: &[u64; CODES], kinds: &[u64; KINDS]) -> Vec<(usize, u64)> {
        add(&mut self.codes, codes);
        let mut own = [0; CODES];
        let mut new = Vec::new();
        for (kind, row) in TABLE.iter().enumerate() {
            own[row.code.index()] += kinds[kind];
            new.push((kind, kinds[kind].saturating_sub(self.kinds[kind])));
        }
        self.kinds = *kinds;
        for code in Code::ALL.map(Label::index).into_iter().skip(1) {
            // An error of ours may be counted a second before its call is: what came from endpoints never sinks.
            let passed = self.codes[code]
                .saturating_sub(own[code])
                .max(self.passed[code]);
            new.push((KINDS + code, passed - self.passed[code]));
            self.passed[code] = passed;
        }
        new.retain(|&(_, count)| count > 0);
        new
    }
}

#[cfg(test)]
#[path = "history/history_tests.rs"]
mod tests;
