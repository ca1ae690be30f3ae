//! What a run is judged by (docs/simulate.md names the figures). Times of calls are in ms, from arrival to end,
//! however a call ended.

use std::collections::BTreeMap;
use std::ops::Range;

use dl_core::balancing::{Code, Nanos};
use serde::Serialize;

use crate::run::{Call, Run};
use crate::scenario::{Kind, nanos};
use crate::timeline::Window;

const EJECT_BIN: Nanos = 200_000_000;
const RESTORE_BIN: Nanos = 1_000_000_000;
/// Bins of the course of a run.
const BINS: Nanos = 60;

#[derive(Serialize)]
pub struct Report {
    pub policy: String,
    pub seed: u64,
    pub calls: usize,
    pub errors: BTreeMap<&'static str, usize>,
    #[serde(flatten)]
    pub all: Summary,
    /// Attempts for each call.
    pub amplification: f64,
    /// Of calls that came after the last fault.
    pub errors_after_percent: Option<f64>,
    pub bad_share_percent: Option<f64>,
    pub eject_s: Option<f64>,
    pub restore_s: Option<f64>,
    /// After the first fault: until the first attempt at an endpoint that had it.
    pub first_call_s: Option<f64>,
    pub classes: BTreeMap<String, Summary>,
    pub course: Course,
}

/// Calls in figures; times in ms.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    pub errors_percent: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

/// How it went over time, in bins of `bin_s`.
#[derive(Serialize)]
pub struct Course {
    pub bin_s: f64,
    pub calls: Vec<usize>,
    pub errors: Vec<usize>,
    pub p50_ms: Vec<f64>,
    pub p99_ms: Vec<f64>,
    /// When a fault was active, and at which endpoints.
    pub faults: Vec<(f64, f64, Vec<usize>)>,
    /// Of each endpoint, the attempts that were sent to it.
    pub attempts: Vec<Vec<u32>>,
}

// === impl Report ===

impl Report {
    pub fn new(policy: &str, seed: u64, run: &Run<'_>) -> Self {
        let classes = run.scenario.classes();
        let warm = nanos(run.scenario.warmup_s);
        let is_counted =
            |call: &&Call| call.arrival.at >= warm && classes[call.arrival.class].counts();
        let counted: Vec<&Call> = run.calls.iter().filter(is_counted).collect();
        let span = run.timeline.span();
        let end = nanos(run.scenario.duration_s);
        let after = span.as_ref().filter(|span| span.end < end).map(|span| {
            let after = counted.iter().filter(|call| call.arrival.at >= span.end);
            Summary::new(after.copied()).errors_percent
        });
        let mut errors = BTreeMap::new();
        for call in &counted {
            if let Some((code, _)) = call.end.filter(|(code, _)| *code != Code::Ok) {
                *errors.entry(code.name()).or_insert(0) += 1;
            }
        }
        let class = |(number, class): (usize, &crate::scenario::Class)| {
            let of = run
                .calls
                .iter()
                .filter(|call| call.arrival.class == number && call.arrival.at >= warm);
            (class.name.clone(), Summary::new(of))
        };
        let shares = Shares::new(run);
        Self {
            policy: policy.to_owned(),
            seed,
            calls: counted.len(),
            errors,
            all: Summary::new(counted.iter().copied()),
            amplification: run.attempts.len() as f64 / run.calls.len().max(1) as f64,
            errors_after_percent: after,
            bad_share_percent: shares.as_ref().and_then(Shares::bad_percent),
            eject_s: shares.as_ref().and_then(Shares::eject_s),
            restore_s: shares.as_ref().and_then(|shares| shares.restore_s(end)),
            first_call_s: shares.as_ref().and_then(Shares::first_call_s),
            classes: classes.iter().enumerate().map(class).collect(),
            course: Course::new(run),
        }
    }
}

// === impl Summary ===

impl Summary {
    fn new<'a>(calls: impl Iterator<Item = &'a Call>) -> Self {
        let (mut times, mut errors) = (Vec::new(), 0);
        for call in calls {
            // A call that nobody ended would be a fault of the simulator.
            let (code, at) = call.end.unwrap_or((Code::Unknown, call.deadline));
            errors += usize::from(code != Code::Ok);
            times.push(at - call.arrival.at);
        }
        times.sort_unstable();
        Self {
            errors_percent: 100.0 * errors as f64 / times.len().max(1) as f64,
            p50_ms: quantile(&times, 0.5),
            p99_ms: quantile(&times, 0.99),
            p999_ms: quantile(&times, 0.999),
            max_ms: quantile(&times, 1.0),
        }
    }
}

/// The nearest rank, in ms; 0 of nothing.
fn quantile(sorted: &[Nanos], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.max(1) - 1)
        .map_or(0.0, |time| *time as f64 / 1e6)
}

// === impl Course ===

