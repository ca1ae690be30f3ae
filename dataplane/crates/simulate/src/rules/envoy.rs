//! Envoy's round robin and least request, as its users would set them: outlier detection that sweeps each second,
//! ejects for 2 s and up to half of the hosts (its defaults are 10 s, 30 s and 10 %), one retry on another host
//! (`connect-failure,refused-stream,reset,unavailable,resource-exhausted`, back-off up to 25 ms), half of the
//! callers' deadline for an attempt (`per_try_timeout`).
//!
//! Source: Envoy load_balancer_impl.cc 00cf9a05, least_request_lb.cc 0a31a547, outlier_detection.proto 1282f875,
//! circuit_breaker.proto 01c2c1fa.

use dl_core::balancing::{Code, Nanos};
use fastrand::Rng;

use crate::rule::{Ask, End, Finished, Habits, Picked, Refusal, Rule};

const SECOND: Nanos = 1_000_000_000;
/// Of outlier detection: errors in a row, the time between sweeps, the first and the longest ejection.
const CONSECUTIVE: u32 = 5;
const SWEEP: Nanos = SECOND;
const BASE: Nanos = 2 * SECOND;
const LONGEST: Nanos = 300 * SECOND;
/// Most hosts that are ejected, %, but always one.
const MOST_EJECTED: usize = 50;
/// Of the success rate: fewest hosts, fewest calls of a host between sweeps, standard deviations below the mean.
const LEAST_HOSTS: usize = 5;
const LEAST_CALLS: u32 = 100;
const DEVIATIONS: f64 = 1.9;
/// Below this share of healthy hosts all are used, %.
const PANIC: usize = 50;

pub struct Envoy {
    by_requests: bool,
    hosts: Vec<Host>,
    rng: Rng,
}

#[derive(Clone, Copy, Default)]
struct Host {
    weight: f64,
    /// Virtual time of its next turn.
    deadline: f64,
    active: u32,
    errors: u32,
    ejected_until: Option<Nanos>,
    ejections: u64,
    /// Since the last sweep.
    good: u32,
    calls: u32,
}

// === impl Envoy ===

impl Envoy {
    pub fn new(by_requests: bool, seed: u64) -> Self {
        Self {
            by_requests,
            hosts: Vec::new(),
            rng: Rng::with_seed(seed),
        }
    }

    fn usable(&self, tried: &[usize]) -> Vec<usize> {
        let healthy = self
            .hosts
            .iter()
            .filter(|host| host.ejected_until.is_none());
        let is_panic = healthy.count() * 100 < PANIC * self.hosts.len();
        let is_usable = |slot: &usize| is_panic || self.hosts[*slot].ejected_until.is_none();
        let usable: Vec<usize> = (0..self.hosts.len()).filter(is_usable).collect();
        // `previous_hosts` asks again a few times, then takes what comes.
        let others: Vec<usize> = usable
            .iter()
            .copied()
            .filter(|slot| !tried.contains(slot))
            .collect();
        if others.is_empty() { usable } else { others }
    }

    /// Whose turn is first in virtual time; its next one is a share of its weight later.
    fn earliest(&mut self, usable: &[usize]) -> Option<usize> {
        let first = |one: &&usize, other: &&usize| {
            let time = |slot: &usize| self.hosts[*slot].deadline;
            time(one).total_cmp(&time(other))
        };
        let slot = *usable.iter().min_by(first)?;
        let now = self.hosts[slot].deadline;
        self.hosts[slot].deadline += 1.0 / self.hosts[slot].weight;
        // Who comes back owes nothing and is owed nothing.
        for host in &mut self.hosts {
            host.deadline = host.deadline.max(now);
        }
        Some(slot)
    }

    /// The one of two random hosts with fewer requests. (Weights are equal in all scenarios that compare it.)
    fn less_loaded(&mut self, usable: &[usize]) -> Option<usize> {
        let one = *self.rng.choice(usable)?;
        let other = *self.rng.choice(usable)?;
        Some(if self.hosts[other].active < self.hosts[one].active {
            other
        } else {
            one
        })
    }

