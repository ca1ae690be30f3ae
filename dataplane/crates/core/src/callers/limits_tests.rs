use serde_json::{Value, json};

use super::*;

/// So slow that no token comes back during a test.
const SLOW: f64 = 0.001;

fn limits(given: Value) -> CallLimits {
    let mut whole = json!({"requests_per_s": null, "burst": 1, "in_flight": null, "bytes_per_s": null, "instances": 1});
    for (key, value) in given.as_object().expect("a mapping") {
        whole[key] = value.clone();
    }
    serde_json::from_value(whole).expect("whole limits")
}

fn limit_after(old: Option<&Limit>, given: Value) -> Arc<Limit> {
    let whose = Whose {
        caller: None,
        model: Some("m".into()),
    };
    let now = Instant::now();
    Arc::new(Limit::new(whose, &limits(given), old, now))
}

fn limit(given: Value) -> Arc<Limit> {
    limit_after(None, given)
}

/// How many calls, each of one message of so many bytes, are admitted before one is refused, and what it is told.
fn admitted(limit: &Arc<Limit>, bytes: usize) -> (usize, Error) {
    for count in 0..10_000 {
        let mut charges = Charges::default();
        let added = charges.add(limit).and_then(|()| charges.message(bytes));
        if let Err(error) = added {
            return (count, error);
        }
    }
    panic!("nothing was refused");
}

#[test]
fn a_refusal_names_the_limit_its_value_and_when_to_try_again() {
    let limit = limit(json!({"requests_per_s": SLOW, "burst": 3}));
    let (count, error) = admitted(&limit, 10);
    assert_eq!(count, 3);
    assert_eq!(error.kind, ErrorKind::Limited);
    let wait = error.retry_after.expect("a time");
    assert!((990.0..=1000.0).contains(&wait.as_secs_f64()), "{wait:?}");
    let text = format!(
        "model m may have requests_per_s 0.001 (burst 3); try again in {} ms, or have the limit raised",
        wait.as_millis()
    );
    assert_eq!(error.message, text);
    let refused: Vec<_> = limit.refused().collect();
    assert_eq!(refused, [(Of::Requests, 1)]);
}

#[test]
fn each_of_several_access_services_allows_its_part_and_at_least_one() {
    for (instances, burst, most) in [
        (0, 10, 10),
        (1, 10, 10),
        (4, 10, 2),
        (5, 10, 2),
        (20, 10, 1),
    ] {
        let given = json!({"requests_per_s": SLOW, "burst": burst, "instances": instances});
        let (count, error) = admitted(&limit(given), 0);
        assert_eq!(count, most, "{instances}");
        let wait = error.retry_after.expect("a time").as_secs_f64();
        let parts = f64::from(instances.max(1));
        let left = (f64::from(burst) / parts).max(1.0).fract();
        let due = (1.0 - left) * parts / SLOW;
        assert!((0.99 * due..=due).contains(&wait), "{wait} {instances}");
        let is_said = error.message.contains(&format!("1/{instances}"));
        assert_eq!(is_said, instances > 1, "{}", error.message);
    }
    let given = json!({"in_flight": 5, "instances": 2});
    let limit = limit(given);
    let mut held: Vec<_> = (0..3).map(|_| Charges::default()).collect();
    assert!(held.iter_mut().all(|charges| charges.add(&limit).is_ok()));
    assert!(Charges::default().add(&limit).is_err(), "three of five");
}

#[test]
fn each_of_several_access_services_takes_its_part_of_the_bytes() {
    let limit = limit(json!({"bytes_per_s": 1000, "instances": 4}));
    let mut charges = Charges::default();
    assert!(charges.add(&limit).is_ok());
    assert!(charges.message(500).is_ok(), "it is owed");
    let error = charges.message(1).unwrap_err();
    let wait = error.retry_after.expect("a time").as_secs_f64();
    assert!(
        (0.9..=1.001).contains(&wait),
        "{wait}: 500 at 250/s, less the 250 that were there"
    );
}

#[test]
fn messages_that_came_before_a_limit_was_known_are_requests_under_it() {
    let limit = limit(json!({"requests_per_s": SLOW, "burst": 3}));
    let mut stream = Charges::default();
    assert!((0..3).all(|_| stream.message(1).is_ok()));
    assert!(stream.add(&limit).is_ok());
    assert!(stream.message(1).is_err(), "three are taken");
}

#[test]
fn a_place_in_flight_is_given_back_when_its_call_ends_or_is_refused() {
    let limit = limit(json!({"in_flight": 1, "requests_per_s": SLOW, "burst": 2}));
    let mut first = Charges::default();
    assert!(first.add(&limit).is_ok());
    let error = Charges::default().add(&limit).unwrap_err();
    assert!(error.message.contains("in_flight 1"), "{}", error.message);
    assert_eq!(error.retry_after, None, "nobody knows");
    drop(first);
    assert!(
        Charges::default().add(&limit).is_ok(),
        "what was refused took no token"
    );
    assert_eq!(limit.in_flight(), 0);
    assert!(Charges::default().add(&limit).is_err(), "no token is left");
    assert_eq!(
        limit.in_flight(),
        0,
        "the place of one that was refused for another reason"
    );
    let refused: Vec<_> = limit.refused().collect();
    assert_eq!(refused, [(Of::Requests, 1), (Of::InFlight, 1)]);
}

