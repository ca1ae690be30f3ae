//! The product's own policies: the balancer that the access service runs, with the defaults of its configuration.

use dl_core::POLICIES;
use dl_core::balancing::{self, Balancer, Code, Done, Entry, Nanos, Outcome, Settings};

use crate::rule::{Ask, Backoff, Budget, End, Finished, Habits, Picked, Refusal, Rule};

/// A call that was held for less than this says nothing about the endpoint.
const LEAST_HELD: Nanos = 10_000_000;

struct Ours {
    balancer: Balancer,
    live: Vec<bool>,
    hedges: bool,
}

/// The policy of that name; with `-hedge` at its end it hedges.
pub fn rule(name: &str, seed: u64) -> Option<Box<dyn Rule>> {
    let policy = name.strip_suffix("-hedge").unwrap_or(name);
    if !POLICIES.contains(&policy) {
        return None;
    }
    let settings = match policy {
        "dl" => Settings::original(),
        policy => Settings {
            policy: policy.to_owned(),
            ..Settings::default()
        },
    };
    Some(Box::new(Ours {
        balancer: Balancer::new(&settings, seed),
        live: Vec::new(),
        hedges: policy != name,
    }))
}

impl Rule for Ours {
    fn habits(&self) -> Habits {
        let budget = |ratio, per_second, cap| Budget {
            ratio,
            per_second,
            cap,
        };
        Habits {
            attempts: 2,
            budget: Some(budget(0.2, 10.0, 100.0)),
            connects: Some(Backoff {
                first: 0.1,
                factor: 1.6,
                longest: 5.0,
                jitter: 0.2,
            }),
            waits: 1_000_000_000,
            hurries: true,
            hedges: self.hedges.then(|| budget(0.05, 0.0, 20.0)),
            ..Habits::default()
        }
    }

    fn update(&mut self, weights: &[u32], now: Nanos) {
        self.live.resize(weights.len(), true);
        let entry = |(id, weight): (usize, &u32)| Entry {
            id: id as u64,
            weight: *weight,
            live: self.live[id],
        };
        let entries: Vec<Entry> = weights.iter().enumerate().map(entry).collect();
        self.balancer.update(&entries, now);
    }

    fn set_live(&mut self, slot: usize, live: bool, now: Nanos) {
        self.live[slot] = live;
        self.balancer.set_live(slot, live, now);
    }

    fn pick(&mut self, ask: &Ask<'_>, now: Nanos) -> Result<Picked, Refusal> {
        let ask = balancing::Ask {
            tried: ask.tried,
            left: Some(ask.left),
            can_probe: ask.can_retry,
            is_hedge: ask.is_hedge,
            ..balancing::Ask::default()
        };
        match self.balancer.pick(&ask, now) {
            Ok(picked) => Ok(Picked {
                slot: picked.slot,
                is_probe: picked.is_probe,
            }),
            Err(balancing::Refusal::NoneLive) => Err(Refusal::NoneLive),
            Err(balancing::Refusal::Overloaded { .. }) => Err(Refusal::Overloaded),
        }
    }

    fn finish(&mut self, slot: usize, finished: &Finished, now: Nanos) {
        let is_slow = || {
            let median = self.balancer.view(slot, now).and_then(|view| view.latency);
            now - finished.started >= LEAST_HELD.max(median.unwrap_or(0))
        };
        let is_late = || {
            let slow = self.balancer.hedge_delay();
            slow.is_some_and(|slow| now - finished.started > 2 * slow)
        };
        let outcome = match finished.end {
            End::Status(Code::Ok) => Outcome::Success,
            End::Status(Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss) => {
                Outcome::Hard
            }
            End::Status(Code::ResourceExhausted) => Outcome::Full,
            End::Lost | End::Refused => Outcome::Hard,
            End::TimedOut if is_slow() => Outcome::Soft,
            // A race that was lost by far.
            End::Cancelled if is_late() => Outcome::Soft,
            End::Status(_) | End::TimedOut | End::Expired | End::Cancelled => Outcome::Neutral,
        };
        let done = Done {
            outcome,
            started: finished.started,
            is_probe: finished.is_probe,
            is_timed: matches!(finished.end, End::Status(_)),
            is_stream: false,
        };
        self.balancer.finish(slot, &done, now);
    }

    fn retries(&self, end: End) -> bool {
        matches!(
            end,
            End::Status(Code::Unavailable | Code::ResourceExhausted) | End::Lost | End::Refused
        )
    }

    fn hedge_delay(&self) -> Option<Nanos> {
        self.balancer.hedge_delay()
    }
}
