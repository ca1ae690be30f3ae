//! One proxy: its rule, its budgets, its connections, and the calls that wait for one.

use std::time::{Duration, Instant};

use dl_core::balancing::{Nanos, RetryBudget};
use fastrand::Rng;

use crate::rule::{Backoff, Budget, Habits, Rule};
use crate::scenario::nanos;

pub struct Proxy {
    pub rule: Box<dyn Rule>,
    pub habits: Habits,
    retries: Option<RetryBudget>,
    hedges: Option<RetryBudget>,
    links: Vec<Link>,
    /// Calls for which no endpoint was connected.
    pub waiting: Vec<usize>,
    rng: Rng,
}

/// The connection to one endpoint.
#[derive(Clone, Copy)]
struct Link {
    is_up: bool,
    /// Tries that failed in a row.
    failures: i32,
    tried: Nanos,
    /// When the next try is; others that were planned are void.
    next: Nanos,
}

/// Least time between two tries to connect, however many calls wait.
const LEAST_BETWEEN: Nanos = 50_000_000;

// === impl Proxy ===

impl Proxy {
    pub fn new(rule: Box<dyn Rule>, seed: u64) -> Self {
        let habits = rule.habits();
        let budget = |budget: Budget| {
            // Only asked by virtual time: what the clock says does not matter.
            RetryBudget::new(budget.ratio, budget.per_second, budget.cap, Instant::now())
        };
        Self {
            rule,
            habits,
            retries: habits.budget.map(budget),
            hedges: habits.hedges.map(budget),
            links: Vec::new(),
            waiting: Vec::new(),
            rng: Rng::with_seed(seed),
        }
    }

    /// Take the endpoints; the new ones are connected.
    pub fn update(&mut self, weights: &[u32], now: Nanos) {
        let link = Link {
            is_up: true,
            failures: 0,
            tried: now,
            next: now,
        };
        self.links.resize(weights.len(), link);
        self.rule.update(weights, now);
    }

    /// Count a call in the budgets.
    pub fn count(&self) {
        for budget in [&self.retries, &self.hedges].into_iter().flatten() {
            budget.request();
        }
    }

    pub fn may_retry(&self, now: Nanos) -> bool {
        take(self.retries.as_ref(), now)
    }

    /// Whether half of the budget for hedges is used up: the rest is for calls that are slower by far.
    pub fn spares_hedges(&self) -> bool {
        let half = self.habits.hedges.map_or(0.0, |budget| budget.cap / 2.0);
        self.hedges
            .as_ref()
            .is_some_and(|budget| budget.tokens() < half)
    }

    pub fn may_hedge(&self, now: Nanos) -> bool {
        self.hedges.is_some() && take(self.hedges.as_ref(), now)
    }

    pub fn is_up(&self, endpoint: usize) -> bool {
        self.links[endpoint].is_up
    }

    /// A kept connection broke.
    pub fn lose(&mut self, endpoint: usize, now: Nanos) {
        if let Some(link) = self.links.get_mut(endpoint).filter(|link| link.is_up) {
            link.is_up = false;
            self.rule.set_live(endpoint, false, now);
        }
    }

    /// Plan the next try to connect; one that was planned before is void.
    pub fn plan(&mut self, endpoint: usize, at: Nanos) {
        self.links[endpoint].next = at;
    }

    /// Whether a try to connect is due now.
    pub fn is_due(&self, endpoint: usize, now: Nanos) -> bool {
        let link = &self.links[endpoint];
        !link.is_up && link.next == now
    }

    /// A try to connect succeeded.
    pub fn connected(&mut self, endpoint: usize, now: Nanos) {
        self.links[endpoint].is_up = true;
        self.links[endpoint].failures = 0;
        self.rule.set_live(endpoint, true, now);
    }

    /// A try to connect failed: how long until the next.
    pub fn refused(&mut self, endpoint: usize, backoff: Backoff, now: Nanos) -> Nanos {
        let link = &mut self.links[endpoint];
        link.tried = now;
        let wait = backoff.first * backoff.factor.powi(link.failures);
        link.failures += 1;
        let jitter = 1.0 + backoff.jitter * (2.0 * self.rng.f64() - 1.0);
        nanos(wait.min(backoff.longest) * jitter)
    }

    /// The endpoints to connect to now because a call waits.
    pub fn hurry(&self, now: Nanos) -> Vec<usize> {
        let is_worth = |link: &Link| !link.is_up && now >= link.tried + LEAST_BETWEEN;
        let links = self.links.iter().enumerate();
        links
            .filter(|(_, link)| is_worth(link))
            .map(|(endpoint, _)| endpoint)
            .collect()
    }

    /// A random time up to `most`.
    pub fn delay(&mut self, most: Nanos) -> Nanos {
        (self.rng.f64() * most as f64) as Nanos
    }
}

fn take(budget: Option<&RetryBudget>, now: Nanos) -> bool {
    budget.is_none_or(|budget| budget.take_at(Duration::from_nanos(now), false))
}
