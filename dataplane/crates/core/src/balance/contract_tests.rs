//! What every policy promises: each test runs over all of [`NAMES`].

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{Entry, NAMES, Outcome, Picker, picker};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(0x5eed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn entries(weights: &[u32]) -> Vec<Entry> {
    (0u64..)
        .zip(weights)
        .map(|(id, &weight)| Entry {
            id,
            weight,
            live: true,
        })
        .collect()
}

/// One picker of each policy over live endpoints with these weights.
fn pickers(weights: &[u32]) -> impl Iterator<Item = (&'static str, Box<dyn Picker>)> {
    let entries = entries(weights);
    NAMES.iter().map(move |name| {
        let mut picker = picker(name).expect("a listed name makes a picker");
        picker.update(&entries);
        (*name, picker)
    })
}

#[derive(Clone, Debug)]
enum Op {
    Pick(Vec<usize>),
    Report(usize, Outcome),
    SetLive(usize, bool),
    Update(Vec<Entry>),
}

fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = (0u64..12, 1u32..=65535, prop::bool::weighted(0.8));
    let small = (0u64..12, 1u32..=4, prop::bool::weighted(0.8));
    prop::collection::vec(prop_oneof![entry, small], 0..10).prop_map(|rows| {
        let mut seen = std::collections::BTreeSet::new();
        let fresh = rows.into_iter().filter(|row| seen.insert(row.0));
        fresh
            .map(|(id, weight, live)| Entry { id, weight, live })
            .collect()
    })
}

fn any_op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![
        Just(Outcome::Success),
        Just(Outcome::Failure),
        Just(Outcome::Neutral)
    ];
    prop_oneof![
        10 => prop::collection::vec(0usize..12, 0..4).prop_map(Op::Pick),
        10 => Just(Op::Pick(Vec::new())),
        20 => (0usize..12, outcome).prop_map(|(index, outcome)| Op::Report(index, outcome)),
        4 => (0usize..12, any::<bool>()).prop_map(|(index, live)| Op::SetLive(index, live)),
        1 => any_entries().prop_map(Op::Update),
    ]
}

