use std::collections::HashMap;
use std::sync::Arc;

use fastrand::Rng;

use super::replays::Replays;
use super::signing::{FUTURE_S, PAST_S, Wrong};

const NOW: u64 = 1_764_000_000;

#[test]
fn what_has_come_does_not_come_again_as_long_as_its_time_is_taken() {
    let replays = Replays::default();
    for time in [NOW - PAST_S, NOW, NOW + FUTURE_S] {
        assert_eq!(replays.remember(7 + time, time, NOW), Ok(()));
        for now in (NOW..=time + PAST_S).step_by(7) {
            assert_eq!(
                replays.remember(7 + time, time, now),
                Err(Wrong::Replayed),
                "{time} {now}"
            );
        }
    }
}

#[test]
fn what_is_too_old_is_forgotten() {
    let replays = Replays::default();
    for fingerprint in 0..1000 {
        assert_eq!(replays.remember(fingerprint, NOW, NOW), Ok(()));
    }
    assert_eq!(replays.count(), 1000);
    let later = NOW + PAST_S + 60;
    for fingerprint in 0..16 {
        assert_eq!(replays.remember(fingerprint, later, later), Ok(()));
    }
    assert_eq!(replays.count(), 16);
}

#[test]
fn a_full_memory_refuses_what_it_could_not_recognise() {
    let replays = Replays::new(3);
    for fingerprint in 0..3 {
        assert_eq!(replays.remember(fingerprint, NOW, NOW), Ok(()));
    }
    assert_eq!(replays.remember(3, NOW, NOW), Err(Wrong::Full));
    assert_eq!(replays.remember(2, NOW, NOW), Err(Wrong::Replayed));
    assert_eq!(replays.count(), 3);
}

#[test]
fn a_clock_that_jumps_locks_nobody_out_and_leaves_nothing_behind() {
    let replays = Replays::default();
    for now in [NOW, NOW + 100_000, NOW, NOW - 100_000, NOW + 50_000] {
        for fingerprint in 0..500 {
            let mine = fingerprint + now;
            assert_eq!(replays.remember(mine, now, now), Ok(()), "{now}");
        }
    }
    for fingerprint in 0..16 {
        let later = NOW + 200_000;
        assert_eq!(replays.remember(fingerprint, later, later), Ok(()));
    }
    assert_eq!(replays.count(), 16);
}

#[test]
fn each_request_is_taken_once_whatever_the_order() {
    for seed in 0..20 {
        let mut random = Rng::with_seed(seed);
        let (replays, mut now) = (Replays::default(), NOW);
        let mut taken: HashMap<u64, u64> = HashMap::new();
        for _ in 0..5000 {
            now += u64::from(random.u8(..3));
            let fingerprint = random.u64(..2000);
            // The same request has the same time.
            let time = *taken.entry(fingerprint).or_insert(0);
            let is_known = time + PAST_S >= now && time > 0;
            let time = if is_known {
                time
            } else {
                random.u64(now - PAST_S..=now + FUTURE_S)
            };
            let got = replays.remember(fingerprint + (time << 11), time, now);
            assert_eq!(
                got.is_ok(),
                !is_known,
                "seed {seed}: {fingerprint} of {time} at {now}"
            );
            taken.insert(fingerprint, time);
        }
    }
}

#[test]
fn threads_that_bring_the_same_request_get_it_through_once() {
    let replays = Arc::new(Replays::default());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let replays = replays.clone();
            std::thread::spawn(move || {
                let taken = (0..2000).filter(|it| replays.remember(*it, NOW, NOW).is_ok());
                taken.count()
            })
        })
        .collect();
    let taken: usize = threads
        .into_iter()
        .map(|it| it.join().expect("no panic"))
        .sum();
    assert_eq!(taken, 2000);
}
