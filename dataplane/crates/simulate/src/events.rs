//! What happens next in virtual time. Equal times keep the order in which they were scheduled.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use dl_core::balancing::Nanos;

use crate::rule::End;

/// Numbers are of calls, attempts, proxies, endpoints and windows.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A call comes.
    Arrive(usize),
    /// An attempt is to be made again, elsewhere.
    Retry(usize),
    /// A call has waited long enough for a connection.
    Waited(usize),
    /// A call is slow enough for a second attempt beside the first.
    Hedge(usize),
    /// A caller gives up.
    Deadline(usize),
    /// An attempt comes to its endpoint.
    Reach(usize),
    /// A slot has done its work for an attempt.
    Served(usize),
    /// The proxy sees the end of an attempt.
    Ended(usize, End),
    /// A proxy tries to connect to an endpoint.
    Connect(usize, usize),
    /// The rule of a proxy does what it does from time to time.
    Tick(usize),
    /// A probe (Prequal) comes back to its proxy.
    Probed {
        proxy: usize,
        endpoint: usize,
        in_flight: u32,
        latency: Nanos,
    },
    /// A fault begins.
    Begin(usize),
    /// A fault ends.
    Finish(usize),
}

struct Scheduled {
    at: Nanos,
    number: u64,
    event: Event,
}

/// The queue of what is to come.
#[derive(Default)]
pub struct Events {
    heap: BinaryHeap<Reverse<Scheduled>>,
    count: u64,
}

// === impl Events ===

impl Events {
    pub fn at(&mut self, at: Nanos, event: Event) {
        let number = self.count;
        self.count += 1;
        self.heap.push(Reverse(Scheduled { at, number, event }));
    }

    pub fn next(&mut self) -> Option<(Nanos, Event)> {
        let Reverse(Scheduled { at, event, .. }) = self.heap.pop()?;
        Some((at, event))
    }
}

// === impl Scheduled ===

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Scheduled {}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
