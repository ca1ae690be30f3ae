//! Endpoints that serve the same models, the picker over them, and what is counted for all of them.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::address::{Address, User};
use super::health::{Health, Reported};
use super::loaded::Loaded;
use super::retry::RetryBudget;
use super::settings::Settings;
use crate::balance::{self, Entry, Outcome, Picker};
use crate::call::limit::InFlight;
use crate::config::HealthCheckConfig;
use crate::local::health::Changes;
use crate::stats::{ClusterStats, EndpointStats};

/// Hedges that the budget holds at most, and at the start (balancing.md 2.7).
const MOST_HEDGES: f64 = 20.0;
/// Calls that may wait for a cluster's first connection.
const MAX_WAITING: usize = 1024;

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
    waiting: AtomicUsize,
    order: RandomState,
    /// The process's; an endpoint's liveness is the health of models.
    health: Arc<Changes>,
}

struct Set {
    picker: Box<dyn Picker>,
    policy: String,
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
    /// Position in the cluster's picker; [`Endpoint::REMOVED`] once it has left.
    slot: AtomicUsize,
    /// Its effective weight is full, so that one more success changes nothing.
    is_full: AtomicBool,
}

/// A cluster as one call uses it: with the settings that applied when the call came to it.
pub struct Share {
    pub cluster: Arc<Cluster>,
    pub settings: Arc<Settings>,
}

/// The right to use an endpoint for one attempt: counts it in flight, and reports its outcome when finished.
/// Dropped unfinished (the caller went away), it reports a neutral outcome.
pub struct Lease {
    pub endpoint: Arc<Endpoint>,
    cluster: Arc<Cluster>,
}

// === impl Cluster ===

impl Cluster {
    pub fn new(settings: &Settings, started: Instant, health: Arc<Changes>) -> Arc<Self> {
        let config = &settings.config;
        let picker = balance::picker(&config.policy).expect("Settings::new checked the name");
        let set = Set {
            picker,
            policy: config.policy.clone(),
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
            waiting: AtomicUsize::new(0),
            order: RandomState::new(),
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
        let policy = config.policy.clone();
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
        if policy != set.policy {
            set.picker = balance::picker(&policy).expect("Settings::new checked the name");
            set.policy = policy;
        }
        let entries: Vec<_> = addresses
            .iter()
            .map(|(address, weight)| Entry {
                id: address.id,
                weight: *weight,
                live: address.is_live(),
            })
            .collect();
        set.picker.update(&entries);
        for (slot, endpoint) in endpoints.iter().enumerate() {
            endpoint.set_slot(slot);
            set.note_weight(slot, endpoint);
        }
        set.endpoints = endpoints;
        set.mask();
        set.weights = addresses.iter().map(|(_, weight)| *weight).collect();
        drop(set);
        self.changed.notify_waiters();
    }

    /// Take the next endpoint that is live and was not tried by this call.
    pub fn pick(self: &Arc<Self>, tried: &[Arc<Endpoint>]) -> Option<Lease> {
        let endpoint = {
            let mut set = self.lock();
            let mut slots = [Endpoint::REMOVED; 8];
            let tried = &tried[tried.len().saturating_sub(slots.len())..];
            for (slot, endpoint) in slots.iter_mut().zip(tried) {
                *slot = endpoint.slot();
            }
            let slot = set.picker.pick(&slots[..tried.len()])?;
            set.endpoints[slot].clone()
        };
        Some(self.lease(endpoint))
    }

    /// Whether an endpoint is live that was not tried by this call.
    pub fn has_untried(&self, tried: &[Arc<Endpoint>]) -> bool {
        let is_tried = |one: &Arc<Endpoint>| tried.iter().any(|other| Arc::ptr_eq(one, other));
        self.lock()
            .endpoints
            .iter()
            .any(|endpoint| endpoint.address.is_live() && !is_tried(endpoint))
    }

    /// Use an endpoint again although it was tried: it never saw the call, and no other is live.
    pub fn lease(self: &Arc<Self>, endpoint: Arc<Endpoint>) -> Lease {
        endpoint.stats.in_flight.fetch_add(1, Ordering::Relaxed);
        Lease {
            endpoint,
            cluster: self.clone(),
        }
    }

    /// Endpoints, by address, with their configured and effective weights (256 = a weight of 1).
    pub fn weights(&self) -> Vec<(Arc<Endpoint>, u32, u32)> {
        let set = self.lock();
        let rows = set.endpoints.iter().zip(&set.weights).enumerate();
        let mut rows: Vec<_> = rows
            .map(|(slot, (endpoint, weight))| {
                (endpoint.clone(), *weight, set.picker.effective_weight(slot))
            })
            .collect();
        drop(set);
        rows.sort_by(|(a, ..), (b, ..)| a.address.text.cmp(&b.address.text));
        rows
    }

    /// The ids of addresses whose effective weight is below the full one, and whether it is at its least.
    pub fn weak(&self) -> Vec<(u64, bool)> {
        let set = self.lock();
        let slots = set.endpoints.iter().zip(&set.weights).enumerate();
        slots
            .filter(|(slot, _)| !set.picker.is_full(*slot))
            .map(|(slot, (endpoint, weight))| {
                // 1/256 of a configured weight is the least that a policy leaves.
                let is_least = set.picker.effective_weight(slot) <= *weight;
                (endpoint.address.id, is_least)
            })
            .collect()
    }

    /// How the endpoints are asked for their health.
    pub fn health_check(&self) -> HealthCheckConfig {
        self.settings.load().config.health_check.clone()
    }

    pub fn members(&self) -> Vec<Arc<Endpoint>> {
        self.lock().endpoints.clone()
    }

    pub fn policy(&self) -> String {
        self.lock().policy.clone()
    }

    /// The time that 95 % of the attempts take at most, once there were enough of them.
    pub fn hedge_delay(&self) -> Option<Duration> {
        let set = self.lock();
        let slow = |endpoint: &Arc<Endpoint>| {
            let times = endpoint.stats.seconds.snapshot();
            (times.count() >= 50).then(|| times.quantile(0.95))?
        };
        let least = set.endpoints.iter().filter_map(slow).reduce(f64::min);
        least.map(Duration::from_secs_f64)
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
        self.lock().mask();
        self.health.bump();
        self.changed.notify_waiters();
    }

    /// Wait until an endpoint may be picked, as long as `connects` to them last or one of them has not even been tried
    /// yet. Returns whether another pick is worth it.
    pub async fn wait_live(&self, limit: Duration, connects: impl Future<Output = ()>) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
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
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        found.unwrap_or(false)
    }

