//! Permits, one after the other and from threads.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::in_flight::*;

#[test]
fn permits_are_given_up_to_the_limit_and_come_back_when_dropped() {
    let in_flight = InFlight::default();
    let first = in_flight.acquire(2).expect("room");
    let _second = in_flight.acquire(2).expect("room");
    assert!(in_flight.acquire(2).is_none());
    drop(first);
    assert_eq!(in_flight.count(), 1);
    assert!(in_flight.acquire(2).is_some());
    assert_eq!(in_flight.count(), 1);
}

#[test]
fn a_lower_limit_waits_for_the_calls_in_flight() {
    let in_flight = InFlight::default();
    let mut permits: Vec<_> = (0..5).filter_map(|_| in_flight.acquire(5)).collect();
    permits.truncate(3);
    assert!(in_flight.acquire(3).is_none());
    permits.truncate(2);
    assert!(in_flight.acquire(3).is_some());
    assert!(in_flight.acquire(0).is_none());
}

#[test]
fn a_panic_gives_its_permit_back() {
    let in_flight = InFlight::default();
    let copy = in_flight.clone();
    let result = std::thread::spawn(move || {
        let _permit = copy.acquire(1).expect("room");
        panic!("the call fails");
    })
    .join();
    assert!(result.is_err());
    assert_eq!(in_flight.count(), 0);
}

#[test]
fn threads_never_exceed_the_limit_and_leave_nothing_counted() {
    let (in_flight, most) = (InFlight::default(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    let permit = in_flight.acquire(2);
                    most.fetch_max(in_flight.count(), Relaxed);
                    drop(permit);
                }
            });
        }
    });
    assert!(most.into_inner() <= 2);
    assert_eq!(in_flight.count(), 0);
}
