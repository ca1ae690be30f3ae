//! Windows, by their one law.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Receive(u32),
    Release(u32),
    Target(u32),
    Announce,
    AnnounceAll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u32..100_000).prop_map(Step::Receive),
        (0u32..100_000).prop_map(Step::Release),
        (0u32..200_000).prop_map(Step::Target),
        Just(Step::Announce),
        Just(Step::AnnounceAll),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// What the peer may send, what is held, and what was freed and not announced are the window, whatever happens.
    #[test]
    fn nothing_of_a_window_is_lost_or_made(first in 0u32..100_000, steps in steps()) {
        let mut window = Receiving::new(first, 65_535);
        // The peer's side of it, and what was announced and taken in all.
        let (mut allowed, mut held) = (i64::from(first), 0u32);
        let mut target = 65_535i64;
        for step in steps {
            match step {
                Step::Receive(bytes) => {
                    let is_taken = window.receive(bytes).is_ok();
                    prop_assert_eq!(is_taken, i64::from(bytes) <= allowed);
                    if is_taken {
                        allowed -= i64::from(bytes);
                        held += bytes;
                    }
                }
                Step::Release(bytes) => {
                    let bytes = bytes.min(held);
                    window.release(bytes);
                    held -= bytes;
                }
                Step::Target(bytes) => {
                    window.set_target(bytes);
                    target = bytes.into();
                }
                Step::Announce => {
                    let freed = target - allowed - i64::from(held);
                    let is_due = freed > 0 && (freed * 2 >= target || freed > allowed);
                    let announced = window.announce();
                    prop_assert_eq!(announced.map(i64::from), is_due.then_some(freed));
                    allowed += announced.map_or(0, i64::from);
                }
                Step::AnnounceAll => {
                    let freed = target - allowed - i64::from(held);
                    let announced = window.announce_all();
                    prop_assert_eq!(announced.map(i64::from), (freed > 0).then_some(freed));
                    allowed += announced.map_or(0, i64::from);
                }
            }
            prop_assert_eq!(window.held(), u64::from(held));
        }
        window.release(held);
        window.announce_all();
        // Nothing is held: all of the target is the peer's.
        prop_assert_eq!(window.receive(u32::try_from(target.max(allowed)).unwrap()), Ok(()));
        prop_assert_eq!(window.receive(1), Err(Exceeded));
    }
}

#[test]
fn a_window_of_the_peers_may_be_below_zero_and_never_beyond_the_largest() {
    let mut window = Sending::new(100);
    window.send(80);
    window.open(-65).unwrap();
    assert_eq!(window.available(), 0);
    window.open(45).unwrap();
    assert_eq!(window.available(), 0);
    window.open(1).unwrap();
    assert_eq!(window.available(), 1);
    assert_eq!(window.open(i64::from(MAX_WINDOW)), Err(Exceeded));
    assert_eq!(window.available(), 1);
    assert_eq!(window.open(i64::from(MAX_WINDOW) - 1), Ok(()));
}
