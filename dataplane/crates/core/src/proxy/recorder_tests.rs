//! What the recorder keeps, and what one call costs.

use super::*;
use crate::proxy::method;

pub fn flight(id: &str) -> Flight {
    Flight {
        id: Short::new(id),
        model: Short::new("m"),
        caller: Short::new(""),
        method: &method::all()[0],
        started: Instant::now(),
        took: Duration::from_micros(1500).into(),
        code: Code::Ok,
        error: None,
        attempts: 1,
        legs: [const { None }; LEGS],
    }
}

#[test]
fn a_call_is_found_by_its_id_and_of_two_the_newer() {
    let recorder = Recorder::default();
    let (one, other) = (recorder.ring(), recorder.ring());
    one.write(flight("a"));
    other.write(Flight {
        code: Code::Unavailable,
        ..flight("a")
    });
    let found = recorder.find("a").expect("recorded");
    assert_eq!(
        (&found["code"], &found["duration_ms"]),
        (&"UNAVAILABLE".into(), &1.5.into())
    );
}

#[test]
fn calls_that_stand_out_are_told_for_all_workers_and_by_model() {
    let recorder = Recorder::default();
    let (one, other) = (recorder.ring(), recorder.ring());
    let long = "m".repeat(60);
    one.write(flight("a"));
    other.write(Flight {
        model: Short::new(&long),
        took: Duration::from_millis(9).into(),
        code: Code::Unavailable,
        error: Some(ErrorKind::NoEndpoints),
        ..flight("b")
    });
    let told = |is_failed, model, limit| {
        let calls = recorder.notable(&Which {
            is_failed,
            model,
            limit,
        });
        let ids = calls["calls"].as_array().expect("a list").clone();
        ids.into_iter()
            .map(|it| it["request_id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(told(false, None, 9), ["b", "a"]);
    assert_eq!(told(false, None, 1), ["b"]);
    assert_eq!(told(true, None, 9), ["b"]);
    assert_eq!(told(false, Some("m"), 9), ["a"]);
    assert_eq!(
        told(false, Some(&long), 9),
        ["b"],
        "the name is cut on both sides"
    );
    assert_eq!(told(true, Some("m"), 9), [""; 0]);
}

#[test]
fn an_unknown_id_is_told_how_far_the_recorder_goes_back() {
    let recorder = Recorder::default();
    assert_eq!(
        recorder.find("a").expect_err("empty"),
        json!({"held": 0, "oldest_s": null})
    );
    recorder.ring().write(flight("a"));
    let held = recorder.find("b").expect_err("another");
    assert_eq!(held["held"], 1);
    assert!(held["oldest_s"].as_f64() >= Some(0.0));
}

#[test]
fn the_oldest_call_makes_room_and_the_memory_stays() {
    let recorder = Recorder::default();
    let ring = recorder.ring();
    for number in 0..CALLS + 2 {
        ring.write(flight(&number.to_string()));
    }
    assert_eq!(recorder.held()["held"], CALLS);
    assert!(recorder.find("1").is_err());
    assert!(recorder.find("2").is_ok());
    assert_eq!(lock(&ring.flights).kept.capacity(), CALLS);
    assert!(size_of::<Flight>() <= 320, "{}", size_of::<Flight>());
}

#[test]
fn texts_are_cut_between_characters_and_times_at_their_end() {
    assert_eq!(Short::<4>::new("ab").text(), "ab");
    assert_eq!(Short::<4>::new("abc\u{e9}").text(), "abc");
    assert_eq!(
        Microseconds::from(Duration::from_secs(9_999)),
        Microseconds(u32::MAX)
    );
}

/// By hand: `cargo test --release -p dl-inference-core one_call_costs -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
fn what_one_call_costs() {
    let ring = Recorder::default().ring();
    let calls = 2_000_000_u32;
    let started = std::time::Instant::now();
    for _ in 0..calls {
        ring.write(std::hint::black_box(flight("0123456789abcdef")));
    }
    println!("{} ns", (started.elapsed() / calls).as_nanos());
}
