//! What the balancer of one cluster may do, as plain numbers.

use super::weight::SCALE;
use super::{MILLISECOND, Nanos, SECOND};

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// One of [`super::NAMES`].
    pub policy: String,
    /// `dwrr`: a call goes to an endpoint with fewer calls in flight for its weight, where there is one.
    pub in_flight: bool,
    /// Slow endpoints get less.
    pub latency: bool,
    /// Endpoints that fail far more than the others get none for a while.
    pub ejection: bool,
    /// Calls that no endpoint would answer within their deadline are refused at once.
    pub admission: bool,
    /// Loads that endpoints report are used.
    pub load_reports: bool,
    /// An endpoint that comes back begins with 1/8 of its share, and has all of it after this time; 0: at once.
    pub slow_start: Nanos,
    /// As `slow_start`, for one that is new in the cluster.
    pub slow_start_new: Nanos,
    /// Most calls in flight at one endpoint; none: no such limit.
    pub max_in_flight: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: "dwrr".to_owned(),
            in_flight: true,
            latency: true,
            ejection: true,
            admission: true,
            load_reports: true,
            slow_start: 3 * SECOND,
            slow_start_new: 10 * SECOND,
            max_in_flight: None,
        }
    }
}

impl Settings {
    /// The original's rule and nothing else: the reference.
    pub fn original() -> Self {
        Self {
            policy: "dl".to_owned(),
            in_flight: false,
            latency: false,
            ejection: false,
            admission: false,
            load_reports: false,
            slow_start: 0,
            slow_start_new: 0,
            max_in_flight: None,
        }
    }

    /// Steps of the effective weight; 1 for the original's rule.
    pub(super) fn scale(&self) -> u32 {
        if self.policy == "dl" { 1 } else { SCALE }
    }

    /// How often what is compared among endpoints is looked at: often, where that costs little.
    pub(super) fn refresh_interval(slots: usize) -> Nanos {
        (slots as u64 * MILLISECOND / 10).clamp(10 * MILLISECOND, 100 * MILLISECOND)
    }
}
