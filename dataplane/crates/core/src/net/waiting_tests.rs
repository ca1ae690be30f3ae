use std::time::Instant as Clock;

use super::*;

const SLICE: Duration = Duration::from_millis(50);

/// Two workers whose program drains, without listeners.
fn draining() -> Waiting {
    let changed = Arc::<Notify>::default();
    let waiting = Waiting {
        drain: Drain::default(),
        loads: vec![
            Arc::new(Load::new(changed.clone())),
            Arc::new(Load::new(changed.clone())),
        ],
        changed,
    };
    waiting.drain.begin();
    waiting
}

/// Do something after a while, on another thread.
fn later(load: &Arc<Load>, after: Duration, act: impl FnOnce(&Load) + Send + 'static) {
    let load = load.clone();
    std::thread::spawn(move || {
        std::thread::sleep(after);
        act(&load);
    });
}

#[test]
fn nothing_to_wait_for_is_no_wait() {
    let begin = Clock::now();
    assert!(draining().drained(Duration::from_secs(10)));
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_call_is_waited_for_though_its_connection_has_gone() {
    let waiting = draining();
    waiting.loads[1].add_stream();
    later(&waiting.loads[1], SLICE, Load::remove_stream);
    let begin = Clock::now();
    assert!(waiting.drained(Duration::from_secs(10)));
    assert!(begin.elapsed() >= SLICE);
}

#[test]
fn a_call_that_does_not_end_uses_up_the_time_and_is_told() {
    let waiting = draining();
    waiting.loads[0].add_stream();
    assert!(!waiting.drained(SLICE));
}

#[test]
fn connections_without_calls_are_waited_for_a_second_however_the_wait_is_cut() {
    let waiting = draining();
    for load in &waiting.loads {
        load.add_connection();
    }
    let begin = Clock::now();
    let mut slices = 0;
    loop {
        let slice = Clock::now();
        assert!(waiting.drained(Duration::from_millis(200)));
        slices += 1;
        if slice.elapsed() < Duration::from_millis(150) || slices > 20 {
            break;
        }
    }
    // One second for both workers, not for each, nor for each slice.
    assert!((CLOSE_GRACE..CLOSE_GRACE * 2).contains(&begin.elapsed()));
}

#[test]
fn a_call_that_comes_within_the_second_begins_it_anew() {
    let waiting = draining();
    let load = waiting.loads[0].clone();
    load.add_connection();
    later(&load, CLOSE_GRACE / 2, |load| {
        load.add_stream();
        load.remove_stream();
    });
    let begin = Clock::now();
    assert!(waiting.drained(Duration::from_secs(10)));
    assert!(begin.elapsed() >= CLOSE_GRACE + CLOSE_GRACE / 2);
}

#[test]
fn a_stop_ends_the_wait_at_once() {
    let waiting = draining();
    waiting.loads[0].add_stream();
    let drain = waiting.drain.clone();
    later(&waiting.loads[0], SLICE, move |_| {
        drain.advance(Phase::Stopped)
    });
    let begin = Clock::now();
    assert!(!waiting.drained(Duration::from_secs(10)));
    assert!(begin.elapsed() < Duration::from_secs(5));
}
