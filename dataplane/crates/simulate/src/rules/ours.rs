//! The product's own policies: the balancer that the access service runs, with the defaults of its configuration.

use dl_core::balancing::{Code, Entry, Nanos, Outcome, Picker, picker};

use crate::rule::{Ask, Backoff, Budget, End, Finished, Habits, Picked, Refusal, Rule};

/// A call that was held for less than this says nothing about the endpoint.
const LEAST_HELD: Nanos = 10_000_000;

struct Ours {
    picker: Box<dyn Picker>,
    live: Vec<bool>,
}

/// The policy of that name.
pub fn rule(name: &str, _seed: u64) -> Option<Box<dyn Rule>> {
    let picker = picker(name)?;
    let live = Vec::new();
    Some(Box::new(Ours { picker, live }))
}

impl Rule for Ours {
    fn habits(&self) -> Habits {
        Habits {
            attempts: 2,
            budget: Some(Budget {
                ratio: 0.2,
                per_second: 10.0,
                cap: 100.0,
            }),
            connects: Some(Backoff {
                first: 0.1,
                factor: 1.6,
                longest: 5.0,
                jitter: 0.2,
            }),
            ..Habits::default()
        }
    }

    fn update(&mut self, weights: &[u32], _now: Nanos) {
        self.live.resize(weights.len(), true);
        let entry = |(id, weight): (usize, &u32)| Entry {
            id: id as u64,
            weight: *weight,
            live: self.live[id],
        };
        let entries: Vec<Entry> = weights.iter().enumerate().map(entry).collect();
        self.picker.update(&entries);
    }

    fn set_live(&mut self, slot: usize, live: bool, _now: Nanos) {
        self.live[slot] = live;
        self.picker.set_live(slot, live);
    }

    fn pick(&mut self, ask: &Ask<'_>, _now: Nanos) -> Result<Picked, Refusal> {
        let slot = self.picker.pick(ask.tried).ok_or(Refusal::NoneLive)?;
        Ok(Picked {
            slot,
            is_probe: false,
        })
    }

    fn finish(&mut self, slot: usize, finished: &Finished, now: Nanos) {
        let outcome = match finished.end {
            End::Status(Code::Ok) => Outcome::Success,
            End::Status(Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss) => {
                Outcome::Failure
            }
            End::Lost | End::Refused => Outcome::Failure,
            End::TimedOut if now - finished.started >= LEAST_HELD => Outcome::Failure,
            End::Status(_) | End::TimedOut | End::Expired | End::Cancelled => Outcome::Neutral,
        };
        self.picker.report(slot, outcome);
    }

    fn retries(&self, end: End) -> bool {
        matches!(
            end,
            End::Status(Code::Unavailable) | End::Lost | End::Refused
        )
    }
}
