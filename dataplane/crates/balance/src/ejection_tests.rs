//! Who is ejected, who is not, and how one finds out that an endpoint has healed.

use super::contract_tests::{balancer, call, done, entries};
use super::random::Random;
use super::*;

#[test]
fn while_all_fail_alike_hardly_anybody_is_ejected() {
    let (mut ejections, calls) = (0, 100_000u64);
    for seed in 0..5 {
        let mut random = Random::new(seed);
        let mut balancer = Balancer::new(&Settings::default(), seed);
        balancer.update(&entries(&[1; 10]), 0);
        for t in 0..calls / 5 {
            let outcome = if random.fraction() < 0.5 {
                Outcome::Hard
            } else {
                Outcome::Success
            };
            call(&mut balancer, t * MILLISECOND, |_| outcome);
        }
        ejections += (0..10)
            .filter_map(|slot| balancer.view(slot, 0))
            .map(|view| view.ejections)
            .sum::<u64>();
    }
    assert!(ejections <= 1, "{ejections} in {calls} calls");
}

#[test]
fn of_few_endpoints_half_stay_however_they_fail() {
    for all in 1..=9usize {
        let mut balancer = balancer(&Settings::default(), &vec![1; all]);
        for t in 0..20_000 {
            // All but the first fail.
            let outcome = |slot| {
                if slot == 0 {
                    Outcome::Success
                } else {
                    Outcome::Hard
                }
            };
            call(&mut balancer, t * MILLISECOND, outcome);
            let out = (0..all)
                .filter_map(|slot| balancer.view(slot, 0))
                .filter(|view| view.state != State::Warm);
            assert!(out.count() <= if all == 1 { 0 } else { (all / 2).max(1) });
        }
    }
}

#[test]
fn one_call_at_a_time_finds_out_whether_an_ejected_endpoint_has_healed() {
    let mut balancer = balancer(&Settings::default(), &[1, 1, 1]);
    let ask = Ask {
        can_probe: true,
        ..Ask::default()
    };
    let mut now = 0;
    while balancer
        .view(0, now)
        .is_some_and(|view| view.state == State::Warm)
    {
        now += MILLISECOND;
        call(&mut balancer, now, |slot| {
            if slot == 0 {
                Outcome::Hard
            } else {
                Outcome::Success
            }
        });
    }
    now += 2 * SECOND;
    let picks: Vec<Picked> = (0..20)
        .map(|_| balancer.pick(&ask, now).expect("live"))
        .collect();
    let probes: Vec<&Picked> = picks.iter().filter(|picked| picked.slot == 0).collect();
    assert!(probes.len() == 1 && probes[0].is_probe, "{probes:?}");
    // The caller goes away: the next call is the probe.
    balancer.finish(
        0,
        &Done {
            is_probe: true,
            ..done(Outcome::Neutral, now)
        },
        now,
    );
    now += 20 * MILLISECOND;
    assert_eq!(
        balancer.pick(&ask, now),
        Ok(Picked {
            slot: 0,
            is_probe: true
        })
    );
    balancer.finish(
        0,
        &Done {
            is_probe: true,
            ..done(Outcome::Success, now)
        },
        now,
    );
    let view = balancer.view(0, now).expect("it is there");
    assert_eq!((view.state, view.effective_weight), (State::Warm, 256 / 8));
}

#[test]
fn calls_that_may_not_be_sent_twice_are_no_probes() {
    let mut balancer = balancer(&Settings::default(), &[1, 1, 1]);
    for t in 0..200 {
        call(&mut balancer, t * MILLISECOND, |slot| {
            if slot == 0 {
                Outcome::Hard
            } else {
                Outcome::Success
            }
        });
    }
    let picks = (0..50).map(|t| {
        balancer
            .pick(&Ask::default(), 3 * SECOND + t)
            .expect("live")
    });
    assert!(
        picks
            .into_iter()
            .all(|picked| picked.slot != 0 && !picked.is_probe)
    );
}