#[test]
fn bytes_of_a_message_count_whether_it_begins_before_the_limit_is_known_or_after() {
    for comes_first in [true, false] {
        let limit = limit(json!({"bytes_per_s": 1000}));
        for (bytes, is_taken) in [(600, true), (600, true), (1, false)] {
            let mut charges = Charges::default();
            let taken = if comes_first {
                charges.message(bytes).and_then(|()| charges.add(&limit))
            } else {
                charges.add(&limit).and_then(|()| charges.message(bytes))
            };
            assert_eq!(taken.is_ok(), is_taken, "{comes_first} {bytes}");
        }
    }
}

#[test]
fn each_message_of_a_stream_is_a_request() {
    let limit = limit(json!({"requests_per_s": SLOW, "burst": 3}));
    let mut stream = Charges::default();
    assert!(stream.add(&limit).is_ok());
    let taken: Vec<_> = (0..4).map(|_| stream.message(1).is_ok()).collect();
    assert_eq!(taken, [true, true, true, false]);
}

#[test]
fn a_call_is_under_all_of_its_limits() {
    let (wide, narrow) = (
        limit(json!({"requests_per_s": SLOW, "burst": 5})),
        limit(json!({"requests_per_s": SLOW, "burst": 2, "in_flight": 9})),
    );
    for is_admitted in [true, true, false] {
        let mut charges = Charges::default();
        assert!(charges.add(&wide).is_ok());
        assert_eq!(charges.add(&narrow).is_ok(), is_admitted);
        assert_eq!(narrow.in_flight(), usize::from(is_admitted));
    }
}

#[test]
fn what_was_taken_stays_taken_when_a_limit_changes() {
    let before = limit(json!({"requests_per_s": SLOW, "burst": 5, "in_flight": 2}));
    let mut held = Charges::default();
    assert!(held.add(&before).is_ok());
    assert_eq!(admitted(&before, 0).0, 4);
    let wider = json!({"requests_per_s": 10.0 * SLOW, "burst": 8, "in_flight": 2});
    let after = limit_after(Some(&before), wider);
    assert_eq!(admitted(&after, 0).0, 3, "eight less five");
    let refused: Vec<_> = after.refused().collect();
    assert_eq!(refused, [(Of::Requests, 2), (Of::InFlight, 0)]);
    assert_eq!(after.in_flight(), 1, "it began under the old one");
    drop(held);
    assert_eq!(after.in_flight(), 0);
}

#[test]
fn a_share_that_grows_brings_no_burst_and_one_that_shrinks_takes_what_does_not_fit() {
    let limit = limit(json!({"requests_per_s": SLOW, "burst": 20, "instances": 2}));
    assert_eq!(admitted(&limit, 0).0, 10, "half of it");
    limit.share(Of::Requests, Some(1.0), Instant::now());
    let (count, error) = admitted(&limit, 0);
    assert_eq!(count, 0, "tokens come by time alone");
    assert!(
        error.message.contains("allows 100.0 % now"),
        "{}",
        error.message
    );
    let wait = error.retry_after.expect("a time").as_secs_f64();
    assert!((990.0..=1000.0).contains(&wait), "the whole rate: {wait}");

    let other = limit_after(None, json!({"requests_per_s": SLOW, "burst": 20}));
    for part in [0.25, 1.0, 0.5, 1.0] {
        other.share(Of::Requests, Some(part), Instant::now());
    }
    assert_eq!(admitted(&other, 0).0, 5, "what fitted into the smallest");
}

#[test]
fn a_share_outlives_a_reload_and_ends_by_division() {
    let given = json!({"in_flight": 8, "instances": 4, "bytes_per_s": 1000});
    let before = limit(given.clone());
    let now = Instant::now();
    before.share(Of::InFlight, Some(0.5), now);
    before.share(Of::Bytes, Some(0.9), now);
    let after = limit_after(Some(&before), given);
    assert_eq!(
        [Of::InFlight, Of::Bytes].map(|it| after.part(it)),
        [0.5, 0.9]
    );
    let held = |count: usize| (0..count).map(|_| Charges::default()).collect::<Vec<_>>();
    let mut calls = held(4);
    assert!(calls.iter_mut().all(|it| it.add(&after).is_ok()));
    assert!(Charges::default().add(&after).is_err(), "four of eight");
    drop(calls);
    after.share(Of::InFlight, None, now);
    let mut calls = held(2);
    assert!(calls.iter_mut().all(|it| it.add(&after).is_ok()));
    assert!(Charges::default().add(&after).is_err(), "a fourth of eight");
}

#[test]
fn what_is_wanted_counts_what_is_refused_too() {
    let limit =
        limit(json!({"requests_per_s": 10.0, "burst": 1, "in_flight": 4, "bytes_per_s": 1000}));
    let mut held = Charges::default();
    assert!(held.add(&limit).and_then(|()| held.message(100)).is_ok());
    for _ in 0..3 {
        assert!(Charges::default().add(&limit).is_err(), "no token is left");
    }
    let wanted =
        |over_s| [Of::Requests, Of::InFlight, Of::Bytes].map(|it| limit.wanted(it, over_s));
    assert_eq!(wanted(1.0), [0.4, 0.25, 0.1]);
    drop(held);
    assert_eq!(wanted(1.0), [0.2, 0.125, 0.05], "it falls by half");
    for _ in 0..100 {
        let _ = Charges::default().add(&limit);
    }
    assert_eq!(wanted(1.0)[0], 1.0, "never more than the whole");
}
