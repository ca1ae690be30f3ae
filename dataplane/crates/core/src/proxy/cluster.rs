//! Endpoints that serve the same models, the picker over them, and what is counted for all of them.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::address::{Address, User};
use super::affinity::stable_hash;
use super::budget::RetryBudget;
use super::health::{Reported, Source};
use super::loaded::Loaded;
use super::not_loaded;
use super::settings::Settings;
use crate::balance::{
    self, Ask, Balancer, Done, Entry, Health, Nanos, Outcome, Picked, Refusal, State, View,
};
use crate::call::limit::InFlight;
use crate::config::{HealthCheckConfig, UpstreamTls};
use crate::error::Error;
use crate::grpc::load_report::LoadReport;
use crate::local::health::Changes;
use crate::stats::{ClusterStats, EndpointStats};

/// Hedges that the budget holds at most, and at the start (balancing.md 2.7).
const MOST_HEDGES: f64 = 20.0;
/// Calls that may wait for a cluster's first connection.
const MAX_WAITING: usize = 1024;
/// How precisely is known when a call came last.
const USED_NANOS: u64 = 100_000_000;

/// One cluster. It lives across reloads, so that statistics, learned weights and calls in flight survive them.
pub struct Cluster {
    pub name: Box<str>,
    pub stats: ClusterStats,
    pub budget: RetryBudget,
    pub hedge_budget: RetryBudget,
    pub in_flight: InFlight,
    pub loaded: Loaded,
    settings: ArcSwap<Settings>,
    set: Mutex<Set>,
    /// Woken when an endpoint becomes live or is found dead.
    changed: Notify,
    waiting: InFlight,
    order: RandomState,
    /// Where the balancer's time begins.
    started: Instant,
    /// When a call came last that needed the model, on that clock; 0 when none ever did.
    used: AtomicU64,
    /// The process's; an endpoint's liveness is the health of models.
    health: Arc<Changes>,
}

struct Set {
    balancer: Balancer,
    endpoints: Vec<Arc<Endpoint>>,
    /// Configured weights, in the order of `endpoints`.
    weights: Vec<u32>,
}

/// An address in a cluster: identity of its statistics and of its weight.
pub struct Endpoint {
    pub address: Arc<Address>,
    pub stats: EndpointStats,
    pub health: Reported,
    cluster: Weak<Cluster>,
    /// Position in the cluster's balancer; [`Endpoint::REMOVED`] once it has left.
    slot: AtomicUsize,
}

/// A cluster as one call uses it: with the settings that applied when the call came to it.
pub struct Share {
    pub cluster: Arc<Cluster>,
    pub settings: Arc<Settings>,
}

/// What the balancer has to know of a call.
#[derive(Clone, Copy, Default)]
pub struct Need {
    /// None for a call without one.
    pub deadline: Option<Instant>,
    /// The call may be sent to another endpoint if this one fails.
    pub can_probe: bool,
    pub is_low: bool,
    pub is_stream: bool,
    pub is_hedge: bool,
    pub key: Option<u64>,
}

/// The right to use an endpoint for one attempt: counts it in flight, and reports its outcome when finished.
/// Dropped unfinished (the caller went away), it reports a neutral outcome.
pub struct Lease {
    pub endpoint: Arc<Endpoint>,
    /// When it was picked; the second for the balancer.
    pub started: Instant,
    begun: Nanos,
    cluster: Arc<Cluster>,
    is_probe: bool,
    is_stream: bool,
    is_finished: bool,
}

// === impl Cluster ===

impl Cluster {
    pub fn new(
        settings: &Settings,
        started: std::time::Instant,
        health: Arc<Changes>,
    ) -> Arc<Self> {
        let config = &settings.config;
        let order = RandomState::new();
        // Each process begins elsewhere: proxies that start together must not pick in step.
        let balancer = Balancer::new(&settings.balance, order.hash_one(&config.name));
        let set = Set {
            balancer,
            endpoints: Vec::new(),
            weights: Vec::new(),
        };
        Arc::new(Self {
            name: config.name.as_str().into(),
            stats: ClusterStats::default(),
            budget: RetryBudget::new(
                config.retry_budget_ratio,
                config.retry_budget_per_second,
                config.retry_budget_cap,
                started,
            ),
            hedge_budget: RetryBudget::new(config.hedge_budget_ratio, 0.0, MOST_HEDGES, started),
            in_flight: InFlight::default(),
            loaded: Loaded::new(started),
            set: Mutex::new(set),
            settings: ArcSwap::from_pointee(settings.clone()),
            changed: Notify::new(),
            waiting: InFlight::default(),
            order,
            started: Instant::from_std(started),
            used: AtomicU64::new(0),
            health,
        })
    }

