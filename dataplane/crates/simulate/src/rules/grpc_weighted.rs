//! gRPC's `weighted_round_robin` by reports of load, with its defaults but for the blackout, which a short scenario would
//! not outlast: 1 s instead of 10. It needs `reports` in the scenario; without them it is round robin.
//!
//! Source: grpc/proposal 1fd061ad, A58-client-side-weighted-round-robin-lb-policy.md.

use dl_core::balancing::Nanos;
use fastrand::Rng;

use crate::rule::{Ask, Backoff, End, Finished, Habits, Picked, Refusal, Report, Rule};

const SECOND: Nanos = 1_000_000_000;
const BLACKOUT: Nanos = SECOND;
const EXPIRY: Nanos = 180 * SECOND;
const UPDATE: Nanos = SECOND;
const ERROR_PENALTY: f64 = 1.0;

pub struct Weighted {
    endpoints: Vec<Endpoint>,
    rng: Rng,
}

#[derive(Clone, Copy)]
struct Endpoint {
    live: bool,
    reported: f64,
    /// Of the first and of the last report that can be used.
    since: Option<Nanos>,
    at: Nanos,
    /// As the picks use it, until the next update.
    weight: f64,
    /// Virtual time of its next turn.
    deadline: f64,
}

// === impl Weighted ===

impl Weighted {
    pub fn new(seed: u64) -> Self {
        Self {
            endpoints: Vec::new(),
            rng: Rng::with_seed(seed),
        }
    }
}

impl Endpoint {
    /// Its weight by reports; None while they are too new or too old.
    fn known(&self, now: Nanos) -> Option<f64> {
        let since = self.since.filter(|since| now >= since + BLACKOUT)?;
        (now < self.at.max(since) + EXPIRY).then_some(self.reported)
    }
}

impl Rule for Weighted {
    fn habits(&self) -> Habits {
        Habits {
            connects: Some(Backoff {
                first: 1.0,
                factor: 1.6,
                longest: 120.0,
                jitter: 0.2,
            }),
            tick: Some(UPDATE),
            ..Habits::default()
        }
    }

    fn update(&mut self, weights: &[u32], _now: Nanos) {
        let now = self
            .endpoints
            .iter()
            .map(|one| one.deadline)
            .fold(f64::INFINITY, f64::min);
        let now = if now.is_finite() { now } else { 0.0 };
        for _ in self.endpoints.len()..weights.len() {
            self.endpoints.push(Endpoint {
                live: true,
                reported: 0.0,
                since: None,
                at: 0,
                weight: 1.0,
                deadline: now + self.rng.f64(),
            });
        }
    }

    fn set_live(&mut self, slot: usize, live: bool, _now: Nanos) {
        let endpoint = &mut self.endpoints[slot];
        endpoint.live = live;
        endpoint.since = None;
    }

    fn pick(&mut self, _ask: &Ask<'_>, _now: Nanos) -> Result<Picked, Refusal> {
        let live = self
            .endpoints
            .iter()
            .enumerate()
            .filter(|(_, one)| one.live);
        let first = live.min_by(|(_, one), (_, other)| one.deadline.total_cmp(&other.deadline));
        let (slot, now) = first
            .map(|(slot, one)| (slot, one.deadline))
            .ok_or(Refusal::NoneLive)?;
        self.endpoints[slot].deadline += 1.0 / self.endpoints[slot].weight;
        // Who comes back owes nothing and is owed nothing.
        for endpoint in &mut self.endpoints {
            endpoint.deadline = endpoint.deadline.max(now);
        }
        Ok(Picked {
            slot,
            is_probe: false,
        })
    }

    fn finish(&mut self, _slot: usize, _finished: &Finished, _now: Nanos) {}

    fn reported(&mut self, slot: usize, report: &Report, now: Nanos) {
        if report.rps <= 0.0 || report.utilization <= 0.0 {
            return;
        }
        let endpoint = &mut self.endpoints[slot];
        let errors = report.eps / report.rps * ERROR_PENALTY;
        endpoint.reported = report.rps / (report.utilization + errors);
        endpoint.since.get_or_insert(now);
        endpoint.at = now;
    }

    /// Take the weights that are known; the others get their mean, and fewer than two known ones say nothing.
    fn tick(&mut self, now: Nanos) {
        let known: Vec<Option<f64>> = self.endpoints.iter().map(|one| one.known(now)).collect();
        let weights: Vec<f64> = known.iter().flatten().copied().collect();
        let is_enough = weights.len() >= 2;
        let mean = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
        for (endpoint, known) in self.endpoints.iter_mut().zip(known) {
            endpoint.weight = if is_enough {
                known.unwrap_or(mean) / mean
            } else {
                1.0
            };
        }
    }

    fn retries(&self, end: End) -> bool {
        end == End::Refused
    }
}
