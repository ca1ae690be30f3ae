//! What calls in flight, times, room and reports of load do to the default policy's picks.

use proptest::prelude::*;

use super::contract_tests::{balancer, call, config, done, entries, settings};
use super::random::Random;
use super::*;

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn no_endpoint_has_more_than_a_quarter_above_its_share_of_the_calls_in_flight(
        weights in prop::collection::vec(1u32..=20, 1..40), ends in prop::collection::vec(any::<u16>(), 500)
    ) {
        let mut balancer = balancer(&Settings::default(), &weights);
        let total: u32 = weights.iter().sum();
        let mut calls = Vec::new();
        for (now, end) in (0u64..).zip(ends) {
            let picked = balancer.pick(&Ask::default(), now).expect("live");
            calls.push(picked.slot);
            let bound = 1.25 * calls.len() as f64 * f64::from(weights[picked.slot]) / f64::from(total);
            let count = calls.iter().filter(|slot| **slot == picked.slot).count() as f64;
            prop_assert!(count <= bound.ceil().max(1.0), "{count} of {} on weight {}", calls.len(), weights[picked.slot]);
            if end % 3 == 0 {
                let slot = calls.swap_remove(usize::from(end) % calls.len());
                balancer.finish(slot, &done(Outcome::Success, now), now);
            }
        }
    }

    #[test]
    fn outcomes_that_are_nobodys_fault_change_no_pick(
        weights in prop::collection::vec(1u32..=20, 1..10), codes in prop::collection::vec(any::<bool>(), 400)
    ) {
        let settings = Settings::default();
        let (mut good, mut mixed) = (balancer(&settings, &weights), balancer(&settings, &weights));
        for (t, is_neutral) in (0u64..).zip(codes) {
            let outcome = if is_neutral { Outcome::Neutral } else { Outcome::Success };
            let one = call(&mut good, t * MILLISECOND, |_| Outcome::Success);
            prop_assert_eq!(one, call(&mut mixed, t * MILLISECOND, |_| outcome));
        }
    }
}

#[test]
fn the_first_picks_of_a_thousand_proxies_are_spread_over_the_endpoints() {
    let mut firsts = [0u32; 10];
    for seed in 0..1000 {
        let mut balancer = Balancer::new(&Settings::default(), seed);
        balancer.update(&entries(&[1; 10]), 0);
        firsts[balancer.pick(&Ask::default(), 0).expect("live").slot] += 1;
    }
    let chi: f64 = firsts
        .iter()
        .map(|&count| (f64::from(count) - 100.0).powi(2) / 100.0)
        .sum();
    // 9 degrees of freedom, p = 0.001.
    assert!(chi < 27.9, "{firsts:?}");
}

#[test]
fn an_endpoint_that_answers_nothing_gets_next_to_nothing() {
    let mut balancer = balancer(&Settings::default(), &[1; 4]);
    let mut stuck = 0;
    for t in 0..4000u64 {
        let now = t * MILLISECOND;
        let picked = balancer.pick(&Ask::default(), now).expect("live");
        if picked.slot == 2 && now > SECOND {
            stuck += 1;
        } else {
            balancer.finish(
                picked.slot,
                &done(Outcome::Success, now),
                now + MILLISECOND / 2,
            );
        }
    }
    assert!(stuck <= 4, "{stuck} calls wait for ever");
}

#[test]
fn a_slow_endpoint_gets_less_and_is_tried_again() {
    let settings = Settings {
        in_flight: false,
        ..Settings::default()
    };
    let mut balancer = balancer(&settings, &[1; 4]);
    let mut picks = [0u32; 20];
    for t in 0..20_000u64 {
        let now = t * MILLISECOND;
        let picked = balancer.pick(&Ask::default(), now).expect("live");
        let took = if picked.slot == 3 && t < 10_000 {
            80
        } else {
            10
        } * MILLISECOND;
        picks[(t / 1000) as usize] += u32::from(picked.slot == 3);
        balancer.finish(picked.slot, &done(Outcome::Success, now), now + took);
    }
    assert!(picks[5] < 25 && picks[9] < 25, "{picks:?}");
    assert!(picks[19] > 200, "{picks:?}");
}