    /// Take new settings and endpoints; endpoints whose address stays keep everything they have learned.
    pub fn update(self: &Arc<Self>, settings: Settings, mut addresses: Vec<(Arc<Address>, u32)>) {
        // Each process has its own order: proxies that start together must not all begin with the first endpoint.
        addresses.sort_by_cached_key(|(address, _)| self.order.hash_one(&address.text));
        let config = &settings.config;
        self.budget.configure(
            config.retry_budget_ratio,
            config.retry_budget_per_second,
            config.retry_budget_cap,
        );
        self.hedge_budget
            .configure(config.hedge_budget_ratio, 0.0, MOST_HEDGES);
        let (balance, now) = (settings.balance.clone(), self.now());
        self.settings.store(Arc::new(settings));
        let mut set = self.lock();
        let mut old: FxHashMap<u64, Arc<Endpoint>> = set
            .endpoints
            .drain(..)
            .map(|endpoint| (endpoint.address.id, endpoint))
            .collect();
        let endpoints: Vec<_> = addresses
            .iter()
            .map(|(address, _)| {
                old.remove(&address.id)
                    .unwrap_or_else(|| Endpoint::new(address.clone(), Arc::downgrade(self)))
            })
            .collect();
        for removed in old.values() {
            removed.set_slot(Endpoint::REMOVED);
        }
        let entries: Vec<_> = addresses
            .iter()
            .map(|(address, weight)| Entry {
                id: stable_hash(address.text.as_bytes()),
                weight: *weight,
                live: address.is_live(),
            })
            .collect();
        set.balancer.configure(&balance, now);
        set.balancer.update(&entries, now);
        for (slot, endpoint) in endpoints.iter().enumerate() {
            endpoint.set_slot(slot);
        }
        set.endpoints = endpoints;
        set.mask(now);
        set.weights = addresses.iter().map(|(_, weight)| *weight).collect();
        drop(set);
        self.changed.notify_waiters();
    }

    /// Take the next endpoint that was not tried by this call.
    ///
    /// # Errors
    /// None is live, or none would answer in time.
    pub fn pick(self: &Arc<Self>, tried: &[Arc<Endpoint>], need: &Need) -> Result<Lease, Refusal> {
        let mut slots = [Endpoint::REMOVED; 8];
        let tried = &tried[tried.len().saturating_sub(slots.len())..];
        let at = Instant::now();
        let now = self.nanos(at);
        let (picked, endpoint) = {
            let mut set = self.lock();
            for (slot, endpoint) in slots.iter_mut().zip(tried) {
                *slot = endpoint.slot();
            }
            let ask = Ask {
                tried: &slots[..tried.len()],
                left: need.deadline.map(|end| self.nanos(end).saturating_sub(now)),
                can_probe: need.can_probe,
                is_low: need.is_low,
                key: need.key,
                is_stream: need.is_stream,
                is_hedge: need.is_hedge,
            };
            let picked = set.balancer.pick(&ask, now)?;
            (picked, set.endpoints[picked.slot].clone())
        };
        Ok(self.leased(endpoint, picked, need.is_stream, (at, now)))
    }

    fn leased(
        self: &Arc<Self>,
        endpoint: Arc<Endpoint>,
        picked: Picked,
        is_stream: bool,
        (started, begun): (Instant, Nanos),
    ) -> Lease {
        Lease {
            endpoint,
            started,
            begun,
            cluster: self.clone(),
            is_probe: picked.is_probe,
            is_stream,
            is_finished: false,
        }
    }

    /// Whether an endpoint is live that was not tried by this call.
    pub fn has_untried(&self, tried: &[Arc<Endpoint>]) -> bool {
        let is_tried = |one: &Arc<Endpoint>| tried.iter().any(|other| Arc::ptr_eq(one, other));
        self.lock()
            .endpoints
            .iter()
            .any(|endpoint| endpoint.address.is_live() && !is_tried(endpoint))
    }

    /// Use an endpoint again although it was tried: it never saw the call, and no other is live. None once it has left.
    pub fn lease(self: &Arc<Self>, endpoint: Arc<Endpoint>, need: &Need) -> Option<Lease> {
        let at = Instant::now();
        let now = self.nanos(at);
        let picked = self
            .lock()
            .balancer
            .repeat(endpoint.slot(), need.is_stream, now)?;
        Some(self.leased(endpoint, picked, need.is_stream, (at, now)))
    }

    /// Endpoints, by address, with their configured weights and what the balancer says of them.
    pub fn endpoints(&self) -> Vec<(Arc<Endpoint>, u32, View)> {
        let (set, now) = (self.lock(), self.now());
        let rows = set.endpoints.iter().zip(&set.weights).enumerate();
        let mut rows: Vec<_> = rows
            .filter_map(|(slot, (endpoint, weight))| {
                let view = set.balancer.view(slot, now)?;
                Some((endpoint.clone(), *weight, view))
            })
            .collect();
        drop(set);
        rows.sort_by(|(a, ..), (b, ..)| a.address.text.cmp(&b.address.text));
        rows
    }

