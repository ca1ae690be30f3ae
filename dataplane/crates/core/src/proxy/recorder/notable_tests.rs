//! Which calls stand out, and for how long.

use super::super::tests::flight;
use super::*;

fn took(micros: u32) -> Flight {
    Flight {
        took: Microseconds(micros),
        ..flight(&micros.to_string())
    }
}

fn failed(id: u32) -> Flight {
    Flight {
        code: Code::Unavailable,
        took: Microseconds(0),
        ..flight(&id.to_string())
    }
}

fn offer(notable: &mut Notable, flight: Flight) {
    if notable.wants(&flight) {
        notable.keep(&flight);
    }
}

fn ids(notable: &Notable, is_failed: bool, now: Instant) -> Vec<u32> {
    let ids = notable.calls(is_failed, now);
    let mut ids: Vec<u32> = ids
        .map(|it| it.id.text().parse().expect("a number"))
        .collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(start_paused = true)]
async fn the_slowest_of_each_ten_seconds_are_kept_for_ten_minutes() {
    let mut notable = Notable::default();
    for second in 0..40_u64 {
        notable.begin(second);
        // Each ten seconds are quicker than those before.
        let base = (4 - second as u32 / 10) * 100;
        for call in 0..50 {
            // In no order: 37 and 50 have no common divisor.
            offer(&mut notable, took(base + call * 37 % 50 + 1));
        }
        assert!(!notable.wants(&took(base + 42)), "eight took longer");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    // Each second has the same calls: the eight slowest of a slot are of the longest time.
    let slow = ids(&notable, false, Instant::now());
    assert_eq!(slow.len(), 4 * CALLS);
    assert!(slow.iter().all(|id| id % 100 > 42), "{slow:?}");
    for base in [100, 200, 300, 400] {
        assert!(slow.contains(&(base + 50)), "{slow:?}");
    }
    tokio::time::advance(Duration::from_secs(595)).await;
    let slow = ids(&notable, false, Instant::now());
    assert!(
        !slow.is_empty(),
        "those of the last seconds are ten minutes old"
    );
    assert!(slow.iter().all(|id| *id < 200), "{slow:?}");
    notable.begin(40 + 595);
    assert!(notable.slots.len() as u64 <= SLOTS);
    notable.begin(40 + 1_300);
    assert_eq!(notable.slots.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_failures_leaves_those_of_the_minutes_before() {
    let mut notable = Notable::default();
    notable.begin(1);
    offer(&mut notable, failed(1));
    notable.begin(11);
    for id in 100..200 {
        offer(&mut notable, failed(id));
    }
    let kept: Vec<u32> = [1].into_iter().chain(192..200).collect();
    assert_eq!(ids(&notable, true, Instant::now()), kept);
    assert_eq!(
        ids(&notable, false, Instant::now()),
        [0; 0],
        "no time at all is not slow"
    );
}

#[test]
fn a_stream_is_never_slow_and_may_fail() {
    let bidi = crate::proxy::method::all();
    let bidi = bidi.iter().find(|it| it.streaming == Streaming::Bidi);
    let mut notable = Notable::default();
    offer(
        &mut notable,
        Flight {
            method: bidi.expect("there is one"),
            ..took(9_000)
        },
    );
    assert_eq!(ids(&notable, false, Instant::now()), [0; 0]);
    let aborted = Flight {
        code: Code::Aborted,
        method: bidi.expect("there is one"),
        ..took(9_000)
    };
    offer(&mut notable, aborted);
    assert_eq!(ids(&notable, true, Instant::now()), [9_000]);
}