#[test]
fn calls_of_mixed_cost_take_nobodys_share() {
    let mut balancer = balancer(&Settings::default(), &[1; 4]);
    let mut random = Random::new(1);
    let mut picks = [0u32; 4];
    let mut calls: Vec<(usize, Nanos, Nanos)> = Vec::new();
    for t in 0..10_000u64 {
        let now = t * MILLISECOND;
        for at in (0..calls.len()).rev() {
            if calls[at].2 <= now {
                let (slot, started, _) = calls.swap_remove(at);
                balancer.finish(slot, &done(Outcome::Success, started), now);
            }
        }
        let picked = balancer.pick(&Ask::default(), now).expect("live");
        picks[picked.slot] += 1;
        let cost = if random.fraction() < 0.03 { 400 } else { 10 };
        calls.push((picked.slot, now, now + cost * MILLISECOND));
    }
    assert!(
        picks.iter().all(|&count| count >= 10_000 / 4 / 2),
        "{picks:?}"
    );
}

#[test]
fn a_call_that_nobody_would_answer_in_time_is_refused_and_others_are_not() {
    let mut balancer = balancer(&Settings::default(), &[1, 1]);
    let (mut now, mut calls) = (0, Vec::new());
    let ask = |left| Ask {
        left: Some(left),
        ..Ask::default()
    };
    // Each ends 100 calls a second.
    for _ in 0..200 {
        calls.push((
            balancer.pick(&ask(60 * SECOND), now).expect("room").slot,
            now,
        ));
        now += 5 * MILLISECOND;
        if calls.len() > 20 {
            let (slot, started) = calls.remove(0);
            balancer.finish(slot, &done(Outcome::Success, started), now);
        }
    }
    for _ in 0..100 {
        balancer
            .pick(&ask(60 * SECOND), now)
            .expect("a minute is enough");
    }
    let refused = balancer.pick(&ask(SECOND / 2), now);
    assert!(
        matches!(refused, Err(Refusal::Overloaded { retry_after }) if retry_after > 0),
        "{refused:?}"
    );
    assert!(balancer.pick(&Ask::default(), now).is_ok());
    let low = Ask {
        is_low: true,
        ..ask(SECOND)
    };
    assert!(balancer.pick(&low, now).is_err());
    assert!(balancer.pick(&ask(SECOND), now).is_ok());
}

#[test]
fn an_endpoint_that_is_full_is_asked_last() {
    let mut balancer = balancer(&Settings::default(), &[1, 1, 1]);
    balancer.finish(1, &done(Outcome::Full, 0), 0);
    let picks: Vec<usize> = (0..10)
        .map(|_| balancer.pick(&Ask::default(), 1).expect("live").slot)
        .collect();
    assert!(!picks.contains(&1), "{picks:?}");
    assert_eq!(
        balancer.view(1, 1).map(|view| view.effective_weight),
        Some(256)
    );
    (0..3).for_each(|slot| balancer.finish(slot, &done(Outcome::Full, 0), 1));
    assert!(
        balancer.pick(&Ask::default(), 2).is_ok(),
        "all are full: one of them is asked"
    );
}

#[test]
fn what_loads_a_model_gets_less_and_what_asks_for_nothing_gets_nothing() {
    let mut balancer = balancer(&Settings::default(), &[1; 4]);
    balancer.set_health(0, Health::NotServing, 0);
    balancer.set_health(1, Health::Loading, 0);
    let mut picks = [0u32; 4];
    (0..9000).for_each(|t| picks[call(&mut balancer, t * 100_000, |_| Outcome::Success)] += 1);
    assert_eq!(picks[0], 0);
    assert!((20..150).contains(&picks[1]), "{picks:?}");
    (1..4).for_each(|slot| balancer.set_health(slot, Health::NotServing, SECOND));
    assert!(
        balancer.pick(&Ask::default(), SECOND).is_ok(),
        "where all ask for nothing all are tried"
    );
}

