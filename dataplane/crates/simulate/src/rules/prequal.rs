//! Prequal's rule, hot and cold by requests in flight, then latency, on asynchronous probes, without the guard
//! against endpoints that fail fast.
//!
//! Source: arXiv 2312.10172, its parameters: 3 probes a call, a pool of 16, probes of at most 1 s, Q = 0.84, delta = 1.

use std::collections::VecDeque;

use dl_core::balancing::Nanos;
use fastrand::Rng;

use crate::rule::{Ask, Backoff, End, Finished, Habits, Picked, Refusal, Rule};

const PROBES: u32 = 3;
const POOL: usize = 16;
const OLDEST: Nanos = 1_000_000_000;
const REMOVED: f64 = 1.0;
const QUANTILE: f64 = 0.84;
const DELTA: f64 = 1.0;
/// In-flight numbers of which the quantile is taken.
const REMEMBERED: usize = 128;

pub struct Prequal {
    live: Vec<bool>,
    pool: Vec<Probe>,
    recent: VecDeque<u32>,
    removes_oldest: bool,
    rng: Rng,
}

#[derive(Clone, Copy)]
struct Probe {
    slot: usize,
    in_flight: u32,
    latency: Nanos,
    at: Nanos,
    uses: f64,
}

// === impl Prequal ===

impl Prequal {
    pub fn new(seed: u64) -> Self {
        Self {
            live: Vec::new(),
            pool: Vec::new(),
            recent: VecDeque::new(),
            removes_oldest: false,
            rng: Rng::with_seed(seed),
        }
    }

    /// The number in flight above which an endpoint is hot.
    fn threshold(&self) -> u32 {
        let mut sorted: Vec<u32> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        let place = (QUANTILE * sorted.len() as f64) as usize;
        sorted
            .get(place.min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0)
    }

    /// How often a probe may be used.
    fn reuse(&self) -> f64 {
        let share = 1.0 - (POOL as f64 / self.live.len() as f64).min(0.99);
        ((1.0 + DELTA) / (share * f64::from(PROBES) - REMOVED).max(1e-9)).clamp(1.0, 100.0)
    }

    /// Cold ones by latency before hot ones by requests in flight.
    fn order(probe: &Probe, threshold: u32) -> (bool, u64) {
        let is_hot = probe.in_flight > threshold;
        (
            is_hot,
            if is_hot {
                u64::from(probe.in_flight)
            } else {
                probe.latency
            },
        )
    }

    fn best(&self) -> Option<usize> {
        let threshold = self.threshold();
        let probes = self.pool.iter().enumerate();
        let best = probes.min_by_key(|(_, probe)| Self::order(probe, threshold));
        best.map(|(place, _)| place)
    }

    /// Take one probe away: the oldest and the worst in turn.
    fn remove_one(&mut self) {
        self.removes_oldest = !self.removes_oldest;
        let threshold = self.threshold();
        let probes = self.pool.iter().enumerate();
        let place = match self.removes_oldest {
            true => probes.min_by_key(|(_, probe)| probe.at),
            false => probes.max_by_key(|(_, probe)| Self::order(probe, threshold)),
        };
        if let Some((place, _)) = place {
            self.pool.swap_remove(place);
        }
    }

    fn random(&mut self) -> Option<usize> {
        let live: Vec<usize> = (0..self.live.len())
            .filter(|slot| self.live[*slot])
            .collect();
        self.rng.choice(&live).copied()
    }
}

impl Rule for Prequal {
    fn habits(&self) -> Habits {
        Habits {
            connects: Some(Backoff {
                first: 0.1,
                factor: 1.6,
                longest: 5.0,
                jitter: 0.2,
            }),
            probes: PROBES,
            ..Habits::default()
        }
    }

    fn update(&mut self, weights: &[u32], _now: Nanos) {
        self.live.resize(weights.len(), true);
    }

    fn set_live(&mut self, slot: usize, live: bool, _now: Nanos) {
        self.live[slot] = live;
        self.pool.retain(|probe| live || probe.slot != slot);
    }

    fn pick(&mut self, _ask: &Ask<'_>, now: Nanos) -> Result<Picked, Refusal> {
        self.pool.retain(|probe| now - probe.at < OLDEST);
        let best = if self.pool.len() < 2 {
            None
        } else {
            self.best()
        };
        let Some(place) = best else {
            let slot = self.random().ok_or(Refusal::NoneLive)?;
            return Ok(Picked {
                slot,
                is_probe: false,
            });
        };
        let most = self.reuse();
        let probe = &mut self.pool[place];
        let slot = probe.slot;
        probe.uses += 1.0;
        probe.in_flight += 1;
        if probe.uses >= most {
            self.pool.swap_remove(place);
        }
        self.remove_one();
        Ok(Picked {
            slot,
            is_probe: false,
        })
    }

    fn finish(&mut self, _slot: usize, _finished: &Finished, _now: Nanos) {}

    fn retries(&self, end: End) -> bool {
        end == End::Refused
    }

    fn probe(&mut self, _now: Nanos) -> Option<usize> {
        self.random()
    }

    fn probed(&mut self, slot: usize, in_flight: u32, latency: Nanos, now: Nanos) {
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(in_flight);
        if self.pool.len() == POOL {
            let oldest = self
                .pool
                .iter()
                .enumerate()
                .min_by_key(|(_, probe)| probe.at);
            let oldest = oldest.map(|(place, _)| place);
            self.pool.swap_remove(oldest.unwrap_or(0));
        }
        self.pool.push(Probe {
            slot,
            in_flight,
            latency,
            at: now,
            uses: 0.0,
        });
    }
}