    /// Time since the balancer's beginning, as it counts.
    pub fn now(&self) -> Nanos {
        self.nanos(Instant::now())
    }

    fn nanos(&self, at: Instant) -> Nanos {
        let since = at.saturating_duration_since(self.started);
        // 500 years.
        since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())
    }

    /// The ids of addresses whose effective weight is below the full one, and whether they get next to nothing: the
    /// weight is at its least, or they are ejected.
    pub fn weak(&self) -> Vec<(u64, bool)> {
        let (set, now) = (self.lock(), self.now());
        let slots = set.endpoints.iter().zip(&set.weights).enumerate();
        slots
            .filter(|(slot, _)| !set.balancer.is_full(*slot))
            .filter_map(|(slot, (endpoint, weight))| {
                let view = set.balancer.view(slot, now)?;
                // 1/256 of a configured weight is the least that a policy leaves.
                let is_least = view.effective_weight <= *weight || view.state != State::Warm;
                Some((endpoint.address.id, is_least))
            })
            .collect()
    }

    /// How the endpoints are asked for their health.
    pub fn health_check(&self) -> HealthCheckConfig {
        self.settings.load().config.health_check.clone()
    }

    /// How the endpoints are spoken to.
    pub fn tls(&self) -> Option<UpstreamTls> {
        self.settings.load().config.tls.clone()
    }

    pub fn members(&self) -> Vec<Arc<Endpoint>> {
        self.lock().endpoints.clone()
    }

    pub fn policy(&self) -> String {
        self.settings.load().balance.policy.clone()
    }

    /// After what time a call is hedged: what 95 % of them take at most, once there were enough of them. One in twenty
    /// is that slow on a good day and would use up the budget: its second half is for those that are slower by far.
    pub fn hedge_delay(&self) -> Option<Duration> {
        let slow = self
            .lock()
            .balancer
            .hedge_delay()
            .map(Duration::from_nanos)?;
        let is_scarce = self.hedge_budget.tokens() < MOST_HEDGES / 2.0;
        Some(if is_scarce { 3 * slow } else { slow })
    }

    pub fn is_live(&self) -> bool {
        self.lock()
            .endpoints
            .iter()
            .any(|endpoint| endpoint.address.is_live())
    }

    /// Whether an endpoint is live, or may turn out to be any moment.
    pub fn may_serve(&self) -> bool {
        self.lock()
            .endpoints
            .iter()
            .any(|endpoint| endpoint.address.is_live() || endpoint.address.is_pending())
    }

    pub fn addresses(&self) -> Vec<Arc<Address>> {
        let set = self.lock();
        let addresses = set.endpoints.iter().map(|endpoint| &endpoint.address);
        addresses.cloned().collect()
    }

    /// An endpoint's connectivity or health changed.
    fn refresh(&self) {
        let mut set = self.lock();
        set.mask(self.now());
        drop(set);
        self.health.bump();
        self.changed.notify_waiters();
    }

    /// Wait until an endpoint may be picked, as long as `connects` to them last or one of them has not even been tried
    /// yet. Returns whether another pick is worth it.
    pub async fn wait_live(&self, limit: Duration, connects: impl Future<Output = ()>) -> bool {
        // Given back also by a call whose caller goes away meanwhile.
        let Some(_waiting) = self.waiting.acquire(MAX_WAITING) else {
            return false;
        };
        let mut connects = std::pin::pin!(connects);
        let found = tokio::time::timeout(limit, async {
            let mut have_ended = false;
            loop {
                let changed = self.changed.notified();
                let (is_live, is_pending) = {
                    let set = self.lock();
                    let mut addresses = set.endpoints.iter().map(|endpoint| &endpoint.address);
                    (
                        addresses.clone().any(|address| address.is_live()),
                        addresses.any(|address| address.is_pending()),
                    )
                };
                if is_live || (have_ended && !is_pending) {
                    return is_live;
                }
                tokio::select! {
                    () = changed => {}
                    () = &mut connects, if !have_ended => have_ended = true,
                }
            }
        })
        .await;
        found.unwrap_or(false)
    }

    /// Wait for a live endpoint that was not tried by this call, as long as the caller waits for this. Returns whether
    /// there is one.
    pub async fn wait_untried(&self, tried: &[Arc<Endpoint>]) -> bool {
        let Some(_waiting) = self.waiting.acquire(MAX_WAITING) else {
            return false;
        };
        loop {
            let changed = self.changed.notified();
            if self.has_untried(tried) {
                return true;
            }
            changed.await;
        }
    }

    /// Note that a call has come that needs the model.
    pub fn used(&self, at: Instant) {
        let (last, now) = (self.used.load(Ordering::Relaxed), self.nanos(at).max(1));
        // Not each time: what all threads write, none has in its cache.
        if last == 0 || now >= last + USED_NANOS {
            self.used.store(now, Ordering::Relaxed);
        }
    }

    /// How long ago a call came that needs the model; none when none ever did.
    pub fn unused_for(&self) -> Option<Duration> {
        let used = self.used.load(Ordering::Relaxed);
        (used > 0).then(|| Duration::from_nanos(self.now().saturating_sub(used)))
    }

    /// Wait until the model is loaded and one of its endpoints may be picked.
    ///
    /// # Errors
    /// It is not going to be: more often than `refusals` times loading it was refused; or too many calls wait.
    pub async fn wait_loaded(&self, refusals: u64) -> Result<(), Error> {
        let Some(_waiting) = self.waiting.acquire(MAX_WAITING) else {
            return Err(not_loaded::crowded(MAX_WAITING));
        };
        loop {
            let changed = self.changed.notified();
            if self.is_live() {
                return Ok(());
            }
            if let Some(now) = &self.settings.load().config.unloaded
                && let Some(refusal) = now.refusal.as_ref().filter(|_| now.refusals > refusals)
            {
                return Err(not_loaded::refused(&now.model, refusal));
            }
            changed.await;
        }
    }

    /// Numbers are guarded; a panic cannot leave them half-written in a harmful way.
    fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Set {
    /// Tell the balancer who is connected, and what they say of themselves.
    fn mask(&mut self, now: Nanos) {
        for (slot, endpoint) in self.endpoints.iter().enumerate() {
            let live = endpoint.address.is_live();
            self.balancer.set_live(slot, live, now);
            self.balancer.set_health(slot, endpoint.health.get(), now);
        }
    }
}