/// Apply one operation to the picker and to the model of it, and check what it did.
fn apply(picker: &mut dyn Picker, model: &mut Vec<Entry>, op: &Op) -> Result<(), TestCaseError> {
    match op {
        Op::Pick(tried) => {
            let usable = |i: &usize| model[*i].live && !tried.contains(i);
            match picker.pick(tried) {
                Some(index) => prop_assert!(usable(&index), "picked {index}, tried {tried:?}"),
                None => prop_assert!(!(0..model.len()).any(|i| usable(&i)), "picked none"),
            }
        }
        Op::Report(index, outcome) => {
            let before = picker.effective_weight(*index);
            picker.report(*index, *outcome);
            let after = picker.effective_weight(*index);
            match outcome {
                Outcome::Success => prop_assert!(after >= before),
                Outcome::Failure => prop_assert!(after <= before),
                Outcome::Neutral => prop_assert_eq!(after, before),
            }
        }
        Op::SetLive(index, live) => {
            picker.set_live(*index, *live);
            if let Some(entry) = model.get_mut(*index) {
                entry.live = *live;
            }
        }
        Op::Update(entries) => {
            picker.update(entries);
            model.clone_from(entries);
        }
    }
    for (index, entry) in model.iter().enumerate() {
        let e = picker.effective_weight(index);
        prop_assert!(
            (entry.weight..=entry.weight * 256).contains(&e),
            "{e} of {entry:?}"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn any_history_keeps_weights_in_range_and_picks_live_untried_endpoints(
        start in any_entries(), ops in prop::collection::vec(any_op(), 1..200)
    ) {
        for name in NAMES {
            let mut picker = picker(name).expect("a listed name makes a picker");
            let mut model = start.clone();
            picker.update(&start);
            for op in &ops {
                apply(picker.as_mut(), &mut model, op)?;
            }
        }
    }

    #[test]
    fn k_failures_halve_k_times_down_to_the_floor(weight in 1u32..=65535, k in 0u32..30) {
        for (_, mut picker) in pickers(&[weight]) {
            for _ in 0..k {
                picker.report(0, Outcome::Failure);
            }
            prop_assert_eq!(picker.effective_weight(0), weight.max((weight * 256) >> k));
        }
    }

    #[test]
    fn successes_restore_full_weight_in_logarithmic_time(weight in 1u32..=65535, k in 0u32..30) {
        let full = weight * 256;
        for (_, mut picker) in pickers(&[weight]) {
            for _ in 0..k {
                picker.report(0, Outcome::Failure);
            }
            let gap = u64::from(full - picker.effective_weight(0));
            for round in 1..=full.next_power_of_two().ilog2() + 1 {
                prop_assert_eq!(picker.is_full(0), picker.effective_weight(0) == full);
                picker.report(0, Outcome::Success);
                prop_assert!(u64::from(full - picker.effective_weight(0)) <= gap >> round);
            }
            prop_assert_eq!(picker.effective_weight(0), full);
            prop_assert!(picker.is_full(0));
        }
    }

    #[test]
    fn fixed_weights_get_their_share_at_every_moment(
        weights in prop::collection::vec(1u32..=200, 1..40)
    ) {
        let total: u32 = weights.iter().sum();
        for (name, mut picker) in pickers(&weights) {
            let mut counts = vec![0u32; weights.len()];
            for t in 1..=2000u32 {
                counts[picker.pick(&[]).expect("all live")] += 1;
                for (i, (&count, &weight)) in counts.iter().zip(&weights).enumerate() {
                    let owed = f64::from(t) * f64::from(weight) / f64::from(total);
                    let off = (f64::from(count) - owed).abs();
                    prop_assert!(off < 1.5, "{name}: endpoint {i} is off by {off} after {t}");
                }
            }
        }
    }

    #[test]
    fn nobody_starves(weights in prop::collection::vec(1u32..=1000, 1..20)) {
        let total: u32 = weights.iter().sum();
        for (name, mut picker) in pickers(&weights) {
            let mut last = vec![0u32; weights.len()];
            for t in 1..=3 * total.min(5000) {
                last[picker.pick(&[]).expect("all live")] = t;
                for (&last, &weight) in last.iter().zip(&weights) {
                    prop_assert!(t - last <= 3 * total.div_ceil(weight), "{name} at {t}");
                }
            }
        }
    }

    #[test]
    fn weights_times_a_constant_pick_the_same(
        weights in prop::collection::vec(1u32..=100, 1..20), factor in 1u32..=600
    ) {
        let scaled: Vec<u32> = weights.iter().map(|weight| weight * factor).collect();
        for ((_, mut small), (_, mut large)) in pickers(&weights).zip(pickers(&scaled)) {
            for _ in 0..500 {
                prop_assert_eq!(small.pick(&[]), large.pick(&[]));
            }
        }
    }

    #[test]
    fn an_update_keeps_what_was_learned_about_the_endpoints_that_stay(
        weights in prop::collection::vec(1u32..=300, 2..12), failures in 0u32..6, factor in 1u32..=7
    ) {
        for (_, mut picker) in pickers(&weights) {
            for _ in 0..failures {
                picker.report(1, Outcome::Failure);
            }
            let learned = picker.effective_weight(1);
            // The first leaves, the second moves and weighs `factor` times as much, a new one comes.
            let mut next = entries(&weights);
            next.rotate_left(1);
            next.pop();
            next[0].weight *= factor;
            let position = next.len() - 1;
            next.swap(0, position);
            next.push(Entry { id: 1000, weight: 3, live: true });
            picker.update(&next);
            prop_assert_eq!(picker.effective_weight(position), learned * factor);
            prop_assert_eq!(picker.effective_weight(position + 1), 3 * 256);
        }
    }

    #[test]
    fn an_update_that_changes_nothing_changes_no_pick(
        weights in prop::collection::vec(1u32..=30, 1..12), every in 1usize..5
    ) {
        for ((_, mut quiet), (_, mut updated)) in pickers(&weights).zip(pickers(&weights)) {
            for t in 0..300 {
                if t % every == 0 {
                    updated.update(&entries(&weights));
                }
                prop_assert_eq!(quiet.pick(&[]), updated.pick(&[]));
            }
        }
    }
}

#[test]
fn every_name_makes_a_picker_and_no_other_does() {
    assert!(NAMES.iter().all(|name| picker(name).is_some()));
    assert!(picker("").is_none() && picker("round_robin").is_none());
}

#[test]
fn an_empty_set_picks_nobody() {
    for (_, mut picker) in pickers(&[]) {
        assert_eq!(picker.pick(&[]), None);
        assert_eq!(picker.pick(&[0]), None);
        picker.report(0, Outcome::Failure);
        picker.set_live(0, false);
        assert_eq!(picker.effective_weight(0), 0);
        picker.update(&[]);
        assert_eq!(picker.pick(&[]), None);
    }
}

#[test]
fn a_single_endpoint_is_picked_however_often_it_fails() {
    for (_, mut picker) in pickers(&[1]) {
        for _ in 0..1000 {
            assert_eq!(picker.pick(&[]), Some(0));
            assert_eq!(picker.pick(&[0]), None);
            picker.report(0, Outcome::Failure);
        }
        picker.set_live(0, false);
        assert_eq!(picker.pick(&[]), None);
        picker.set_live(0, true);
        assert_eq!(picker.pick(&[]), Some(0));
    }
}

#[test]
fn a_failing_endpoint_of_weight_one_keeps_a_256th_of_a_share() {
    for (name, mut picker) in pickers(&[1, 1, 1]) {
        let mut failed = 0u32;
        for _ in 0..5130 {
            let index = picker.pick(&[]).expect("all live");
            let outcome = if index == 1 {
                Outcome::Failure
            } else {
                Outcome::Success
            };
            failed += u32::from(index == 1);
            picker.report(index, outcome);
        }
        // Eight halvings, then 1 of 513.
        assert!(
            (10..=10 + 8 + 2).contains(&failed),
            "{name}: {failed} picks of the failing one"
        );
    }
}

#[test]
fn a_healed_endpoint_has_its_share_back_soon() {
    for (name, mut picker) in pickers(&[1, 1, 1]) {
        (0..20).for_each(|_| picker.report(0, Outcome::Failure));
        let mut picks = [0u32; 1500];
        for pick in &mut picks {
            *pick = u32::from(picker.pick(&[]) == Some(0));
            if *pick == 1 {
                picker.report(0, Outcome::Success);
            }
        }
        let late: u32 = picks[900..].iter().sum();
        assert!(late >= 160, "{name}: {late} of 600 picks");
    }
}

#[test]
fn the_largest_weights_of_ten_thousand_endpoints_do_not_overflow() {
    for (_, mut picker) in pickers(&vec![65535; 10_000]) {
        for t in 0..1000 {
            assert_eq!(picker.pick(&[]), Some(t));
            picker.report(
                t,
                if t % 3 == 0 {
                    Outcome::Failure
                } else {
                    Outcome::Success
                },
            );
        }
    }
}
