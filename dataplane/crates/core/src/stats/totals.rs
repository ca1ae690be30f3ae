//! The counters that the request path holds and updates. Recording takes no lock and allocates only for
//! the first call of a model's method.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::counters::{
    ClosedCounters, CodeCounters, HedgeCounters, KindCounters, RefusedCounters, RetryCounters,
};
use super::histogram::Histogram;
use crate::code::Code;

/// Calls of one model by one method.
#[derive(Debug, Default)]
pub struct CallCounters {
    pub codes: CodeCounters,
    pub seconds: Histogram,
}

/// Calls of one model: one [`CallCounters`] for each method that was ever called.
#[derive(Debug)]
pub struct CallStats {
    methods: Box<[OnceLock<Box<CallCounters>>]>,
}

impl CallStats {
    /// Room for method ids below `method_count`.
    pub fn new(method_count: usize) -> Self {
        Self {
            methods: (0..method_count).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Count one finished call; an id that has no room is not counted.
    pub fn record(&self, method: usize, code: Code, duration: Duration) {
        let Some(slot) = self.methods.get(method) else {
            debug_assert!(false, "method id {method} is out of range");
            return;
        };
        let counters = slot.get_or_init(Box::default);
        counters.codes.add(code);
        counters.seconds.record(duration);
    }

    /// (method id, counters) of the methods that were called.
    pub fn used(&self) -> impl Iterator<Item = (usize, &CallCounters)> {
        let slots = self.methods.iter().enumerate();
        slots.filter_map(|(id, slot)| Some((id, &**slot.get()?)))
    }
}

/// How long the calls of a model server spend where.
#[derive(Debug, Default)]
pub struct StageStats {
    /// From the decoded request to Python.
    pub queue: Histogram,
    pub preprocess: Histogram,
    pub model: Histogram,
    pub postprocess: Histogram,
    /// How often the model was called, and with how many rows.
    pub model_calls: AtomicU64,
    pub model_rows: AtomicU64,
    /// Calls that Python had, and did not give to the model: nobody waited for them any more.
    pub left_in_hand: AtomicU64,
}

impl StageStats {
    /// (name, times) of each stage, in their order.
    pub fn all(&self) -> [(&'static str, &Histogram); 4] {
        [
            ("queue", &self.queue),
            ("preprocess", &self.preprocess),
            ("model", &self.model),
            ("postprocess", &self.postprocess),
        ]
    }
}

/// Attempts on one endpoint of one cluster.
#[derive(Debug, Default)]
pub struct EndpointStats {
    pub codes: CodeCounters,
    /// Of the attempts that were answered.
    pub seconds: Histogram,
    pub load: LoadStats,
}

/// What an endpoint says of its own load.
#[derive(Debug, Default)]
pub struct LoadStats {
    /// Reports read, and those that could not be.
    pub read: AtomicU64,
    pub unreadable: AtomicU64,
    /// The last one's, as bits of a float.
    utilization: AtomicU64,
}

impl LoadStats {
    /// Count a report; none is one that could not be read.
    pub fn count(&self, utilization: Option<f64>) {
        let Some(utilization) = utilization else {
            self.unreadable.fetch_add(1, Relaxed);
            return;
        };
        self.utilization.store(utilization.to_bits(), Relaxed);
        self.read.fetch_add(1, Relaxed);
    }

    /// The last utilization reported, if there was a report.
    pub fn utilization(&self) -> Option<f64> {
        let has_one = self.read.load(Relaxed) > 0;
        has_one.then(|| f64::from_bits(self.utilization.load(Relaxed)))
    }
}

impl EndpointStats {
    /// Count an attempt that the endpoint answered.
    pub fn answered(&self, code: Code, duration: Duration) {
        self.codes.add(code);
        self.seconds.record(duration);
    }

    /// Count an attempt that ended otherwise. Its time says nothing of the endpoint's speed: time-outs in the
    /// histogram would raise the median that the next time-out is held against.
    pub fn failed(&self, code: Code) {
        self.codes.add(code);
    }
}

/// What one cluster counts beside its endpoints.
#[derive(Debug, Default)]
pub struct ClusterStats {
    pub retries: RetryCounters,
    pub hedges: HedgeCounters,
    /// Calls beyond the cluster's `max_in_flight`.
    pub shed: AtomicU64,
}

/// What the whole process counts.
#[derive(Debug, Default)]
pub struct ProcessStats {
    /// Calls that this program itself answered with an error, by kind.
    pub errors: KindCounters,
    /// Calls beyond the process's `max_in_flight`.
    pub shed_in_flight: AtomicU64,
    /// Calls shed because `max_held_bytes` were held.
    pub shed_held_bytes: AtomicU64,
    /// Connections turned away, by reason.
    pub refused: RefusedCounters,
    /// Downstream connections ended, by reason.
    pub closed: ClosedCounters,
    /// Lines of the access log that were not written.
    pub access_log_lost: Arc<AtomicU64>,
    /// Spans that came to the collector, and those that did not.
    pub spans_sent: Arc<AtomicU64>,
    pub spans_lost: Arc<AtomicU64>,
    /// How long calls waited for a model to be loaded.
    pub cold_waits: Histogram,
    reloads: Mutex<BTreeMap<(String, bool), u64>>,
}

impl ProcessStats {
    /// Count one reload of a configuration or discovery source. Not for the request path: it locks.
    pub fn count_reload(&self, source: &str, ok: bool) {
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        // Both results of a source appear together, so that the first failure is an increase over 0.
        for result in [true, false] {
            let count = reloads.entry((source.to_owned(), result)).or_default();
            *count += u64::from(result == ok);
        }
    }

    /// (source, ok, count), sorted.
    pub fn reloads(&self) -> Vec<(String, bool, u64)> {
        let reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = reloads.iter();
        rows.map(|((source, ok), count)| (source.clone(), *ok, *count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_counters_only_for_the_methods_that_were_called() {
        let calls = CallStats::new(3);
        calls.record(2, Code::Ok, Duration::from_millis(1));
        calls.record(2, Code::NotFound, Duration::from_millis(1));
        let used: Vec<_> = calls
            .used()
            .map(|(id, c)| (id, c.codes.total(), c.seconds.snapshot().count()))
            .collect();
        assert_eq!(used, [(2, 2, 2)]);
    }

    #[test]
    fn the_first_reload_of_a_source_shows_both_results() {
        let process = ProcessStats::default();
        process.count_reload("nodefile", false);
        process.count_reload("nodefile", true);
        process.count_reload("nodefile", true);
        let rows = process.reloads();
        assert_eq!(
            rows,
            [("nodefile".into(), false, 1), ("nodefile".into(), true, 2)]
        );
    }
}