/// Three endpoints, of which the first has failed until it was ejected, and its time to come back has come.
fn half_open() -> (Balancer, Nanos) {
    let mut balancer = balancer(&Settings::default(), &[1, 1, 1]);
    for t in 0..200 {
        call(&mut balancer, t * MILLISECOND, |slot| {
            if slot == 0 {
                Outcome::Hard
            } else {
                Outcome::Success
            }
        });
    }
    let now = 3 * SECOND;
    let picked = balancer
        .pick(&Ask::default(), now)
        .expect("others are there");
    balancer.finish(picked.slot, &done(Outcome::Success, now), now);
    let view = balancer.view(0, now).expect("it is there");
    assert!(matches!(view.state, State::HalfOpen { .. }), "{view:?}");
    (balancer, now)
}

#[test]
fn an_endpoint_that_no_call_could_probe_gets_calls_again_after_five_seconds() {
    let (mut balancer, now) = half_open();
    let now = now + 6 * SECOND;
    // Nothing but streams: none of them may be a probe.
    let ask = Ask {
        is_stream: true,
        ..Ask::default()
    };
    let picks = (0..100).map(|t| {
        balancer
            .pick(&ask, now + t * MILLISECOND)
            .expect("live")
            .slot
    });
    assert!(picks.into_iter().any(|slot| slot == 0));
}

#[test]
fn a_probe_that_fails_ejects_nobody_where_that_is_turned_off_or_it_is_the_only_endpoint() {
    let probe = Ask {
        can_probe: true,
        ..Ask::default()
    };
    let without = Settings {
        ejection: false,
        ..Settings::default()
    };
    let turn_off = |balancer: &mut Balancer, now| balancer.configure(&without, now);
    let leave_alone = |balancer: &mut Balancer, now| balancer.update(&entries(&[1]), now);
    for change in [&turn_off as &dyn Fn(&mut Balancer, Nanos), &leave_alone] {
        let (mut balancer, now) = half_open();
        let picked = balancer.pick(&probe, now).expect("live");
        assert!(picked.slot == 0 && picked.is_probe);
        change(&mut balancer, now);
        balancer.finish(
            0,
            &Done {
                is_probe: true,
                ..done(Outcome::Hard, now)
            },
            now,
        );
        assert_eq!(
            balancer.view(0, now).map(|view| view.state),
            Some(State::Warm)
        );
    }
}

#[test]
fn an_endpoint_without_the_model_is_found_among_those_that_have_it() {
    let mut balancer = balancer(&Settings::default(), &[1; 4]);
    let mut late = 0;
    for t in 0..20_000u64 {
        let now = t * MILLISECOND;
        let picked = balancer.pick(&Ask::default(), now).expect("live");
        let outcome = if picked.slot == 2 {
            Outcome::Neutral
        } else {
            Outcome::Success
        };
        let done = Done {
            is_timed: true,
            is_probe: picked.is_probe,
            ..done(outcome, now)
        };
        balancer.finish(picked.slot, &done, now);
        late += u32::from(picked.slot == 2 && t > 10_000);
    }
    assert!(late < 100, "{late} of 10,000");
}

#[test]
fn an_endpoint_that_holds_calls_gets_no_more_of_them_to_find_out_how_it_is() {
    let mut balancer = balancer(&Settings::default(), &[1; 4]);
    let ask = Ask {
        can_probe: true,
        ..Ask::default()
    };
    let mut held = 0;
    for t in 0..20_000u64 {
        let now = t * MILLISECOND;
        let picked = balancer.pick(&ask, now).expect("live");
        if picked.slot == 2 && now > SECOND {
            held += 1;
        } else {
            let done = Done {
                is_probe: picked.is_probe,
                ..done(Outcome::Success, now)
            };
            balancer.finish(picked.slot, &done, now + MILLISECOND / 2);
        }
    }
    assert!(held <= 4, "{held} calls in 19 s");
}