// === impl Share ===

impl Share {
    pub fn new(cluster: Arc<Cluster>) -> Self {
        let settings = cluster.settings.load_full();
        Self { cluster, settings }
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// Slot of an endpoint that is no longer in its cluster.
    const REMOVED: usize = usize::MAX;

    /// Make the endpoint and let the address tell it about connects and losses.
    fn new(address: Arc<Address>, cluster: Weak<Cluster>) -> Arc<Self> {
        let endpoint = Arc::new(Self {
            address,
            stats: EndpointStats::default(),
            health: Reported::default(),
            cluster,
            slot: AtomicUsize::new(Self::REMOVED),
        });
        let user: Weak<dyn User> = Arc::<Self>::downgrade(&endpoint);
        endpoint.address.add_user(user);
        endpoint
    }

    /// What the endpoint's server says of itself.
    pub fn set_health(&self, health: Health, source: Source) {
        if self.health.set_server(health, source) {
            self.connectivity_changed();
        }
    }

    /// Whether it loads a model that others have.
    pub fn set_loading(&self, is_loading: bool, source: Source) {
        if self.health.set_loading(is_loading, source) {
            self.connectivity_changed();
        }
    }

    fn slot(&self) -> usize {
        self.slot.load(Ordering::Acquire)
    }

    /// Only under the cluster's lock.
    fn set_slot(&self, slot: usize) {
        self.slot.store(slot, Ordering::Release);
    }
}

impl User for Endpoint {
    fn connectivity_changed(&self) {
        if let Some(cluster) = self.cluster.upgrade() {
            cluster.refresh();
        }
    }
}

// === impl Lease ===

impl Lease {
    /// End the attempt, now, and let the balancer learn from it. `is_timed`: the endpoint answered, so that its time says
    /// how fast it is. `load`: what it said of its load.
    pub fn finish(
        mut self,
        outcome: Outcome,
        is_timed: bool,
        load: Option<&LoadReport>,
        now: Instant,
    ) {
        self.end(outcome, is_timed, load, now);
    }

    fn end(&mut self, outcome: Outcome, is_timed: bool, load: Option<&LoadReport>, now: Instant) {
        self.is_finished = true;
        let done = Done {
            outcome,
            started: self.begun,
            is_probe: self.is_probe,
            is_timed,
            is_stream: self.is_stream,
        };
        let now = self.cluster.nanos(now);
        let mut set = self.cluster.lock();
        // `REMOVED` is no slot: there is nothing to learn about then.
        let slot = self.endpoint.slot();
        set.balancer.finish(slot, &done, now);
        if let Some(load) = load {
            let report = balance::LoadReport {
                utilization: load.utilization,
                queue: load.queue as u32, // saturates
                rps: load.rps,
                eps: load.eps,
            };
            set.balancer.report_load(slot, &report, now);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_finished {
            self.end(Outcome::Neutral, false, None, Instant::now());
        }
    }
}
