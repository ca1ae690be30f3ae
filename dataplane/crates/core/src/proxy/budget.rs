//! The budget that keeps retries and hedges from multiplying load. `tests/interleavings.rs` runs this file with threads in
//! many orders.

use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
