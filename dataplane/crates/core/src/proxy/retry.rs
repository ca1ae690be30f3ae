//! What a status, or the time that ran out, says of an endpoint, and the budget that keeps retries from multiplying
//! load. What an error of ours means is in the error table.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

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

/// Millionths of a token: fixed point, so that one atomic holds the balance.
const TOKEN: u64 = 1_000_000;

const NS_PER_SECOND: u128 = 1_000_000_000;

/// Most tokens that the fixed point holds without any sum overflowing.
const MOST: u64 = 1_000_000_000 * TOKEN;

/// Tokens for retries, shared by all workers of a cluster, lock-free: each request adds `ratio`, each second
/// adds `per_second`, up to `cap`; a retry takes one. Full at the start.
pub struct RetryBudget {
    started: Instant,
    tokens: AtomicU64,
    ratio: AtomicU64,
    per_second: AtomicU64,
    cap: AtomicU64,
    /// Until when, in ns since `started`, `per_second` was credited.
    credited_ns: AtomicU64,
}

// === impl RetryBudget ===

impl RetryBudget {
    /// A full budget whose time begins at `started`.
    pub fn new(ratio: f64, per_second: f64, cap: f64, started: Instant) -> Self {
        Self {
            started,
            tokens: AtomicU64::new(fixed(cap)),
            ratio: AtomicU64::new(fixed(ratio)),
            per_second: AtomicU64::new(fixed(per_second)),
            cap: AtomicU64::new(fixed(cap)),
            credited_ns: AtomicU64::new(0),
        }
    }

    /// Take new settings; the tokens stay, but for those above the new cap.
    pub fn configure(&self, ratio: f64, per_second: f64, cap: f64) {
        self.ratio.store(fixed(ratio), Relaxed);
        self.per_second.store(fixed(per_second), Relaxed);
        self.cap.store(fixed(cap), Relaxed);
        self.tokens.fetch_min(fixed(cap), Relaxed);
    }

    /// Count one request (not its retries).
    pub fn request(&self) {
        self.add(self.ratio.load(Relaxed));
    }

    /// Take what a retry costs: 1, or 2 when the caller retries as well (its `grpc-previous-rpc-attempts` is at
    /// least 1). False, and nothing taken, when there is not enough.
    pub fn take(&self, caller_retries: bool) -> bool {
        self.take_at(self.started.elapsed(), caller_retries)
    }

    /// [`take`](Self::take) at a given time since the start.
    pub fn take_at(&self, now: Duration, caller_retries: bool) -> bool {
        self.credit_time(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        let cost = if caller_retries { 2 * TOKEN } else { TOKEN };
        let take = |tokens: u64| tokens.checked_sub(cost);
        self.tokens.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    /// Tokens left, for metrics; what time earned since the last retry is not in it.
    pub fn tokens(&self) -> f64 {
        self.tokens.load(Relaxed) as f64 / TOKEN as f64
    }

    fn add(&self, earned: u64) {
        let cap = self.cap.load(Relaxed);
        // At the cap, where a healthy cluster stays, nothing is written: no cache line moves between workers.
        let add = |tokens: u64| (tokens < cap && earned > 0).then(|| (tokens + earned).min(cap));
        // An error is that closure's "nothing to write".
        let _ = self.tokens.fetch_update(Relaxed, Relaxed, add);
    }

    fn credit_time(&self, now_ns: u64) {
        let (since, rate) = (
            self.credited_ns.load(Relaxed),
            self.per_second.load(Relaxed),
        );
        let elapsed = u128::from(now_ns.saturating_sub(since));
        let earned = elapsed * u128::from(rate) / NS_PER_SECOND;
        // The mark moves by the time that was paid for, or slow rates that are asked often would never earn.
        let paid = (earned * NS_PER_SECOND)
            .checked_div(u128::from(rate))
            .unwrap_or(elapsed);
        let mark = since.saturating_add(u64::try_from(paid).unwrap_or(u64::MAX));
        // Who moves the mark adds the tokens; a lost race means that another worker has.
        if mark > since
            && self
                .credited_ns
                .compare_exchange(since, mark, Relaxed, Relaxed)
                .is_ok()
        {
            self.add(u64::try_from(earned).unwrap_or(MOST).min(MOST));
        }
    }
}

/// Tokens as fixed point; NaN and negative numbers are none.
fn fixed(tokens: f64) -> u64 {
    // The cast saturates, at 0 too.
    ((tokens * TOKEN as f64).round() as u64).min(MOST)
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
