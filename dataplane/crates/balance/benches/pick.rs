//! What the balancer costs: a pick, a pick with the end of its call, and the comparison of all endpoints that is made
//! now and then under the cluster's lock. `cargo bench -p dl-inference-balance`.
//!
//! The goals (at rest): a pick takes 60 ns of 100 endpoints and 200 ns of 1,000.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dl_balance::{
    Ask, Balancer, Done, Entry, MILLISECOND, NAMES, Nanos, Outcome, SECOND, Settings,
};

const SIZES: [usize; 3] = [10, 100, 1000];
/// Calls in flight at each endpoint: at rest, and busy.
const LOADS: [(&str, usize); 2] = [("rest", 0), ("busy", 2)];
/// Between two picks: 100,000 calls a second.
const STEP: Nanos = 10_000;
const TOOK: Nanos = 2 * MILLISECOND;

/// A balancer of endpoints of weights 1 to 7 that have answered calls, and the calls that are in flight.
struct Bench {
    balancer: Balancer,
    now: Nanos,
    calls: VecDeque<(usize, Nanos)>,
}

impl Bench {
    fn new(policy: &str, endpoints: usize, calls: usize) -> Self {
        let base = if policy == "dl" {
            Settings::original()
        } else {
            Settings::default()
        };
        let settings = Settings {
            policy: policy.to_owned(),
            ..base
        };
        let entry = |id: u64| Entry {
            id,
            weight: id as u32 % 7 + 1,
            live: true,
        };
        let entries: Vec<Entry> = (0..endpoints as u64).map(entry).collect();
        let mut balancer = Balancer::new(&settings, 7);
        balancer.update(&entries, 0);
        let mut bench = Self {
            balancer,
            now: SECOND,
            calls: VecDeque::new(),
        };
        for _ in 0..50 * endpoints {
            bench.pick();
            bench.finish(Outcome::Success, TOOK);
        }
        (0..calls * endpoints).for_each(|_| bench.pick());
        bench
    }

    fn pick(&mut self) {
        self.now += STEP;
        let ask = Ask {
            left: Some(SECOND),
            can_probe: true,
            key: Some(self.now),
            ..Ask::default()
        };
        if let Ok(picked) = self.balancer.pick(black_box(&ask), self.now) {
            self.calls.push_back((picked.slot, self.now));
        }
    }

    /// End the oldest call, which has taken so long at least.
    fn finish(&mut self, outcome: Outcome, took: Nanos) {
        if let Some((slot, started)) = self.calls.pop_front() {
            let done = Done {
                outcome,
                started,
                is_probe: false,
                is_timed: outcome == Outcome::Success,
                is_stream: false,
            };
            self.balancer
                .finish(slot, black_box(&done), self.now + took);
        }
    }
}

/// A pick, and the end of the oldest call without anything to learn: a pick has to have an end for the next one to find
/// the same state. The pick alone takes less.
fn pick(criterion: &mut Criterion) {
    each(criterion, "pick", Outcome::Neutral);
}

/// A pick, and the success of the oldest call.
fn pick_and_finish(criterion: &mut Criterion) {
    each(criterion, "pick-and-finish", Outcome::Success);
}

fn each(criterion: &mut Criterion, name: &str, outcome: Outcome) {
    for &policy in NAMES {
        for (load, calls) in LOADS {
            let mut group = criterion.benchmark_group(format!("{name}/{policy}/{load}"));
            for size in SIZES {
                group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                    let mut bench = Bench::new(policy, size, calls);
                    bencher.iter(|| {
                        bench.pick();
                        bench.finish(outcome, 0);
                    });
                });
            }
        }
    }
}

/// A pick that comes after the time at which all endpoints are compared again.
fn refresh(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick-with-refresh/dwrr");
    for size in SIZES {
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let mut bench = Bench::new("dwrr", size, 2);
            bencher.iter(|| {
                bench.now += 100 * MILLISECOND;
                bench.pick();
                bench.finish(Outcome::Success, 0);
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(30);
    targets = pick, pick_and_finish, refresh
}
criterion_main!(benches);
