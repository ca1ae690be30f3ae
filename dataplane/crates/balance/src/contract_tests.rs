//! What every policy promises under the balancer: each test runs over all of [`NAMES`].

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(0x5eed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

pub(crate) fn entries(weights: &[u32]) -> Vec<Entry> {
    (0u64..)
        .zip(weights)
        .map(|(id, &weight)| Entry {
            id,
            weight,
            live: true,
        })
        .collect()
}

/// The settings of a policy, with everything beside its own rule or without.
pub(crate) fn settings(policy: &str, is_plain: bool) -> Settings {
    let base = if is_plain || policy == "dl" {
        Settings::original()
    } else {
        Settings::default()
    };
    Settings {
        policy: policy.to_owned(),
        ..base
    }
}

pub(crate) fn balancer(settings: &Settings, weights: &[u32]) -> Balancer {
    let mut balancer = Balancer::new(settings, 7);
    balancer.update(&entries(weights), 0);
    balancer
}

pub(crate) fn done(outcome: Outcome, started: Nanos) -> Done {
    Done {
        outcome,
        started,
        is_probe: false,
        is_timed: matches!(outcome, Outcome::Success | Outcome::Hard),
        is_stream: false,
    }
}

/// One call that ends at once.
pub(crate) fn call(
    balancer: &mut Balancer,
    now: Nanos,
    outcome: impl Fn(usize) -> Outcome,
) -> usize {
    let ask = Ask {
        can_probe: true,
        ..Ask::default()
    };
    let picked = balancer.pick(&ask, now).expect("one is live");
    let done = Done {
        is_probe: picked.is_probe,
        ..done(outcome(picked.slot), now)
    };
    balancer.finish(picked.slot, &done, now);
    picked.slot
}

fn report(balancer: &mut Balancer, slot: usize, outcome: Outcome) {
    balancer.finish(slot, &done(outcome, 0), 0);
}

fn effective(balancer: &Balancer, slot: usize) -> u32 {
    balancer
        .view(slot, 0)
        .map_or(0, |view| view.effective_weight)
}

#[derive(Clone, Debug)]
enum Op {
    Pick(Vec<usize>, Option<Nanos>, bool),
    Finish(usize, Outcome),
    SetLive(usize, bool),
    SetHealth(usize, Health),
    Load(usize, f64, u32),
    Update(Vec<Entry>),
    Configure(usize),
    Wait(Nanos),
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

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Success),
        3 => Just(Outcome::Hard),
        1 => Just(Outcome::Soft),
        1 => Just(Outcome::Full),
        1 => Just(Outcome::Neutral)
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let health = prop_oneof![
        Just(Health::Unknown),
        Just(Health::Serving),
        Just(Health::NotServing),
        Just(Health::Loading)
    ];
    let load = prop_oneof![any::<f64>(), 0.0..2.0f64];
    prop_oneof![
        20 => (prop::collection::vec(0usize..12, 0..4), any::<Option<Nanos>>(), any::<bool>())
            .prop_map(|(tried, left, probe)| Op::Pick(tried, left, probe)),
        20 => (0usize..32, any_outcome()).prop_map(|(which, outcome)| Op::Finish(which, outcome)),
        4 => (0usize..12, any::<bool>()).prop_map(|(slot, live)| Op::SetLive(slot, live)),
        2 => (0usize..12, health).prop_map(|(slot, health)| Op::SetHealth(slot, health)),
        2 => (0usize..12, load, any::<u32>()).prop_map(|(slot, load, queue)| Op::Load(slot, load, queue)),
        1 => any_entries().prop_map(Op::Update),
        1 => (0usize..8).prop_map(Op::Configure),
        8 => prop_oneof![0..SECOND / 10, 0..10 * SECOND, Just(3_600 * SECOND)].prop_map(Op::Wait),
    ]
}

/// A balancer, and what is known of it from the outside.
struct World {
    balancer: Balancer,
    entries: Vec<Entry>,
    /// (id, slot, started, is_probe) of the attempts in flight.
    calls: Vec<(u64, Picked, Nanos)>,
    now: Nanos,
}

