//! Calls of several groups, against the same tuner that takes all of them for one group, in virtual time.

use super::*;

/// Calls of a few groups, of which the last is rare. `within` is in times of a full batch.
fn mixed(seed: u64, model: &dyn Fn(usize) -> f64, load: f64, within: f64) -> Vec<Ask> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let full = model(MAX_ROWS);
    let groups = rng.u64(2..=6);
    let mut at = 0.0;
    let mut asks = Vec::new();
    for _ in 0..1000 {
        at += -(1.0 - rng.f64()).ln() * full / (load * MAX_ROWS as f64);
        let is_rare = rng.u64(0..50) == 0;
        asks.push(Ask {
            at,
            rows: if rng.u64(0..8) == 0 {
                rng.usize(1..=8)
            } else {
                1
            },
            group: if is_rare { RARE } else { rng.u64(0..groups) },
            within: within * full,
        });
    }
    asks
}

const RARE: u64 = 99;
const SEEDS: u64 = 12;

fn blind() -> Rule {
    let tuner = Box::new(Tuner::new(AUTO));
    Rule::Learnt {
        tuner,
        sees_groups: false,
    }
}

#[test]
fn a_rare_group_waits_no_longer_than_where_all_groups_go_at_once() {
    for (name, model) in models() {
        let (mut ours, mut before) = (0.0, 0.0);
        for seed in 0..SEEDS {
            let load = [0.1, 0.3, 0.5, 0.7][seed as usize % 4];
            let asks = mixed(seed, &model, load, 1e6);
            let [seen, blind] = [learnt(), blind()].map(|rule| run(&asks, &model, rule));
            assert_eq!(seen.in_time, asks.len(), "{name}, seed {seed}");
            assert_eq!(seen.overtaking, 0, "{name}, seed {seed}");
            let [seen, blind] = [seen.longest[&RARE], blind.longest[&RARE]];
            // A model that needs the same for each row gains nothing: the others' batches are filled up meanwhile.
            assert!(
                seen <= blind + model(MAX_ROWS),
                "{name}, seed {seed}: {seen} s against {blind}"
            );
            ours += seen;
            before += blind;
        }
        println!("{name}: {:.2}", ours / before);
        assert!(ours <= 1.05 * before, "{name}: {ours} s against {before}");
    }
}

#[test]
fn more_calls_are_in_time_than_where_all_groups_go_at_once() {
    let (mut ours, mut before) = (0, 0);
    for (name, model) in models() {
        for seed in 0..SEEDS {
            let load = [0.3, 0.6, 0.9, 1.5][seed as usize % 4];
            let within = [2.2, 4.0, 12.0][seed as usize % 3];
            let asks = mixed(seed, &model, load, within);
            let [seen, blind] = [learnt(), blind()].map(|rule| run(&asks, &model, rule).in_time);
            assert!(
                seen as f64 >= 0.97 * blind as f64,
                "{name}, seed {seed}: {seen} against {blind}"
            );
            ours += seen;
            before += blind;
        }
    }
    println!("{ours} in time against {before}");
    assert!(f64::from(ours as u32) >= 1.2 * f64::from(before as u32));
}

fn call(now: Instant, rows: usize, group: u64, within: f64) -> Pending {
    Pending {
        rows,
        group,
        arrived: now,
        deadline: now + seconds(within),
    }
}

/// A tuner that has seen single rows of these groups take so many seconds.
fn taught(groups: &[(u64, f64)]) -> Tuner {
    let mut tuner = Tuner::new(AUTO);
    for &(group, took) in groups {
        tuner.served(Served::of([(1, group)].into_iter()), seconds(took));
    }
    tuner
}

#[test]
fn a_batch_holds_the_group_of_the_oldest_call() {
    let now = Instant::now();
    let waiting = [1, 2, 1, 2, 3, 1].map(|group| call(now, 1, group, 60.0));
    let mut tuner = taught(&[(1, 0.02), (2, 0.02), (3, 0.02)]);
    assert_eq!(tuner.plan(now, &waiting, 64), Plan::Take(vec![0, 2, 5]));
    assert_eq!(tuner.plan(now, &waiting, 2), Plan::Take(vec![0, 2]));
    assert_eq!(tuner.plan(now, &waiting[1..], 64), Plan::Take(vec![0, 2]));
}

#[test]
fn groups_that_take_a_moment_go_together() {
    let now = Instant::now();
    let waiting = [1, 2, 3, 1].map(|group| call(now, 1, group, 60.0));
    let mut tuner = taught(&[(1, 0.0004), (2, 0.0004), (3, 0.0004)]);
    assert_eq!(tuner.plan(now, &waiting, 64), Plan::Take(vec![0, 1, 3]));
}

#[test]
fn a_hurried_call_of_another_group_goes_first_where_it_would_be_late() {
    let now = Instant::now();
    let mut tuner = taught(&[(1, 0.05), (2, 0.02)]);
    let waiting =
        [(1, 60.0), (1, 60.0), (2, 0.03)].map(|(group, within)| call(now, 1, group, within));
    assert_eq!(tuner.plan(now, &waiting, 64), Plan::Take(vec![2]));
}

#[test]
fn a_batch_is_not_held_while_another_group_waits() {
    let now = Instant::now();
    let held = Batching {
        max_delay: Some(Duration::from_secs(1)),
        ..AUTO
    };
    let mut tuner = Tuner::new(held);
    let waiting = [1, 2].map(|group| call(now, 1, group, 60.0));
    assert!(matches!(tuner.plan(now, &waiting[..1], 64), Plan::Hold(_)));
    assert!(matches!(tuner.plan(now, &waiting, 64), Plan::Take(_)));
}
