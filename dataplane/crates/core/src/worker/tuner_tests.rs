use std::collections::{BTreeMap, VecDeque};

use super::*;

const MAX_ROWS: usize = 64;
/// Between an answer and the next question: what Python and the socket need.
const PAUSE_S: f64 = 0.000_05;

type Model = Box<dyn Fn(usize) -> f64>;

const AUTO: Batching = Batching {
    joins: true,
    max_rows: MAX_ROWS,
    max_delay: None,
};

/// A call of a trace: when it comes, with how many rows, and how long its caller waits; seconds.
#[derive(Clone, Copy)]
struct Ask {
    at: f64,
    rows: usize,
    group: u64,
    within: f64,
}

enum Rule {
    Learnt {
        tuner: Box<Tuner>,
        sees_groups: bool,
    },
    Fixed {
        size: usize,
        delay: f64,
    },
}

/// What came of a trace.
#[derive(Default)]
struct Outcome {
    in_time: usize,
    /// Seconds from the arrival to the answer of each that was in time.
    took: Vec<f64>,
    /// By group, how long one waited for its answer at most.
    longest: BTreeMap<u64, f64>,
    /// Batches without any call that is older than all that were left.
    overtaking: usize,
}

/// Run a trace on a model that needs `model(rows)` seconds for a batch.
fn run(asks: &[Ask], model: &dyn Fn(usize) -> f64, mut rule: Rule) -> Outcome {
    let start = Instant::now();
    let instant = |at: f64| start + seconds(at);
    let mut outcome = Outcome::default();
    let mut queue: VecDeque<Ask> = VecDeque::new();
    let (mut now, mut next) = (0.0, 0);
    loop {
        while next < asks.len() && asks[next].at <= now {
            if let Rule::Learnt { tuner, sees_groups } = &mut rule {
                let group = if *sees_groups { asks[next].group } else { 0 };
                tuner.arrived(instant(asks[next].at), group);
            }
            queue.push_back(asks[next]);
            next += 1;
        }
        let is_late = |ask: &Ask| ask.at + ask.within <= now;
        match &rule {
            Rule::Learnt { .. } => queue.retain(|ask| !is_late(ask)),
            // Those behind are left out when their turn comes: the grid has many runs.
            Rule::Fixed { .. } => while queue.pop_front_if(|ask| is_late(ask)).is_some() {},
        }
        let Some(first) = queue.front().copied() else {
            let Some(ask) = asks.get(next) else { break };
            now = ask.at;
            continue;
        };
        let plan = match &mut rule {
            Rule::Learnt { tuner, sees_groups } => {
                let pending = |ask: &Ask| Pending {
                    rows: ask.rows,
                    group: if *sees_groups { ask.group } else { 0 },
                    arrived: instant(ask.at),
                    deadline: instant(ask.at + ask.within),
                };
                let waiting: Vec<Pending> = queue.iter().map(pending).collect();
                tuner.plan(instant(now), &waiting, MAX_ROWS)
            }
            Rule::Fixed { size, delay } => {
                let mut rows = 0;
                let fits = |ask: &&Ask| {
                    rows += ask.rows;
                    rows <= *size
                };
                let count = queue.iter().take_while(fits).count().max(1);
                if rows >= *size || now >= first.at + *delay {
                    Plan::Take((0..count).collect())
                } else {
                    Plan::Hold(instant(first.at + *delay))
                }
            }
        };
        match plan {
            Plan::Take(positions) => {
                let mut batch = Vec::new();
                for (taken, position) in positions.iter().enumerate() {
                    batch.extend(queue.remove(position - taken));
                }
                let oldest = |asks: &mut dyn Iterator<Item = &Ask>| {
                    asks.map(|ask| ask.at).fold(f64::INFINITY, f64::min)
                };
                if oldest(&mut batch.iter()) > oldest(&mut queue.iter()) {
                    outcome.overtaking += 1;
                }
                batch.retain(|ask| !is_late(ask));
                let took = took(&batch, model);
                now += took;
                for ask in &batch {
                    let longest = outcome.longest.entry(ask.group).or_default();
                    *longest = longest.max(now - ask.at);
                    if now <= ask.at + ask.within {
                        outcome.in_time += 1;
                        outcome.took.push(now - ask.at);
                    }
                }
                if let Rule::Learnt { tuner, sees_groups } = &mut rule {
                    let served = Served::of(
                        batch
                            .iter()
                            .map(|ask| (ask.rows, if *sees_groups { ask.group } else { 0 })),
                    );
                    tuner.served(served, seconds(took));
                }
            }
            Plan::Hold(until) => {
                let until = until
                    .saturating_duration_since(start)
                    .as_secs_f64()
                    .max(now + 1e-9);
                let arrival = asks.get(next).map_or(f64::INFINITY, |ask| ask.at);
                now = until.min(arrival);
            }
        }
    }
    outcome
}