    fn eject(&mut self, slot: usize, now: Nanos) {
        let ejected = self
            .hosts
            .iter()
            .filter(|host| host.ejected_until.is_some())
            .count();
        if ejected > 0 && (ejected + 1) * 100 > MOST_EJECTED * self.hosts.len() {
            return;
        }
        let host = &mut self.hosts[slot];
        if host.ejected_until.is_none() {
            host.ejections += 1;
            host.ejected_until = Some(now + (BASE * host.ejections).min(LONGEST));
        }
    }

    /// Eject hosts whose rate of success is far below the others'.
    fn sweep_rates(&mut self, now: Nanos) {
        let counted: Vec<(usize, f64)> = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| host.calls >= LEAST_CALLS)
            .map(|(slot, host)| (slot, f64::from(host.good) / f64::from(host.calls)))
            .collect();
        if counted.len() < LEAST_HOSTS {
            return;
        }
        let count = counted.len() as f64;
        let mean = counted.iter().map(|(_, rate)| rate).sum::<f64>() / count;
        let variance = counted
            .iter()
            .map(|(_, rate)| (rate - mean).powi(2))
            .sum::<f64>()
            / count;
        let least = mean - DEVIATIONS * variance.sqrt();
        for (slot, rate) in counted {
            if rate < least {
                self.eject(slot, now);
            }
        }
    }
}

impl Rule for Envoy {
    fn habits(&self) -> Habits {
        Habits {
            attempts: 2,
            attempt_limit: Some(0.5),
            // `max_retries` is 1000 at once, which is never reached.
            budget: None,
            retry_delay: 25_000_000,
            tick: Some(SWEEP),
            ..Habits::default()
        }
    }

    fn update(&mut self, weights: &[u32], _now: Nanos) {
        for weight in &weights[self.hosts.len()..] {
            let weight = f64::from(*weight);
            self.hosts.push(Host {
                weight,
                deadline: self.rng.f64() / weight,
                ..Host::default()
            });
        }
    }

    fn pick(&mut self, ask: &Ask<'_>, _now: Nanos) -> Result<Picked, Refusal> {
        let usable = self.usable(ask.tried);
        let slot = match self.by_requests {
            true => self.less_loaded(&usable),
            false => self.earliest(&usable),
        };
        let slot = slot.ok_or(Refusal::NoneLive)?;
        self.hosts[slot].active += 1;
        Ok(Picked {
            slot,
            is_probe: false,
        })
    }

    fn finish(&mut self, slot: usize, finished: &Finished, now: Nanos) {
        let host = &mut self.hosts[slot];
        host.active -= 1;
        // What the caller cancels is not counted; the deadline is the caller's.
        let is_error = match finished.end {
            End::Cancelled | End::TimedOut => return,
            End::Lost | End::Refused | End::Expired => true,
            End::Status(code) => is_5xx(code),
        };
        host.calls += 1;
        if !is_error {
            host.good += 1;
            host.errors = 0;
            return;
        }
        host.errors += 1;
        if host.errors >= CONSECUTIVE {
            host.errors = 0;
            self.eject(slot, now);
        }
    }

    fn retries(&self, end: End) -> bool {
        matches!(
            end,
            End::Lost
                | End::Refused
                | End::Expired
                | End::Status(Code::Unavailable | Code::ResourceExhausted)
        )
    }

    fn tick(&mut self, now: Nanos) {
        for host in &mut self.hosts {
            match host.ejected_until {
                Some(until) if until <= now => host.ejected_until = None,
                None => host.ejections = host.ejections.saturating_sub(1),
                Some(_) => {}
            }
        }
        self.sweep_rates(now);
        for host in &mut self.hosts {
            (host.good, host.calls) = (0, 0);
        }
    }
}

/// The gRPC codes that Envoy takes for a server's error.
fn is_5xx(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Internal
            | Code::Unknown
            | Code::DataLoss
            | Code::Unimplemented
            | Code::DeadlineExceeded
    )
}
