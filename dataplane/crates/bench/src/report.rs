//! What a run of `load` found out, as JSON. Latency counts from the moment a call was due, not from when
//! it was sent: a stall that delays sending is in the figures (no coordinated omission).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};

use crate::calls::Outcome;

/// Width of one step of the timeline.
const STEP_US: u64 = 100_000;
/// Failures told one by one.
const MAX_FAILURES: usize = 50;

/// One call; times in µs since the run's start.
pub struct Record {
    pub due_us: u64,
    pub sent_us: u64,
    pub done_us: u64,
    /// Its class's number.
    pub class: usize,
    pub outcome: Outcome,
}

/// gRPC's names of its codes.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Write each call as a line of comma-separated values, names in the first: what a benchmark splits by class and time.
///
/// # Errors
/// As the system reports them.
pub fn write_records(records: &[Record], classes: &[&str], path: &str) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    writeln!(out, "due_us,sent_us,done_us,code,class,endpoint")?;
    for record in records {
        let (due, sent, done) = (record.due_us, record.sent_us, record.done_us);
        let outcome = &record.outcome;
        let endpoint = outcome.endpoint.as_deref().unwrap_or_default();
        let class = classes.get(record.class).copied().unwrap_or_default();
        writeln!(
            out,
            "{due},{sent},{done},{},{class},{endpoint}",
            outcome.code
        )?;
    }
    out.flush()
}

/// Sum up a run.
#[must_use]
pub fn report(records: &mut [Record]) -> Value {
    records.sort_by_key(|record| record.due_us);
    let ok = records.iter().filter(|record| record.is_ok()).count();
    json!({
        "calls": records.len(),
        "ok": ok,
        "failed": records.len() - ok,
        "corrupt": records.iter().filter(|record| record.outcome.is_corrupt).count(),
        "repeats": records.iter().map(|record| record.outcome.repeats).sum::<u32>(),
        "codes": count(records.iter().map(|record| name(record.outcome.code))),
        "endpoints": endpoints(records),
        "latency_ms": percentiles(records.iter().map(Record::latency_us)),
        "send_lag_ms": percentiles(records.iter().map(|r| r.sent_us.saturating_sub(r.due_us))),
        "timeline": timeline(records),
        "failures": records.iter().filter(|record| !record.is_ok()).take(MAX_FAILURES)
            .map(Record::describe).collect::<Vec<_>>(),
    })
}

// === impl Record ===

impl Record {
    fn is_ok(&self) -> bool {
        self.outcome.code == 0 && !self.outcome.is_corrupt
    }

    fn latency_us(&self) -> u64 {
        self.done_us.saturating_sub(self.due_us)
    }

    fn describe(&self) -> Value {
        json!({
            "t_ms": ms(self.due_us),
            "latency_ms": ms(self.latency_us()),
            "code": name(self.outcome.code),
            "message": self.outcome.message,
            "endpoint": self.outcome.endpoint,
            "corrupt": self.outcome.is_corrupt,
        })
    }
}

fn name(code: u16) -> String {
    CODES
        .get(usize::from(code))
        .map_or_else(|| format!("CODE_{code}"), |name| (*name).to_owned())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a run is shorter than 2^52 µs = 142 years"
)]
fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

fn count(names: impl Iterator<Item = String>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn endpoints(records: &[Record]) -> BTreeMap<String, u64> {
    count(records.iter().filter_map(|r| r.outcome.endpoint.clone()))
}

/// Nearest-rank percentiles; null where nothing was measured.
fn percentiles(values: impl Iterator<Item = u64>) -> Value {
    let mut sorted: Vec<u64> = values.collect();
    sorted.sort_unstable();
    let at = |per_mille: usize| {
        let rank = (sorted.len() * per_mille).div_ceil(1000).max(1);
        sorted.get(rank - 1).copied().map(ms)
    };
    json!({"p50": at(500), "p90": at(900), "p99": at(990), "p99_9": at(999), "max": at(1000)})
}

fn timeline(records: &[Record]) -> Vec<Value> {
    let step = |record: &Record| record.due_us / STEP_US;
    records
        .chunk_by(|a, b| step(a) == step(b))
        .map(|chunk| {
            let ok = chunk.iter().filter(|record| record.is_ok()).count();
            json!({
                "t_ms": step(&chunk[0]) * STEP_US / 1000,
                "calls": chunk.len(),
                "failed": chunk.len() - ok,
                "max_ms": chunk.iter().map(Record::latency_us).max().map(ms),
                "endpoints": endpoints(chunk),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(due_us: u64, latency_us: u64, code: u16, endpoint: &str) -> Record {
        Record {
            due_us,
            sent_us: due_us + 10,
            done_us: due_us + latency_us,
            class: 0,
            outcome: Outcome {
                code,
                endpoint: Some(endpoint.to_owned()),
                ..Outcome::default()
            },
        }
    }

    #[test]
    fn latency_counts_from_when_a_call_was_due() {
        let mut records: Vec<Record> = (1..=1000).map(|i| record(0, i * 1000, 0, "a")).collect();
        let latency = &report(&mut records)["latency_ms"];
        assert_eq!(latency["p50"], 500.0);
        assert_eq!(latency["p99"], 990.0);
        assert_eq!(latency["p99_9"], 999.0);
        assert_eq!(latency["max"], 1000.0);
    }

    #[test]
    fn codes_shares_and_timeline_add_up() {
        let mut records = vec![
            record(250_000, 5, 14, "b"),
            record(0, 5, 0, "a"),
            record(99_999, 7, 0, "b"),
        ];
        let report = report(&mut records);
        assert_eq!(report["codes"], json!({"OK": 2, "UNAVAILABLE": 1}));
        assert_eq!(report["endpoints"], json!({"a": 1, "b": 2}));
        assert_eq!(report["timeline"][0]["calls"], 2);
        assert_eq!(report["timeline"][1]["t_ms"], 200);
        assert_eq!(report["failures"][0]["t_ms"], 250.0);
        assert_eq!(report["failed"], 1);
    }

    #[test]
    fn a_run_without_calls_has_no_percentiles() {
        assert_eq!(report(&mut [])["latency_ms"]["p50"], Value::Null);
    }
}
