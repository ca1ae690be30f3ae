//! linkerd's power of two choices by peak EWMA; with its circuit breaker (consecutive failures) and retries, which are
//! both off by default.
//!
//! Source: linkerd2-proxy 29637b64 (balance, circuit breaker consecutive_failures), tower 8358ee71 (peak_ewma),
//! finagle 4feb34cb (RetryBudget).

use dl_core::balancing::{Code, Nanos};
use fastrand::Rng;

use crate::rule::{Ask, Backoff, Budget, End, Finished, Habits, Picked, Refusal, Rule};

const SECOND: Nanos = 1_000_000_000;
/// Of the EWMA: its time constant, and the time that is taken for an endpoint's before one is known.
const DECAY: f64 = 10e9;
const DEFAULT_RTT: f64 = 30e6;
/// Of the breaker: failures in a row, first and longest time out, jitter.
const MOST_FAILURES: u32 = 7;
const FIRST_OUT: f64 = 1e9;
const LONGEST_OUT: f64 = 60e9;
const JITTER: f64 = 0.5;

pub struct Linkerd {
    has_breaker: bool,
    nodes: Vec<Node>,
    rng: Rng,
}

#[derive(Clone, Copy)]
struct Node {
    live: bool,
    cost: f64,
    updated: Nanos,
    pending: u32,
    failures: u32,
    /// When it may be probed; None: it is in use.
    out_until: Option<Nanos>,
    is_probed: bool,
    outs: i32,
}

// === impl Linkerd ===

impl Linkerd {
    pub fn new(has_breaker: bool, seed: u64) -> Self {
        Self {
            has_breaker,
            nodes: Vec::new(),
            rng: Rng::with_seed(seed),
        }
    }

    /// Whether a call may go there; through an open breaker a single one, when its time is up.
    fn is_ready(&self, slot: usize, now: Nanos) -> bool {
        let node = &self.nodes[slot];
        node.live
            && node
                .out_until
                .is_none_or(|until| until <= now && !node.is_probed)
    }

    fn load(&self, slot: usize, now: Nanos) -> f64 {
        let node = &self.nodes[slot];
        let age = (now - node.updated) as f64;
        node.cost * (-age / DECAY).exp() * f64::from(node.pending + 1)
    }

    fn observe(&mut self, slot: usize, rtt: f64, now: Nanos) {
        let node = &mut self.nodes[slot];
        let kept = (-((now - node.updated) as f64) / DECAY).exp();
        node.cost = if rtt > node.cost {
            rtt
        } else {
            node.cost * kept + rtt * (1.0 - kept)
        };
        node.updated = now;
    }

    fn failed(&mut self, slot: usize, now: Nanos) {
        let spread = 1.0 + JITTER * self.rng.f64();
        let node = &mut self.nodes[slot];
        node.failures += 1;
        if node.failures >= MOST_FAILURES {
            let out = (FIRST_OUT * 2f64.powi(node.outs)).min(LONGEST_OUT) * spread;
            node.outs += 1;
            node.out_until = Some(now + out as Nanos);
        }
        node.is_probed = false;
    }
}

impl Rule for Linkerd {
    fn habits(&self) -> Habits {
        Habits {
            attempts: if self.has_breaker { 2 } else { 1 },
            budget: Some(Budget {
                ratio: 0.2,
                per_second: 10.0,
                cap: 100.0,
            }),
            connects: Some(Backoff {
                first: 0.1,
                factor: 2.0,
                longest: 0.5,
                jitter: 0.2,
            }),
            // Its queue fails fast after this time.
            waits: 3 * SECOND,
            ..Habits::default()
        }
    }

    fn update(&mut self, weights: &[u32], now: Nanos) {
        let node = Node {
            live: true,
            cost: DEFAULT_RTT,
            updated: now,
            pending: 0,
            failures: 0,
            out_until: None,
            is_probed: false,
            outs: 0,
        };
        self.nodes.resize(weights.len(), node);
    }

    fn set_live(&mut self, slot: usize, live: bool, _now: Nanos) {
        self.nodes[slot].live = live;
    }

    fn pick(&mut self, _ask: &Ask<'_>, now: Nanos) -> Result<Picked, Refusal> {
        let ready = (0..self.nodes.len()).filter(|slot| self.is_ready(*slot, now));
        let mut ready: Vec<usize> = ready.collect();
        if ready.is_empty() {
            return Err(Refusal::NoneLive);
        }
        let one = ready.swap_remove(self.rng.usize(..ready.len()));
        let other = self.rng.choice(&ready).copied().unwrap_or(one);
        let slot = if self.load(other, now) < self.load(one, now) {
            other
        } else {
            one
        };
        let node = &mut self.nodes[slot];
        node.pending += 1;
        node.is_probed = node.out_until.is_some();
        Ok(Picked {
            slot,
            is_probe: node.is_probed,
        })
    }

    fn finish(&mut self, slot: usize, finished: &Finished, now: Nanos) {
        self.nodes[slot].pending -= 1;
        // The time of whatever came counts, and of nothing that was cancelled.
        if matches!(finished.end, End::Status(_)) {
            self.observe(slot, (now - finished.started) as f64, now);
        }
        if !self.has_breaker {
            return;
        }
        match finished.end {
            End::Status(
                Code::Unavailable
                | Code::Internal
                | Code::Unknown
                | Code::DataLoss
                | Code::DeadlineExceeded,
            )
            | End::Lost
            | End::Refused => self.failed(slot, now),
            End::TimedOut | End::Expired => self.failed(slot, now),
            End::Cancelled => self.nodes[slot].is_probed = false,
            End::Status(_) => {
                let node = &mut self.nodes[slot];
                (node.failures, node.out_until, node.is_probed, node.outs) = (0, None, false, 0);
            }
        }
    }

    fn retries(&self, end: End) -> bool {
        end == End::Refused
            || (self.has_breaker && matches!(end, End::Status(Code::Unavailable) | End::Lost))
    }
}
