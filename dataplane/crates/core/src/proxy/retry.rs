//! What a status, or the time that ran out, says of an endpoint. What an error of ours means is in the error table.

use std::time::Duration;

use crate::balance::Outcome;
use crate::code::Code;

/// A call that the endpoint held for less than this says nothing about the endpoint.
const LEAST_HELD: Duration = Duration::from_millis(10);

/// A call that ended this close to its deadline ended because of it: a caller's reset at its deadline beats
/// our own timer more often than not.
const NEAR_DEADLINE: Duration = Duration::from_millis(5);

/// A set of gRPC codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeSet(u32);

impl CodeSet {
    /// The set of the codes with these names (`UNAVAILABLE`).
    ///
    /// Errors: the first name that is no code, or is `OK`, which is neither retried nor a failure.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Result<Self, String> {
        names.iter().try_fold(Self::default(), |set, name| {
            let name = name.as_ref();
            match Code::from_name(name) {
                Some(code) if code != Code::Ok => Ok(set.with(code)),
                _ => Err(format!("{name:?} is not the name of a gRPC error code")),
            }
        })
    }

    pub const fn with(self, code: Code) -> Self {
        Self(self.0 | 1 << code as u8)
    }

    pub const fn contains(self, code: Code) -> bool {
        self.0 >> code as u8 & 1 == 1
    }
}

/// What an answer with this code says about its endpoint.
///
/// RESOURCE_EXHAUSTED never counts, configured or not: every gRPC server answers it to an oversized message. A
/// status whose trailers say `access-error: hook` is the user's code speaking: neutral, without asking here.
pub fn status_outcome(code: Code, failure_codes: CodeSet) -> Outcome {
    match code {
        Code::Ok => Outcome::Success,
        Code::ResourceExhausted => Outcome::Neutral,
        code if failure_codes.contains(code) => Outcome::Hard,
        _ => Outcome::Neutral,
    }
}

/// What it says about an endpoint that time ran out after it `held` the call so long: nothing if it was less than
/// its median latency (or 10 ms), else a caller's short deadlines would be an attack on the weights.
pub fn time_outcome(held: Duration, median: Duration) -> Outcome {
    if held >= median.max(LEAST_HELD) {
        Outcome::Soft
    } else {
        Outcome::Neutral
    }
}

/// Whether a cancel, or a time-out reported from upstream, that came `elapsed` into `limit` came because of it.
pub fn is_nearly_over(elapsed: Duration, limit: Duration) -> bool {
    elapsed * 10 >= limit * 9 || elapsed + NEAR_DEADLINE >= limit
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
