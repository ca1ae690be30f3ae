//! Shares to the pick, whatever the weights do.

use proptest::prelude::*;

use super::contract_tests::config;
use super::random::Random;
use super::scheduler::Scheduler;

fn scheduler(weights: &[u32], seed: u64) -> (Scheduler, Random) {
    let (mut scheduler, mut random) = (Scheduler::new(weights.len()), Random::new(seed));
    for (slot, &weight) in weights.iter().enumerate() {
        scheduler.set_weight(slot, weight, &mut random);
    }
    (scheduler, random)
}

fn pick(scheduler: &mut Scheduler) -> usize {
    let slot = scheduler.propose(&[]).expect("one has a weight");
    scheduler.charge(slot);
    slot
}

/// How far each slot's picks are from its share at any moment, at most.
fn worst_deviation(weights: &[u32], picks: u32) -> f64 {
    let (mut scheduler, _) = scheduler(weights, 1);
    let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    let mut counts = vec![0u32; weights.len()];
    let mut worst = 0.0f64;
    for t in 1..=picks {
        counts[pick(&mut scheduler)] += 1;
        for (&count, &weight) in counts.iter().zip(weights) {
            let owed = f64::from(t) * f64::from(weight) / total;
            worst = worst.max((f64::from(count) - owed).abs());
        }
    }
    worst
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn fixed_weights_get_their_share_to_the_pick_at_every_moment(
        weights in prop::collection::vec(1u32..=65535, 1..40)
    ) {
        let worst = worst_deviation(&weights, 3000);
        prop_assert!(worst < 1.0, "off by {worst}");
    }

    #[test]
    fn changing_weights_get_the_sum_of_their_momentary_shares(
        weights in prop::collection::vec(1u32..=20, 2..12),
        changes in prop::collection::vec((0usize..12, any::<bool>()), 3000)
    ) {
        let full: Vec<u32> = weights.iter().map(|weight| weight * 256).collect();
        let (mut scheduler, mut random) = scheduler(&full, 2);
        let (mut owed, mut got) = (vec![0f64; full.len()], vec![0f64; full.len()]);
        for (slot, up) in changes {
            let all: f64 = (0..full.len()).map(|i| f64::from(scheduler.weight(i))).sum();
            owed.iter_mut().enumerate().for_each(|(i, o)| *o += f64::from(scheduler.weight(i)) / all);
            got[pick(&mut scheduler)] += 1.0;
            for (owed, got) in owed.iter().zip(&got) {
                prop_assert!((owed - got).abs() <= 1.5, "owed {owed}, got {got}");
            }
            let slot = slot % full.len();
            // As failures and successes move it.
            let weight = scheduler.weight(slot);
            let next = if up { weight + (full[slot] - weight).div_ceil(2) } else { (weight / 2).max(full[slot] / 256) };
            scheduler.set_weight(slot, next, &mut random);
        }
    }

    #[test]
    fn nobody_starves(weights in prop::collection::vec(1u32..=1000, 1..20)) {
        let total: u32 = weights.iter().sum();
        let (mut scheduler, _) = scheduler(&weights, 3);
        let mut last = vec![0u32; weights.len()];
        for t in 1..=3 * total.min(5000) {
            last[pick(&mut scheduler)] = t;
            for (&last, &weight) in last.iter().zip(&weights) {
                prop_assert!(t - last <= 2 * total.div_ceil(weight), "at {t}");
            }
        }
    }

    #[test]
    fn weights_times_a_constant_pick_the_same(
        weights in prop::collection::vec(1u32..=100, 1..20), factor in 1u32..=600
    ) {
        let scaled: Vec<u32> = weights.iter().map(|weight| weight * factor).collect();
        let ((mut small, _), (mut large, _)) = (scheduler(&weights, 4), scheduler(&scaled, 4));
        // Rounding moves a turn by 2^-40 of a pick: equal ends may then go either way.
        let same = (0..500).filter(|_| pick(&mut small) == pick(&mut large)).count();
        prop_assert!(same >= 480, "{same} of 500");
    }
}