    fn report(&self, endpoint: &Endpoint, outcome: Outcome) {
        // The common case changes nothing: a success of an endpoint whose weight is full.
        if outcome == Outcome::Neutral
            || (outcome == Outcome::Success && endpoint.is_full.load(Ordering::Relaxed))
        {
            return;
        }
        let mut set = self.lock();
        let slot = endpoint.slot();
        if slot != Endpoint::REMOVED {
            set.picker.report(slot, outcome);
            set.note_weight(slot, endpoint);
        }
    }

    /// A few integers are guarded; a panic cannot leave them half-written in a harmful way.
    fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Set {
    /// Let calls go to endpoints that are well, and where no live one is, to any that is live.
    fn mask(&mut self) {
        let is_well = |endpoint: &Endpoint| endpoint.health.get().is_well();
        let mut live = self.endpoints.iter().filter(|it| it.address.is_live());
        let has_well = live.any(|endpoint| is_well(endpoint));
        for (slot, endpoint) in self.endpoints.iter().enumerate() {
            let may_be_picked = endpoint.address.is_live() && (!has_well || is_well(endpoint));
            self.picker.set_live(slot, may_be_picked);
        }
    }

    fn note_weight(&self, slot: usize, endpoint: &Endpoint) {
        endpoint
            .is_full
            .store(self.picker.is_full(slot), Ordering::Relaxed);
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
            is_full: AtomicBool::new(true),
        });
        let user: Weak<dyn User> = Arc::<Self>::downgrade(&endpoint);
        endpoint.address.add_user(user);
        endpoint
    }

    /// What the endpoint's server says of itself.
    pub fn set_health(&self, health: Health) {
        if self.health.set_server(health) {
            self.connectivity_changed();
        }
    }

    /// Whether it loads a model that others have.
    pub fn set_loading(&self, is_loading: bool) {
        if self.health.set_loading(is_loading) {
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
    /// End the attempt and let the balancer learn from it.
    pub fn finish(self, outcome: Outcome) {
        self.cluster.report(&self.endpoint, outcome);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint
            .stats
            .in_flight
            .fetch_sub(1, Ordering::Relaxed);
    }
}
