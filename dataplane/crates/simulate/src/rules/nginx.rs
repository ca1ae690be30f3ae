//! nginx's upstream, round robin or `least_conn`, as its users would set it: `max_fails=3 fail_timeout=2s`, an attempt
//! has half of the callers' deadline (`grpc_read_timeout`), another one on `error timeout` (`non_idempotent`), two in
//! all. A grpc-status is not looked at.
//!
//! Source: nginx 3f6f7824, ngx_http_upstream_round_robin.c, ngx_http_upstream_least_conn_module.c.

use dl_core::balancing::Nanos;

use crate::rule::{Ask, End, Finished, Habits, Picked, Refusal, Rule};

const MAX_FAILS: u32 = 3;
const FAIL_TIMEOUT: Nanos = 2_000_000_000;

#[derive(Default)]
pub struct Nginx {
    by_connections: bool,
    peers: Vec<Peer>,
}

#[derive(Clone, Copy, Default)]
struct Peer {
    weight: i64,
    effective: i64,
    current: i64,
    connections: i64,
    fails: u32,
    /// Of the last failure, and of the last pick or failure.
    accessed: Nanos,
    checked: Nanos,
}

// === impl Nginx ===

impl Nginx {
    pub fn new(by_connections: bool) -> Self {
        Self {
            by_connections,
            ..Self::default()
        }
    }

    fn is_usable(&self, slot: usize, tried: &[usize], now: Nanos) -> bool {
        let peer = &self.peers[slot];
        // A single peer is never out.
        let has_failed = self.peers.len() > 1 && peer.fails >= MAX_FAILS;
        let is_out = has_failed && now <= peer.checked + FAIL_TIMEOUT;
        !is_out && !tried.contains(&slot)
    }

    /// Fewest connections for its weight first.
    fn is_less_loaded(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.peers[one], &self.peers[other]);
        one.connections * other.weight < other.connections * one.weight
    }

    fn candidates(&self, tried: &[usize], now: Nanos) -> Vec<usize> {
        let usable = (0..self.peers.len()).filter(|slot| self.is_usable(*slot, tried, now));
        let usable: Vec<usize> = usable.collect();
        if !self.by_connections {
            return usable;
        }
        let is_beaten = |slot: &usize| {
            usable
                .iter()
                .any(|other| self.is_less_loaded(*other, *slot))
        };
        usable
            .iter()
            .copied()
            .filter(|slot| !is_beaten(slot))
            .collect()
    }
}

impl Rule for Nginx {
    fn habits(&self) -> Habits {
        Habits {
            attempts: 2,
            attempt_limit: Some(0.5),
            ..Habits::default()
        }
    }

    fn update(&mut self, weights: &[u32], _now: Nanos) {
        for weight in &weights[self.peers.len()..] {
            let weight = i64::from(*weight);
            self.peers.push(Peer {
                weight,
                effective: weight,
                ..Peer::default()
            });
        }
    }

    fn pick(&mut self, ask: &Ask<'_>, now: Nanos) -> Result<Picked, Refusal> {
        let (mut total, mut best) = (0, None);
        for slot in self.candidates(ask.tried, now) {
            let peer = &mut self.peers[slot];
            peer.current += peer.effective;
            total += peer.effective;
            peer.effective += i64::from(peer.effective < peer.weight);
            let current = peer.current;
            if best.is_none_or(|(_, highest)| current > highest) {
                best = Some((slot, current));
            }
        }
        let (slot, _) = best.ok_or(Refusal::NoneLive)?;
        let peer = &mut self.peers[slot];
        peer.current -= total;
        peer.connections += 1;
        if now > peer.checked + FAIL_TIMEOUT {
            peer.checked = now;
        }
        Ok(Picked {
            slot,
            is_probe: false,
        })
    }

    fn finish(&mut self, slot: usize, finished: &Finished, now: Nanos) {
        let peer = &mut self.peers[slot];
        peer.connections -= 1;
        match finished.end {
            // The caller hung up.
            End::TimedOut | End::Cancelled => {}
            End::Lost | End::Refused | End::Expired => {
                peer.fails += 1;
                (peer.accessed, peer.checked) = (now, now);
                peer.effective = (peer.effective - peer.weight / i64::from(MAX_FAILS)).max(0);
            }
            End::Status(_) if peer.accessed < peer.checked => peer.fails = 0,
            End::Status(_) => {}
        }
    }

    fn retries(&self, end: End) -> bool {
        matches!(end, End::Lost | End::Refused | End::Expired)
    }
}
