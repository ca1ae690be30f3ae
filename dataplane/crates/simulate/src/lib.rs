//! Balancing policies in virtual time: the product's own code, and ports of others' rules, on the same calls.
//!
//! A scenario (docs/simulate.md) makes calls; proxies, each with a rule of its own, send them to endpoints with slots and
//! a queue; faults come and go. Everything is drawn from the seed: the same seed gives the same result.
#![forbid(unsafe_code)]

mod arrivals;
mod events;
mod proxy;
mod report;
mod rule;
mod rules;
mod run;
mod scenario;
mod station;
mod timeline;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::Deserialize;

pub use report::{Report, Summary};
pub use rules::OTHERS;
pub use scenario::Scenario;

use run::Run;
use timeline::Timeline;

/// What is to be simulated: a scenario, by each policy, with each seed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub scenario: Scenario,
    pub policies: Vec<String>,
    pub seeds: Vec<u64>,
}

/// Run an order given as JSON; the reports as a JSON list, by policy, then seed.
///
/// # Errors
/// The order cannot be read or run; the text names the key.
pub fn simulate_json(order: &str) -> Result<String, String> {
    let order: Order = serde_json::from_str(order).map_err(|error| error.to_string())?;
    let reports = simulate(&order)?;
    serde_json::to_string(&reports).map_err(|error| error.to_string())
}

/// Run an order, on all processors.
///
/// # Errors
/// As [`simulate_json`].
pub fn simulate(order: &Order) -> Result<Vec<Report>, String> {
    order.scenario.check()?;
    let timeline = Timeline::new(&order.scenario)?;
    let seeds = |policy| order.seeds.iter().map(move |seed| (policy, *seed));
    let runs: Vec<(&String, u64)> = order.policies.iter().flat_map(seeds).collect();
    let (next, timeline) = (AtomicUsize::new(0), &timeline);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((policy, seed)) = runs.get(number) else {
                return done;
            };
            done.push((number, one(&order.scenario, timeline, policy, *seed)));
        }
    };
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(runs.len());
    let mut done = Vec::new();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(reports) => done.extend(reports),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, report)| report).collect()
}

fn one(
    scenario: &Scenario,
    timeline: &Timeline,
    policy: &str,
    seed: u64,
) -> Result<Report, String> {
    rules::rule(policy, seed)?;
    let rule = |seed| rules::rule(policy, seed).expect("its name was known a line above");
    let mut run = Run::new(scenario, timeline, seed, rule)?;
    run.run();
    Ok(Report::new(policy, seed, &run))
}