impl Course {
    fn new(run: &Run<'_>) -> Self {
        let end = nanos(run.scenario.duration_s);
        let bin = (end / BINS).max(1);
        let count = (end.div_ceil(bin)) as usize;
        let classes = run.scenario.classes();
        let mut calls = vec![Vec::new(); count];
        for call in run
            .calls
            .iter()
            .filter(|call| classes[call.arrival.class].counts())
        {
            if let Some(calls) = calls.get_mut((call.arrival.at / bin) as usize) {
                calls.push(call);
            }
        }
        let summaries: Vec<Summary> = calls
            .iter()
            .map(|calls| Summary::new(calls.iter().copied()))
            .collect();
        let mut attempts = vec![vec![0; count]; run.scenario.endpoints.count];
        for attempt in &run.attempts {
            if let Some(sent) = attempts[attempt.slot].get_mut((attempt.started / bin) as usize) {
                *sent += 1;
            }
        }
        let is_error = |call: &&&Call| call.end.is_none_or(|(code, _)| code != Code::Ok);
        let seconds = |at: Nanos| at as f64 / 1e9;
        let fault = |window: &Window| {
            let (from, to) = (seconds(window.time.start), seconds(window.time.end));
            (from, to, window.endpoints.clone())
        };
        Self {
            faults: run.timeline.windows.iter().map(fault).collect(),
            bin_s: bin as f64 / 1e9,
            errors: calls
                .iter()
                .map(|calls| calls.iter().filter(is_error).count())
                .collect(),
            calls: calls.iter().map(Vec::len).collect(),
            p50_ms: summaries.iter().map(|one| one.p50_ms).collect(),
            p99_ms: summaries.iter().map(|one| one.p99_ms).collect(),
            attempts,
        }
    }
}

/// Attempts at endpoints with the first fault, against those at all.
struct Shares {
    fault: Range<Nanos>,
    /// (time, whether the endpoint is one with the fault)
    attempts: Vec<(Nanos, bool)>,
    /// The share of the attempts that those endpoints get when all is well.
    fair: f64,
}

// === impl Shares ===

impl Shares {
    /// None where no fault stays with some of the endpoints.
    fn new(run: &Run<'_>) -> Option<Self> {
        let count = run.scenario.endpoints.count;
        let is_partial = |kind| !matches!(kind, Kind::Join | Kind::Overload);
        let windows = &run.timeline.windows;
        let mut windows = windows.iter().filter(|one| is_partial(one.kind));
        let first = windows.next()?;
        let mut last = first;
        for window in windows {
            if window.endpoints != first.endpoints {
                return None;
            }
            last = window;
        }
        if first.endpoints.len() == count {
            return None;
        }
        let is_bad = |slot: usize| first.endpoints.contains(&slot);
        let attempts = run
            .attempts
            .iter()
            .map(|one| (one.started, is_bad(one.slot)));
        let weight = |slots: &mut dyn Iterator<Item = usize>| -> f64 {
            slots
                .map(|slot| f64::from(run.scenario.weight(slot)) * run.scenario.speed(slot))
                .sum()
        };
        Some(Self {
            fault: first.time.start..last.time.end,
            attempts: attempts.collect(),
            fair: weight(&mut first.endpoints.iter().copied()) / weight(&mut (0..count)),
        })
    }

    /// The share of the faulty endpoints in a stretch of time; None without attempts.
    fn share(&self, time: Range<Nanos>) -> Option<f64> {
        let begin = self.attempts.partition_point(|(at, _)| *at < time.start);
        let end = self.attempts.partition_point(|(at, _)| *at < time.end);
        let attempts = &self.attempts[begin..end.max(begin)];
        let bad = attempts.iter().filter(|(_, is_bad)| *is_bad).count();
        (!attempts.is_empty()).then(|| bad as f64 / attempts.len() as f64)
    }

    fn bad_percent(&self) -> Option<f64> {
        self.share(self.fault.clone()).map(|share| 100.0 * share)
    }

    /// The start of the first bin of which something is true, in s since `from`.
    fn first_bin(
        &self,
        time: Range<Nanos>,
        bin: Nanos,
        is_it: impl Fn(f64) -> bool,
    ) -> Option<f64> {
        let starts = (0..).map(|number| time.start + number * bin);
        let mut starts = starts.take_while(|start| start + bin <= time.end);
        let found = starts.find(|start| self.share(*start..start + bin).is_some_and(&is_it));
        found.map(|start| (start - time.start) as f64 / 1e9)
    }

    fn eject_s(&self) -> Option<f64> {
        self.first_bin(self.fault.clone(), EJECT_BIN, |share| {
            share < 0.1 * self.fair
        })
    }

    fn restore_s(&self, end: Nanos) -> Option<f64> {
        self.first_bin(self.fault.end..end, RESTORE_BIN, |share| {
            share >= 0.8 * self.fair
        })
    }

    fn first_call_s(&self) -> Option<f64> {
        let begin = self
            .attempts
            .partition_point(|(at, _)| *at < self.fault.end);
        let first = self.attempts[begin..].iter().find(|(_, is_bad)| *is_bad);
        first.map(|(at, _)| (at - self.fault.end) as f64 / 1e9)
    }
}