#[test]
fn load_that_others_cause_is_seen_in_reports() {
    let mut balancer = balancer(&Settings::default(), &[1, 1]);
    let report = LoadReport {
        queue: 20,
        ..LoadReport::default()
    };
    balancer.report_load(0, &report, 0);
    let picks: Vec<usize> = (0..10)
        .map(|_| balancer.pick(&Ask::default(), 1).expect("live").slot)
        .collect();
    assert!(
        picks.iter().filter(|slot| **slot == 0).count() <= 1,
        "{picks:?}"
    );
}

#[test]
fn a_new_endpoint_gets_its_share_bit_by_bit_and_a_known_one_what_it_had() {
    let mut balancer = balancer(&Settings::default(), &[1; 3]);
    let ok = |_| Outcome::Success;
    for t in 0..300 {
        call(&mut balancer, t * MILLISECOND, ok);
    }
    balancer.update(&entries(&[1; 4]), SECOND);
    let share = |balancer: &mut Balancer, from: Nanos| {
        (0..1000)
            .filter(|t| call(balancer, from + t * 100_000, ok) == 3)
            .count()
    };
    let (young, half, old) = (
        share(&mut balancer, SECOND),
        share(&mut balancer, 6 * SECOND),
        share(&mut balancer, 12 * SECOND),
    );
    assert!(
        young < 60 && (120..180).contains(&half) && (240..260).contains(&old),
        "{young} {half} {old}"
    );
    balancer.finish(3, &done(Outcome::Hard, 0), 13 * SECOND);
    balancer.update(&entries(&[1; 3]), 13 * SECOND);
    balancer.update(&entries(&[1; 4]), 20 * SECOND);
    assert_eq!(
        balancer.view(3, 0).map(|view| view.effective_weight),
        Some(128)
    );
    balancer.update(&entries(&[1; 3]), 20 * SECOND);
    balancer.update(&entries(&[1; 4]), 90 * SECOND);
    assert_eq!(
        balancer.view(3, 0).map(|view| view.effective_weight),
        Some(256)
    );
}

#[test]
fn a_retry_goes_elsewhere_and_leaves_the_share_of_first_picks() {
    let mut balancer = balancer(&settings("dwrr", true), &[1; 4]);
    let (mut first, mut second) = ([0u32; 4], [0u32; 4]);
    for _ in 0..4000 {
        let slot = call(&mut balancer, 0, |_| Outcome::Neutral);
        first[slot] += 1;
        if slot == 0 {
            let ask = Ask {
                tried: &[0],
                ..Ask::default()
            };
            let again = balancer.pick(&ask, 0).expect("another is live").slot;
            balancer.finish(again, &done(Outcome::Neutral, 0), 0);
            second[again] += 1;
        }
    }
    assert_eq!(second[0], 0);
    let all: Vec<u32> = (0..4).map(|i| first[i] + second[i]).collect();
    assert!(
        all.iter().all(|&count| count.abs_diff(all[1]) <= 350),
        "{all:?}"
    );
}

#[test]
fn a_slow_start_without_end_is_one() {
    let settings = Settings {
        slow_start_new: Nanos::MAX,
        ..Settings::default()
    };
    let mut balancer = balancer(&settings, &[1, 1]);
    balancer.update(&entries(&[1; 3]), SECOND);
    for t in 0..50 {
        call(&mut balancer, SECOND + t * SECOND, |_| Outcome::Success);
    }
    let view = balancer.view(2, 60 * SECOND).expect("it is there");
    assert_eq!(view.pick_weight, 256 / 8);
}