/// Seconds for a batch: the model is called once for each group.
fn took(batch: &[Ask], model: &dyn Fn(usize) -> f64) -> f64 {
    let mut rows: BTreeMap<u64, usize> = BTreeMap::new();
    for ask in batch {
        *rows.entry(ask.group).or_default() += ask.rows;
    }
    rows.values().map(|&rows| model(rows)).sum::<f64>() + PAUSE_S
}

fn learnt() -> Rule {
    Rule::Learnt {
        tuner: Box::new(Tuner::new(AUTO)),
        sees_groups: true,
    }
}

fn grid() -> Vec<(usize, f64)> {
    let delays = [0.0, 0.0005, 0.001, 0.002, 0.005, 0.010, 0.020, 0.050];
    [1, 2, 4, 8, 16, 32, 64]
        .into_iter()
        .flat_map(|size| delays.map(|delay| (size, delay)))
        .collect()
}

/// Models: (name, seconds for a batch of so many rows).
fn models() -> Vec<(&'static str, Model)> {
    let rounded = |rows: usize| rows.next_power_of_two() as f64;
    vec![
        (
            "mostly fixed",
            Box::new(|rows| 0.005 + 0.0001 * rows as f64),
        ),
        ("half fixed", Box::new(|rows| 0.002 + 0.002 * rows as f64)),
        ("by the row", Box::new(|rows| 0.005 * rows as f64)),
        (
            "in steps",
            Box::new(move |rows| 0.004 + 0.0002 * rounded(rows)),
        ),
        ("small", Box::new(|rows| 0.000_05 + 0.000_002 * rows as f64)),
    ]
}

/// Traces for a model: (name, calls), by its best throughput.
fn traces(model: &dyn Fn(usize) -> f64, seed: u64) -> Vec<(String, Vec<Ask>)> {
    let capacity = MAX_ROWS as f64 / model(MAX_ROWS);
    let full = model(MAX_ROWS);
    let calls = 4000;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut traces = Vec::new();
    let mut steady = |name: String,
                      load: f64,
                      rows: fn(&mut fastrand::Rng) -> usize,
                      within: fn(&mut fastrand::Rng) -> f64| {
        let mut at = 0.0;
        let mut asks = Vec::new();
        for _ in 0..calls {
            let rows = rows(&mut rng);
            at += -(1.0 - rng.f64()).ln() * rows as f64 / (load * capacity);
            asks.push(Ask {
                at,
                rows,
                group: 0,
                within: within(&mut rng) * full,
            });
        }
        traces.push((name, asks));
    };
    for load in [0.1, 0.5, 0.8, 0.95, 1.2, 2.0] {
        steady(format!("poisson {load}, loose"), load, |_| 1, |_| 10.0);
        steady(format!("poisson {load}, tight"), load, |_| 1, |_| 2.2);
    }
    steady(
        "rows of 1 to 16".to_owned(),
        0.8,
        |rng| rng.usize(1..=16),
        |_| 4.0,
    );
    steady(
        "rows of 1 to 16, too many".to_owned(),
        1.5,
        |rng| rng.usize(1..=16),
        |_| 4.0,
    );
    steady(
        "patient and hurried".to_owned(),
        1.2,
        |_| 1,
        |rng| if rng.bool() { 2.2 } else { 12.0 },
    );
    for (name, size, load, within) in [
        ("bursts of 24", 24, 0.5, 2.5),
        ("bursts of 200", 200, 0.8, 3.0),
        ("bursts of 48, hurried", 48, 0.4, 1.3),
    ] {
        let mut asks = Vec::new();
        let every = f64::from(size) / (load * capacity);
        for burst in 0..calls / size {
            let begins = f64::from(burst) * every;
            for position in 0..size {
                let at = begins + f64::from(position) * full / f64::from(size) * 0.3;
                asks.push(Ask {
                    at,
                    rows: 1,
                    group: 0,
                    within: within * full,
                });
            }
        }
        traces.push((name.to_owned(), asks));
    }
    let lone = (0..300).map(|call| Ask {
        at: f64::from(call) * full * 3.0,
        rows: 1,
        group: 0,
        within: 2.0 * full,
    });
    traces.push(("lone".to_owned(), lone.collect()));
    traces
}

