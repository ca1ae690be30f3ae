//! Which endpoint gets the next call. Pure logic: no I/O, no lock, and the clock is told; the cluster owns the lock, and
//! the simulator runs the same code in virtual time.
//!
//! [`Balancer`] is the whole: it counts calls in flight, learns from their ends, and leaves out what must not be used.
//! Below it a policy proposes endpoints by their pick weights.

#![forbid(unsafe_code)]

mod admission;
mod balancer;
mod capacity;
mod decay;
mod ejection;
mod endpoint;
mod maglev;
mod members;
mod policy;
mod quantile;
mod random;
mod refresh;
mod scheduler;
mod settings;
mod share;
mod speed;
mod swrr;
mod turns;
mod weight;

pub use balancer::Balancer;
pub use endpoint::{Reason, State, View};
pub use settings::Settings;

/// Nanoseconds of a monotonic clock, from any beginning.
pub type Nanos = u64;

pub const MILLISECOND: Nanos = 1_000_000;
pub const SECOND: Nanos = 1_000_000_000;

/// How one attempt ended, as the balancer sees it (the error table, last column).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered.
    Success,
    /// The endpoint is at fault.
    Hard,
    /// It ran out of time, or lost a race by far: it may just be busy.
    Soft,
    /// It said that it has no room now.
    Full,
    /// Nobody's fault, or the caller's.
    Neutral,
}

/// One endpoint of a set given to [`Balancer::update`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Identity that survives updates; the cluster gives the same id to the same address.
    pub id: u64,
    /// Configured weight, 1..=65535.
    pub weight: u32,
    /// Whether there is a connection to it.
    pub live: bool,
}

/// What an endpoint says of its readiness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It was not asked, or does not say.
    #[default]
    Unknown,
    Serving,
    /// It asks for no calls.
    NotServing,
    /// It loads or unloads a model: it has less to give until that is done.
    Loading,
}

impl Health {
    pub const ALL: [Self; 4] = [
        Self::Unknown,
        Self::Serving,
        Self::NotServing,
        Self::Loading,
    ];

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Serving => "serving",
            Self::NotServing => "not_serving",
            Self::Loading => "loading",
        }
    }

    /// Whether there is no reason to prefer another endpoint.
    pub fn is_well(self) -> bool {
        matches!(self, Self::Unknown | Self::Serving)
    }
}

/// What an endpoint says of its load (ORCA).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Busy share, 1 = all of it; 0 where it is not said.
    pub utilization: f64,
    /// Requests that wait there, of all callers.
    pub queue: u32,
    /// Requests a second, and errors a second.
    pub rps: f64,
    pub eps: f64,
}

/// What a pick has to know of the call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Slots that this call has tried.
    pub tried: &'a [usize],
    /// Time to the call's deadline; none for a call without one.
    pub left: Option<Nanos>,
    /// It may be sent elsewhere if it fails: good enough to find out whether an endpoint has healed.
    pub can_probe: bool,
    /// It is shed before others.
    pub is_low: bool,
    /// Hash of what keeps calls on one endpoint (`maglev`).
    pub key: Option<u64>,
    /// A stream: its time says nothing of the endpoint.
    pub is_stream: bool,
    /// The second attempt of a call that goes on: it takes no room that is scarce.
    pub is_hedge: bool,
}

impl Ask<'_> {
    /// Whether others go first: it is of low priority, or a second attempt that may turn out not to be needed.
    fn is_second(&self) -> bool {
        self.is_low || self.is_hedge
    }
}

/// The endpoint of an attempt, which counts as in flight there until [`Balancer::finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    pub slot: usize,
    /// It is to find out whether an ejected endpoint has healed.
    pub is_probe: bool,
}

/// Why no endpoint was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// None is connected that this call has not tried.
    NoneLive,
    /// None would answer within the deadline.
    Overloaded {
        /// When it may be worth another try.
        retry_after: Nanos,
    },
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub outcome: Outcome,
    /// When it was picked.
    pub started: Nanos,
    pub is_probe: bool,
    /// Its time says how fast the endpoint is: it was answered.
    pub is_timed: bool,
    pub is_stream: bool,
}

/// Names of all policies, as configuration spells them; Python validates against this list.
pub const NAMES: &[&str] = &[
    "dwrr",
    "p2c",
    "least_request",
    "round_robin",
    "maglev",
    "dl",
];

#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod ejection_tests;
#[cfg(test)]
mod original_tests;
#[cfg(test)]
mod scheduler_tests;
#[cfg(test)]
mod time_and_load_tests;
