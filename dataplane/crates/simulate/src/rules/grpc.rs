//! gRPC's `round_robin` without a service config: the connected endpoints in turn, one attempt; what was never sent is
//! sent elsewhere.
//!
//! Source: grpc-go 4793ad04, balancer/roundrobin; backoff of grpc/proposal 1fd061ad (connection-backoff.md).

use dl_core::balancing::Nanos;

use crate::rule::{Ask, Backoff, End, Finished, Habits, Picked, Refusal, Rule};

pub struct RoundRobin {
    live: Vec<bool>,
    next: usize,
}

// === impl RoundRobin ===

impl RoundRobin {
    pub fn new(seed: u64) -> Self {
        Self {
            live: Vec::new(),
            // It begins anywhere.
            next: (seed % 1_000_003) as usize,
        }
    }
}

impl Rule for RoundRobin {
    fn habits(&self) -> Habits {
        Habits {
            connects: Some(Backoff {
                first: 1.0,
                factor: 1.6,
                longest: 120.0,
                jitter: 0.2,
            }),
            ..Habits::default()
        }
    }

    fn update(&mut self, weights: &[u32], _now: Nanos) {
        self.live.resize(weights.len(), true);
    }

    fn set_live(&mut self, slot: usize, live: bool, _now: Nanos) {
        self.live[slot] = live;
    }

    fn pick(&mut self, _ask: &Ask<'_>, _now: Nanos) -> Result<Picked, Refusal> {
        let count = self.live.len();
        let turns = (0..count).map(|turn| (self.next + turn) % count);
        let slot = turns.into_iter().find(|slot| self.live[*slot]);
        let slot = slot.ok_or(Refusal::NoneLive)?;
        self.next = slot + 1;
        Ok(Picked {
            slot,
            is_probe: false,
        })
    }

    fn finish(&mut self, _slot: usize, _finished: &Finished, _now: Nanos) {}

    fn retries(&self, end: End) -> bool {
        end == End::Refused
    }
}
