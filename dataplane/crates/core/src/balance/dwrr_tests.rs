//! What is particular to dynamic weighted round robin: the original's rule, and credit when weights change.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 200,
        rng_seed: RngSeed::Fixed(0xd1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn dwrr(scale: u32, weights: &[u32]) -> Dwrr {
    let mut dwrr = Dwrr::with_scale(scale);
    let rows = (0u64..).zip(weights);
    let entries: Vec<Entry> = rows
        .map(|(id, &weight)| Entry {
            id,
            weight,
            live: true,
        })
        .collect();
    dwrr.update(&entries);
    dwrr
}

/// The rule of dl_inference's TensorflowServingBlockingStub, with the weights that it never set.
struct Original {
    weight: Vec<i64>,
    effective: Vec<i64>,
    current: Vec<i64>,
}

impl Original {
    fn new(weights: &[u32]) -> Self {
        let weight: Vec<i64> = weights.iter().map(|&weight| i64::from(weight)).collect();
        Self {
            effective: weight.clone(),
            current: vec![0; weight.len()],
            weight,
        }
    }

    fn pick(&mut self) -> usize {
        let (mut best, mut total) = (0, 0);
        for i in 0..self.weight.len() {
            self.current[i] += self.effective[i];
            total += self.effective[i];
            if self.current[best] < self.current[i] {
                best = i;
            }
        }
        self.current[best] -= total;
        best
    }

    fn fail(&mut self, i: usize) {
        if self.effective[i] != 1 {
            self.effective[i] >>= 1;
        }
    }

    fn succeed(&mut self, i: usize) {
        if self.effective[i] < self.weight[i] {
            self.effective[i] += (self.weight[i] - self.effective[i] + 1) >> 1;
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn at_scale_one_the_effective_weights_are_the_originals(
        weights in prop::collection::vec(1u32..=65535, 1..10),
        reports in prop::collection::vec((0usize..10, any::<bool>()), 0..300)
    ) {
        let (mut ours, mut original) = (dwrr(1, &weights), Original::new(&weights));
        for (index, ok) in reports {
            let index = index % weights.len();
            if ok {
                ours.report(index, Outcome::Success);
                original.succeed(index);
            } else {
                ours.report(index, Outcome::Failure);
                original.fail(index);
            }
            prop_assert_eq!(i64::from(ours.effective_weight(index)), original.effective[index]);
        }
    }

    #[test]
    fn while_weights_stand_still_the_picks_are_the_originals(
        weights in prop::collection::vec(1u32..=65535, 1..30),
        failures in prop::collection::vec(0usize..30, 0..40)
    ) {
        let (mut ours, mut original) = (dwrr(1, &weights), Original::new(&weights));
        for index in failures {
            ours.report(index % weights.len(), Outcome::Failure);
            original.fail(index % weights.len());
        }
        for _ in 0..1000 {
            prop_assert_eq!(ours.pick(&[]), Some(original.pick()));
        }
    }

    #[test]
    fn live_credits_add_up_to_zero_and_debts_stay_small(
        weights in prop::collection::vec(1u32..=100, 2..12),
        ops in prop::collection::vec((0u8..8, 0usize..12), 0..400)
    ) {
        let mut dwrr = dwrr(256, &weights);
        for (op, index) in ops {
            let index = index % weights.len();
            match op {
                0 => dwrr.report(index, Outcome::Failure),
                1 => dwrr.report(index, Outcome::Success),
                2 => dwrr.set_live(index, !dwrr.live[index]),
                3 => { dwrr.pick(&[index]); }
                _ => { dwrr.pick(&[]); }
            }
            let live = dwrr.credit.iter().filter(|credit| **credit != MASKED);
            prop_assert_eq!(live.sum::<i64>(), 0);
            prop_assert!(dwrr.parked.iter().all(|&debt| debt <= 0 && debt > -3 * PICK));
        }
    }

    #[test]
    fn changing_weights_get_the_sum_of_their_momentary_shares(
        weights in prop::collection::vec(1u32..=20, 2..12),
        reports in prop::collection::vec((0usize..12, any::<bool>()), 3000)
    ) {
        let mut dwrr = dwrr(256, &weights);
        let (mut owed, mut got) = (vec![0f64; weights.len()], vec![0f64; weights.len()]);
        for (index, ok) in reports {
            let total: f64 = dwrr.effective.iter().map(|&e| f64::from(e)).sum();
            owed.iter_mut().zip(&dwrr.effective).for_each(|(o, &e)| *o += f64::from(e) / total);
            got[dwrr.pick(&[]).expect("all live")] += 1.0;
            for (owed, got) in owed.iter().zip(&got) {
                prop_assert!((owed - got).abs() < 1.5, "owed {owed}, got {got}");
            }
            let outcome = if ok { Outcome::Success } else { Outcome::Failure };
            dwrr.report(index % weights.len(), outcome);
        }
    }
}

#[test]
fn a_collapse_of_all_weights_leaves_no_streak() {
    let mut dwrr = dwrr(256, &[1, 1]);
    dwrr.pick(&[]);
    for _ in 0..8 {
        dwrr.report(0, Outcome::Failure);
        dwrr.report(1, Outcome::Failure);
    }
    // Classic credit would now give 255 picks in a row to entry 1.
    let picks: Vec<usize> = (0..6).filter_map(|_| dwrr.pick(&[])).collect();
    assert_eq!(picks, [1, 0, 1, 0, 1, 0]);
}

#[test]
fn an_endpoint_that_flaps_after_each_pick_gets_no_more_than_its_share() {
    let mut dwrr = dwrr(256, &[1; 10]);
    let mut picks = [0u32; 10];
    for _ in 0..10_000 {
        let index = dwrr.pick(&[]).expect("live");
        picks[index] += 1;
        if index == 3 {
            dwrr.set_live(3, false);
            dwrr.set_live(3, true);
        }
    }
    assert!(
        picks.iter().all(|&count| (990..=1010).contains(&count)),
        "{picks:?}"
    );
}

#[test]
fn an_endpoint_that_comes_back_gets_no_burst() {
    let mut dwrr = dwrr(256, &[1; 4]);
    (0..3).for_each(|_| assert!(dwrr.pick(&[]).is_some()));
    dwrr.set_live(3, false); // it is owed three quarters of a pick
    (0..30).for_each(|_| assert_ne!(dwrr.pick(&[]), Some(3)));
    dwrr.set_live(3, true);
    let picks: BTreeSet<usize> = (0..4).filter_map(|_| dwrr.pick(&[])).collect();
    assert_eq!(picks.len(), 4);
}

#[test]
fn a_new_endpoint_gets_its_share_at_once_and_no_burst() {
    let mut dwrr = dwrr(256, &[1; 9]);
    (0..1234).for_each(|_| assert!(dwrr.pick(&[]).is_some()));
    let entries: Vec<Entry> = (0..10)
        .map(|id| Entry {
            id,
            weight: 1,
            live: true,
        })
        .collect();
    dwrr.update(&entries);
    let picks = (0..20).filter(|_| dwrr.pick(&[]) == Some(9)).count();
    assert_eq!(picks, 2);
}

#[test]
fn retries_leave_the_share_of_first_picks_as_it_is() {
    let mut dwrr = dwrr(256, &[1; 4]);
    let (mut first, mut second) = ([0u32; 4], [0u32; 4]);
    for _ in 0..4000 {
        let index = dwrr.pick(&[]).expect("live");
        first[index] += 1;
        if index == 0 {
            second[dwrr.pick(&[0]).expect("another is live")] += 1;
        }
    }
    // Entry 0 earns in first picks only, the others in both; over both, all get what they are owed.
    assert_eq!(second[0], 0);
    let all: Vec<u32> = (0..4).map(|i| first[i] + second[i]).collect();
    assert!(all[0].abs_diff(1000) <= 2, "{first:?} {second:?}");
    assert!(
        all[1..].iter().all(|&count| count.abs_diff(all[1]) <= 2),
        "{all:?}"
    );
}

#[test]
fn an_update_lets_an_endpoint_keep_its_debt_while_masked() {
    let mut dwrr = dwrr(256, &[1, 1]);
    assert_eq!(dwrr.pick(&[]), Some(0));
    let mut entries: Vec<Entry> = (0..2)
        .map(|id| Entry {
            id,
            weight: 1,
            live: id == 1,
        })
        .collect();
    dwrr.update(&entries);
    assert_eq!(dwrr.pick(&[]), Some(1));
    entries[0].live = true;
    dwrr.update(&entries);
    assert_eq!(dwrr.pick(&[]), Some(1));
}

/// `cargo test --release -p dl-inference-core pick_cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, of use in a release build only"]
fn pick_cost() {
    for n in [2, 10, 100, 1000, 10_000] {
        let mut dwrr = dwrr(256, &(0..n).map(|i| i % 7 + 1).collect::<Vec<u32>>());
        let rounds = 20_000_000 / n / 10;
        let best = |mut pick: Box<dyn FnMut()>| {
            let lap = |_| {
                let start = std::time::Instant::now();
                (0..rounds).for_each(|_| pick());
                start.elapsed().as_nanos() / u128::from(rounds)
            };
            (0..7).map(lap).min().unwrap_or(0)
        };
        let steady = best(Box::new(move || {
            std::hint::black_box(dwrr.pick(&[]));
        }));
        eprintln!("n = {n}: {steady} ns");
    }
}