/// The whole grid of fixed sizes and delays, on every trace, for every model; what is learnt is learnt on the way.
#[test]
fn no_fixed_size_and_delay_answers_more_in_time() {
    let count = models().len();
    let shares: Vec<(f64, f64)> = std::thread::scope(|scope| {
        let against = |index: usize| move || against_the_grid(&models()[index]);
        let threads: Vec<_> = (0..count)
            .map(|index| scope.spawn(against(index)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let (ours, medians) = shares
        .iter()
        .fold((0.0, 0.0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
    println!("all: {:.2} of the grid's median", ours / medians);
    assert!(
        ours >= 1.3 * medians,
        "{:.2} of the grid's median",
        ours / medians
    );
}

/// The shares of the calls that were in time, by ours and by the grid's median pair, summed over the traces.
fn against_the_grid((model_name, model): &(&str, Model)) -> (f64, f64) {
    let (mut ours, mut medians) = (0.0, 0.0);
    for (name, asks) in traces(model, 7) {
        let got = run(&asks, model, learnt()).in_time as f64;
        let pair = |(size, delay)| run(&asks, model, Rule::Fixed { size, delay }).in_time;
        let mut fixed: Vec<usize> = grid().into_iter().map(pair).collect();
        fixed.sort_unstable();
        let (best, median) = (fixed[fixed.len() - 1] as f64, fixed[fixed.len() / 2] as f64);
        ours += got / asks.len() as f64;
        medians += median / asks.len() as f64;
        let share = got / best.max(1.0);
        println!("{model_name:14} {name:26} {share:.3} of the best pair");
        assert!(
            share >= 0.98,
            "{model_name}, {name}: {share:.3} of the best pair"
        );
    }
    (ours, medians)
}

#[test]
fn a_lone_call_waits_for_nothing() {
    for (name, model) in models() {
        let full = model(MAX_ROWS);
        let asks: Vec<Ask> = (0..500)
            .map(|call| Ask {
                at: f64::from(call) * full * 3.0,
                rows: 1,
                group: 0,
                within: 100.0 * full,
            })
            .collect();
        let outcome = run(&asks, &model, learnt());
        let longest = outcome.took.iter().copied().fold(0.0, f64::max);
        assert!(
            longest <= model(1) + PAUSE_S + 1e-6,
            "{name}: {longest} s against {}",
            model(1)
        );
    }
}

fn served(tuner: &mut Tuner, calls: usize, took: Duration) {
    tuner.served(Served::of(std::iter::repeat_n((1, 0), calls)), took);
}

fn pending(count: usize, now: Instant, within: f64) -> Vec<Pending> {
    let call = Pending {
        rows: 1,
        group: 0,
        arrived: now,
        deadline: now + seconds(within),
    };
    vec![call; count]
}

#[test]
fn calls_that_are_answered_one_after_the_other_go_a_millisecond_at_a_time() {
    let now = Instant::now();
    let mut tuner = Tuner::new(Batching {
        joins: false,
        ..AUTO
    });
    assert_eq!(
        tuner.plan(now, &pending(64, now, 60.0), 64),
        Plan::Take((0..64).collect())
    );
    served(&mut tuner, 64, Duration::from_millis(64 * 5));
    assert_eq!(
        tuner.plan(now, &pending(64, now, 60.0), 64),
        Plan::Take(vec![0])
    );
    for _ in 0..5 {
        served(&mut tuner, 1, Duration::from_micros(100));
    }
    assert_eq!(
        tuner.plan(now, &pending(64, now, 60.0), 64),
        Plan::Take((0..10).collect())
    );
}

#[test]
fn a_call_of_more_rows_than_a_batch_has_goes_alone() {
    let now = Instant::now();
    let mut waiting = pending(2, now, 60.0);
    waiting[0].rows = 1000;
    assert_eq!(
        Tuner::new(AUTO).plan(now, &waiting, 64),
        Plan::Take(vec![0])
    );
}

#[test]
fn a_fixed_delay_ends_before_a_call_would_be_late() {
    let now = Instant::now();
    let mut tuner = Tuner::new(Batching {
        max_delay: Some(Duration::from_secs(60)),
        ..AUTO
    });
    served(&mut tuner, 1, Duration::from_millis(20));
    let Plan::Hold(until) = tuner.plan(now, &pending(1, now, 0.1), 64) else {
        panic!("it goes")
    };
    assert_eq!(until, now + Duration::from_millis(80));
    assert_eq!(
        tuner.plan(until, &pending(1, now, 0.1), 64),
        Plan::Take(vec![0])
    );
}

#[test]
fn a_call_that_would_be_late_even_alone_waits_until_nothing_else_does() {
    let now = Instant::now();
    let mut tuner = Tuner::new(AUTO);
    served(&mut tuner, 1, Duration::from_millis(20));
    let mut waiting = pending(2, now, 0.01);
    assert_eq!(tuner.plan(now, &waiting, 64), Plan::Take(vec![0, 1]));
    waiting.extend(pending(1, now, 60.0));
    assert_eq!(tuner.plan(now, &waiting, 64), Plan::Take(vec![2]));
}

#[path = "tuner_group_tests.rs"]
mod groups;
