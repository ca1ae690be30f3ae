//! Calls cost no memory: what the balancer needs it takes when its endpoints change.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;

use dl_balance::{
    Ask, Balancer, Done, Entry, MILLISECOND, NAMES, Nanos, Outcome, Picked, SECOND, Settings, State,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, and how often this thread has asked it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    ALLOCATIONS.with(|count| count.set(count.get() + 1));
}

// SAFETY: hands everything on to the system's allocator; counting neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Some endpoints fail every call, and all kinds of ends come now and then.
fn done(picked: Picked, started: Nanos) -> Done {
    let outcome = match started / MILLISECOND % 10 {
        _ if picked.slot < 20 => Outcome::Hard,
        0 => Outcome::Soft,
        1 => Outcome::Full,
        2 => Outcome::Neutral,
        _ => Outcome::Success,
    };
    Done {
        outcome,
        started,
        is_probe: picked.is_probe,
        is_timed: true,
        is_stream: false,
    }
}

#[test]
fn picks_ends_and_refreshes_of_a_thousand_endpoints_allocate_nothing() {
    for &policy in NAMES {
        let settings = Settings {
            policy: policy.to_owned(),
            ..Settings::default()
        };
        let entry = |id: u64| Entry {
            id,
            weight: id as u32 % 7 + 1,
            live: true,
        };
        let entries: Vec<Entry> = (0..1000).map(entry).collect();
        let mut balancer = Balancer::new(&settings, 7);
        balancer.update(&entries, 0);
        let (mut calls, mut ejected) = (VecDeque::with_capacity(2001), 0);
        let count = allocations(|| {
            for t in 0..20_000u64 {
                // Every hundredth comes after the time of a refresh.
                let now = t * MILLISECOND;
                let tried = [t as usize % 1000, t as usize * 7 % 1000];
                let ask = Ask {
                    tried: if t % 5 == 0 { &tried } else { &[] },
                    left: Some(60 * SECOND),
                    can_probe: true,
                    key: Some(t),
                    ..Ask::default()
                };
                calls.push_back((balancer.pick(&ask, now).expect("one is live"), now));
                // Twice as many in flight as there are endpoints: picks compare.
                if calls.len() > 2000
                    && let Some((picked, started)) = calls.pop_front()
                {
                    balancer.finish(picked.slot, &done(picked, started), now);
                    let view = balancer.view(picked.slot, now).expect("it is there");
                    ejected += u32::from(view.state != State::Warm);
                }
            }
        });
        assert_eq!(count, 0, "allocations by {policy}");
        assert!(ejected > 0 || policy == "dl", "{policy} ejected nobody");
    }
    assert_eq!(allocations(|| drop(Box::new(1u64))), 1, "it does count");
}
