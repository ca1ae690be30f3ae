//! What became of the calls.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::call::Outcome;

/// Wrong ones that are shown.
const SHOWN: usize = 20;

#[derive(Debug, Default)]
pub struct Tally {
    pub connections: u64,
    /// Calls by kind and by what became of them.
    outcomes: BTreeMap<String, BTreeMap<String, u64>>,
    /// Why connections ended that the service ended.
    ends: BTreeMap<String, u64>,
    wrong: Vec<String>,
    wrong_count: u64,
    calls: u64,
    bytes: u64,
}

// === impl Tally ===

impl Tally {
    pub fn add(&mut self, kind: &str, what: &str, outcome: &Outcome) {
        self.calls += 1;
        self.bytes += outcome.taken() as u64;
        if let Outcome::Wrong(why) = outcome {
            self.wrong_count += 1;
            if self.wrong.len() < SHOWN {
                self.wrong.push(format!("{what}: {why}"));
            }
        }
        let by_outcome = self.outcomes.entry(kind.to_owned()).or_default();
        *by_outcome.entry(outcome.name()).or_default() += 1;
    }

    pub fn connection_ended(&mut self, why: &str) {
        *self.ends.entry(why.to_owned()).or_default() += 1;
    }

    /// Calls that ended so, whatever their kind.
    #[must_use]
    pub fn of(&self, outcome: &str) -> u64 {
        self.outcomes
            .values()
            .filter_map(|it| it.get(outcome))
            .sum()
    }

    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls
    }

    #[must_use]
    pub fn report(&self, took: Duration) -> Value {
        json!({
            "calls": self.calls,
            "seconds": took.as_secs_f64(),
            "wrong": self.wrong_count,
            "wrong_calls": self.wrong,
            "outcomes": self.outcomes,
            "connections": self.connections,
            "connections_ended_by": self.ends,
            "answer_bytes": self.bytes,
        })
    }
}