#[test]
fn a_million_picks_of_a_thousand_endpoints_stay_within_a_pick_of_their_shares() {
    let weights: Vec<u32> = (0..1000).map(|i| i * 37 % 211 + 1).collect();
    let (mut scheduler, _) = scheduler(&weights, 1);
    let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    let mut counts = vec![0u32; weights.len()];
    for t in 1..=1_000_000u32 {
        let slot = pick(&mut scheduler);
        counts[slot] += 1;
        let owed = f64::from(t) * f64::from(weights[slot]) / total;
        let off = (f64::from(counts[slot]) - owed).abs();
        assert!(off < 1.0, "slot {slot} is off by {off} after {t}");
    }
    for (&count, &weight) in counts.iter().zip(&weights) {
        let owed = 1e6 * f64::from(weight) / total;
        assert!((f64::from(count) - owed).abs() < 1.0);
    }
}

#[test]
fn one_heavy_endpoint_among_light_ones_gets_no_burst() {
    let mut weights = vec![1; 51];
    weights[0] = 100;
    assert!(worst_deviation(&weights, 3000) < 1.0);
}

#[test]
fn what_is_owed_adds_up_to_nothing_however_often_calls_are_sent_again() {
    let mut weights = vec![1; 51];
    weights[0] = 100;
    let (mut scheduler, mut random) = scheduler(&weights, 9);
    for t in 0..20_000 {
        // Calls that have tried others have few left to go to.
        let tried: Vec<usize> = match t % 10 {
            0 => (1..51).filter(|slot| slot % 25 != t / 10 % 25).collect(),
            _ => Vec::new(),
        };
        let slot = scheduler.propose(&tried).expect("one is left");
        scheduler.charge(slot);
        if t % 100 == 99 {
            let weight = random.below(100) as u32 + 1;
            scheduler.set_weight(0, weight, &mut random);
        }
        let sum: f64 = (0..51).map(|slot| scheduler.lag(slot)).sum();
        assert!(sum.abs() <= 1.0, "{sum} picks are owed after {t}");
    }
}

#[test]
fn shares_stay_to_the_pick_when_virtual_time_is_set_back() {
    // Of so small weights a pick takes so much of it that it is set back every 700 picks.
    assert!(worst_deviation(&[3, 2, 1], 100_000) < 1.0);
}

#[test]
fn one_that_every_call_has_tried_is_owed_a_pick_and_no_more() {
    let (mut scheduler, _) = scheduler(&[1, 1, 1], 5);
    for _ in 0..10_000 {
        let slot = scheduler.propose(&[0]).expect("two are left");
        scheduler.charge(slot);
    }
    let picks: Vec<usize> = (0..30).map(|_| pick(&mut scheduler)).collect();
    let count = picks.iter().filter(|slot| **slot == 0).count();
    assert!((10..=12).contains(&count), "{picks:?}");
}

#[test]
fn endpoints_that_come_and_go_between_two_picks_exhaust_no_number() {
    let (mut scheduler, mut random) = scheduler(&[1, 1], 6);
    for t in 0..100_000 {
        scheduler.set_weight(t % 2, 0, &mut random);
        if t % 7 == 0 {
            scheduler.set_weight(1 - t % 2, 0, &mut random);
        }
        scheduler.set_weight(t % 2, 1 + t as u32 % 3, &mut random);
        scheduler.set_weight(1 - t % 2, 1, &mut random);
        if t % 1000 == 0 {
            pick(&mut scheduler);
        }
    }
    scheduler.set_weight(0, 1, &mut random);
    let mut picks = [0u32; 2];
    (0..100).for_each(|_| picks[pick(&mut scheduler)] += 1);
    assert!(picks[0].abs_diff(picks[1]) <= 2, "{picks:?}");
}