impl World {
    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Pick(tried, left, can_probe) => self.pick(tried, *left, *can_probe)?,
            Op::Finish(which, outcome) => self.finish(*which, *outcome)?,
            Op::SetLive(slot, live) => {
                self.balancer.set_live(*slot, *live, self.now);
                if let Some(entry) = self.entries.get_mut(*slot) {
                    entry.live = *live;
                }
            }
            Op::SetHealth(slot, health) => self.balancer.set_health(*slot, *health, self.now),
            Op::Load(slot, load, queue) => {
                let report = LoadReport {
                    utilization: *load,
                    queue: *queue,
                    rps: *load,
                    eps: 1.0 / *load,
                };
                self.balancer.report_load(*slot, &report, self.now);
            }
            Op::Update(entries) => {
                self.balancer.update(entries, self.now);
                // A call of an endpoint that left is no longer counted, here as in the cluster.
                let before = std::mem::replace(&mut self.entries, entries.clone());
                let stays = |id: u64| {
                    before.iter().any(|it| it.id == id) && entries.iter().any(|it| it.id == id)
                };
                self.calls.retain(|(id, ..)| stays(*id));
            }
            Op::Configure(which) => {
                let name = NAMES[which % NAMES.len()];
                self.balancer
                    .configure(&settings(name, which % 2 == 0), self.now);
            }
            Op::Wait(time) => self.now += time,
        }
        self.check()
    }

    fn pick(
        &mut self,
        tried: &[usize],
        left: Option<Nanos>,
        can_probe: bool,
    ) -> Result<(), TestCaseError> {
        let ask = Ask {
            tried,
            left,
            can_probe,
            key: left,
            ..Ask::default()
        };
        let usable = |i: &usize| self.entries[*i].live && !tried.contains(i);
        match self.balancer.pick(&ask, self.now) {
            Ok(picked) => {
                prop_assert!(usable(&picked.slot), "picked {picked:?}, tried {tried:?}");
                let id = self.entries[picked.slot].id;
                self.calls.push((id, picked, self.now));
            }
            Err(Refusal::Overloaded { retry_after }) => {
                prop_assert!(left.is_some() && retry_after > 0, "{retry_after}");
            }
            Err(Refusal::NoneLive) => {
                // Endpoints that are ejected or ask for no calls are left out while others are connected.
                let all_tried = (0..self.entries.len()).filter(usable).all(|slot| {
                    let view = self.balancer.view(slot, self.now);
                    view.is_none_or(|view| view.pick_weight == 0)
                });
                prop_assert!(all_tried, "picked none");
            }
        }
        Ok(())
    }

    fn finish(&mut self, which: usize, outcome: Outcome) -> Result<(), TestCaseError> {
        if self.calls.is_empty() {
            return Ok(());
        }
        let (id, picked, started) = self.calls.swap_remove(which % self.calls.len());
        let Some(slot) = self.entries.iter().position(|it| it.id == id) else {
            return Ok(());
        };
        let before = effective(&self.balancer, slot);
        let done = Done {
            is_probe: picked.is_probe,
            ..done(outcome, started)
        };
        self.balancer.finish(slot, &done, self.now);
        let after = effective(&self.balancer, slot);
        if !picked.is_probe {
            match outcome {
                Outcome::Success => prop_assert!(after >= before),
                Outcome::Hard | Outcome::Soft => prop_assert!(after <= before),
                Outcome::Full | Outcome::Neutral => prop_assert_eq!(after, before),
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.balancer.in_flight() as usize, self.calls.len());
        let mut out = 0;
        for (slot, entry) in self.entries.iter().enumerate() {
            let view = self.balancer.view(slot, self.now).expect("it is there");
            let e = view.effective_weight;
            // The original's rule leaves 1 of any weight.
            let range = 256.min(entry.weight)..=entry.weight * 256;
            prop_assert!(range.contains(&e), "{e} of {entry:?}");
            let count = self.calls.iter().filter(|(id, ..)| *id == entry.id).count();
            prop_assert_eq!(view.in_flight as usize, count);
            out += usize::from(view.state != State::Warm);
            let is_finite = view.latency.is_none_or(|latency| latency < u64::MAX);
            prop_assert!(is_finite, "{:?}", view.latency);
        }
        // Of those that were there when it was ejected; sets that shrink later may leave more.
        prop_assert!(out <= self.entries.len());
        Ok(())
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn any_history_counts_its_calls_and_picks_connected_untried_endpoints(
        start in any_entries(), ops in prop::collection::vec(any_op(), 1..300), policy in 0..NAMES.len()
    ) {
        let mut balancer = Balancer::new(&settings(NAMES[policy], false), 3);
        balancer.update(&start, 0);
        let mut world = World { balancer, entries: start, calls: Vec::new(), now: 0 };
        for op in &ops {
            world.apply(op)?;
        }
        while !world.calls.is_empty() {
            world.finish(0, Outcome::Success)?;
        }
        prop_assert_eq!(world.balancer.in_flight(), 0);
    }

    #[test]
    fn the_same_seed_and_events_give_the_same_picks(
        start in any_entries(), ops in prop::collection::vec(any_op(), 1..200), policy in 0..NAMES.len()
    ) {
        let world = || {
            let mut balancer = Balancer::new(&settings(NAMES[policy], false), 11);
            balancer.update(&start, 0);
            World { balancer, entries: start.clone(), calls: Vec::new(), now: 0 }
        };
        let (mut one, mut other) = (world(), world());
        for op in &ops {
            one.apply(op)?;
            other.apply(op)?;
            let slots = |world: &World| world.calls.iter().map(|call| call.1).collect::<Vec<_>>();
            prop_assert_eq!(slots(&one), slots(&other));
        }
    }

    #[test]
    fn k_failures_halve_k_times_down_to_the_floor(weight in 1u32..=65535, k in 0u32..30) {
        for name in NAMES.iter().filter(|name| **name != "dl") {
            let mut balancer = balancer(&settings(name, true), &[weight]);
            for _ in 0..k {
                report(&mut balancer, 0, Outcome::Hard);
            }
            prop_assert_eq!(effective(&balancer, 0), weight.max((weight * 256) >> k));
        }
    }

    #[test]
    fn successes_restore_full_weight_in_logarithmic_time(weight in 1u32..=65535, k in 0u32..30) {
        let full = weight * 256;
        for name in NAMES.iter().filter(|name| **name != "dl") {
            let mut balancer = balancer(&settings(name, true), &[weight]);
            for _ in 0..k {
                report(&mut balancer, 0, Outcome::Soft);
            }
            let gap = u64::from(full - effective(&balancer, 0));
            for round in 1..=full.next_power_of_two().ilog2() + 1 {
                prop_assert_eq!(balancer.is_full(0), effective(&balancer, 0) == full);
                report(&mut balancer, 0, Outcome::Success);
                prop_assert!(u64::from(full - effective(&balancer, 0)) <= gap >> round);
            }
            prop_assert!(balancer.is_full(0));
        }
    }

    #[test]
    fn an_update_keeps_what_was_learned_about_the_endpoints_that_stay(
        weights in prop::collection::vec(1u32..=300, 2..12), failures in 0u32..4, factor in 1u32..=7
    ) {
        for name in NAMES.iter().filter(|name| **name != "dl") {
            let mut balancer = balancer(&settings(name, false), &weights);
            for _ in 0..failures {
                report(&mut balancer, 1, Outcome::Hard);
            }
            let learned = effective(&balancer, 1);
            // The first leaves, the second moves and weighs `factor` times as much, a new one comes.
            let mut next = entries(&weights);
            next.rotate_left(1);
            next.pop();
            next[0].weight *= factor;
            let position = next.len() - 1;
            next.swap(0, position);
            next.push(Entry { id: 1000, weight: 3, live: true });
            balancer.update(&next, SECOND);
            prop_assert_eq!(effective(&balancer, position), learned * factor);
            prop_assert_eq!(effective(&balancer, position + 1), 3 * 256);
        }
    }

    #[test]
    fn an_update_that_changes_nothing_changes_no_pick(
        weights in prop::collection::vec(1u32..=30, 1..12), every in 1u64..5
    ) {
        for name in ["dwrr", "round_robin", "dl", "maglev"] {
            let settings = settings(name, false);
            let mut quiet = balancer(&settings, &weights);
            let mut updated = balancer(&settings, &weights);
            for t in 0..300u64 {
                if t % every == 0 {
                    updated.update(&entries(&weights), t * MILLISECOND);
                }
                let ok = |_| Outcome::Success;
                let (one, other) = (call(&mut quiet, t * MILLISECOND, ok), call(&mut updated, t * MILLISECOND, ok));
                prop_assert_eq!(one, other, "{} at {}", name, t);
            }
        }
    }
}

#[test]
fn an_empty_set_picks_nobody() {
    for name in NAMES {
        let mut balancer = balancer(&settings(name, false), &[]);
        for tried in [&[][..], &[0]] {
            let ask = Ask {
                tried,
                ..Ask::default()
            };
            assert_eq!(balancer.pick(&ask, 0), Err(Refusal::NoneLive));
        }
        report(&mut balancer, 0, Outcome::Hard);
        balancer.set_live(0, false, 0);
        balancer.set_health(0, Health::Loading, 0);
        assert_eq!(balancer.view(0, 0), None);
        balancer.update(&[], 0);
        assert_eq!(balancer.pick(&Ask::default(), 0), Err(Refusal::NoneLive));
    }
}

#[test]
fn a_single_endpoint_is_picked_however_often_it_fails() {
    for name in NAMES {
        let mut balancer = balancer(&settings(name, false), &[1]);
        for t in 0..1000 {
            assert_eq!(call(&mut balancer, t * MILLISECOND, |_| Outcome::Hard), 0);
        }
        balancer.set_live(0, false, SECOND);
        assert!(balancer.pick(&Ask::default(), SECOND).is_err());
        balancer.set_live(0, true, SECOND);
        assert_eq!(call(&mut balancer, SECOND, |_| Outcome::Hard), 0);
    }
}

#[test]
fn an_endpoint_that_fails_is_ejected_and_comes_back_when_it_is_well() {
    for name in NAMES.iter().filter(|name| **name != "dl") {
        let mut balancer = balancer(&settings(name, false), &[1; 4]);
        let heals_at = 5 * SECOND;
        let mut picks = [0u32; 20];
        let mut errors = 0;
        for t in 0..20_000u64 {
            let now = t * MILLISECOND;
            let outcome = |slot| match slot {
                1 if now < heals_at => Outcome::Hard,
                _ => Outcome::Success,
            };
            if call(&mut balancer, now, outcome) == 1 {
                picks[(t / 1000) as usize] += 1;
                errors += u32::from(now < heals_at);
            }
        }
        assert!(errors <= 20, "{name}: {errors} calls failed");
        assert!(picks[19] >= 150, "{name}: {picks:?}");
    }
}

#[test]
fn weights_decide_the_shares_of_calls_that_come_one_by_one() {
    for name in NAMES {
        let mut balancer = balancer(&settings(name, false), &[1, 2, 5]);
        let mut picks = [0u32; 3];
        for t in 0..8000 {
            picks[call(&mut balancer, t * MILLISECOND, |_| Outcome::Success)] += 1;
        }
        let expected = [1000, 2000, 5000];
        let is_near = |(got, want): (&u32, u32)| got.abs_diff(want) < want / 5;
        assert!(picks.iter().zip(expected).all(is_near), "{name}: {picks:?}");
    }
}

#[test]
fn the_largest_weights_of_ten_thousand_endpoints_do_not_overflow() {
    for name in NAMES {
        let mut balancer = balancer(&settings(name, false), &vec![65535; 10_000]);
        for t in 0..1000 {
            let outcome = if t % 3 == 0 {
                Outcome::Hard
            } else {
                Outcome::Success
            };
            call(&mut balancer, t * MILLISECOND, |_| outcome);
        }
    }
}

#[test]
fn a_key_stays_with_its_endpoint_and_few_move_when_one_leaves() {
    let mut balancer = balancer(&settings("maglev", false), &[1; 10]);
    let of = |balancer: &mut Balancer, key: u64| {
        let ask = Ask {
            key: Some(key),
            ..Ask::default()
        };
        let picked = balancer.pick(&ask, 0).expect("live");
        balancer.finish(picked.slot, &done(Outcome::Success, 0), 0);
        picked.slot
    };
    let before: Vec<usize> = (0..1000).map(|key| of(&mut balancer, key)).collect();
    let again: Vec<usize> = (0..1000).map(|key| of(&mut balancer, key)).collect();
    assert_eq!(before, again);
    let mut counts = [0u32; 10];
    before.iter().for_each(|slot| counts[*slot] += 1);
    assert!(
        counts.iter().all(|count| (60..150).contains(count)),
        "{counts:?}"
    );
    balancer.set_live(4, false, 0);
    let after: Vec<usize> = (0..1000).map(|key| of(&mut balancer, key)).collect();
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count() as u32;
    assert_eq!(moved, counts[4], "only its own keys move");
}
