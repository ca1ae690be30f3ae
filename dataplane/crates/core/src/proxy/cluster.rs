//! Endpoints that serve the same models, the picker over them, and what is counted for all of them.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::endpoint::{Address, Endpoint};
use super::limit::InFlight;
use super::method::Protocol;
use super::retry::{CodeSet, RetryBudget};
use crate::admin::health::Version;
use crate::admin::metrics::ClusterStats;
use crate::balance::{self, Entry, Outcome, Picker};
use crate::config::ClusterConfig;

/// Calls that may wait for a cluster's first connection.
const MAX_WAITING: usize = 1024;

/// What a reload may change, parsed once.
#[derive(Clone)]
pub struct Settings {
    pub timeout: Duration,
    pub attempt_timeout: Option<Duration>,
    pub stream_idle_timeout: Duration,
    pub max_attempts: u32,
    pub idempotent: bool,
    pub retry_codes: CodeSet,
    pub max_in_flight: usize,
    failure_codes: [CodeSet; 3],
    config: ClusterConfig,
}

/// One cluster. It lives across reloads, so that statistics, learned weights and calls in flight survive them.
pub struct Cluster {
    pub name: Box<str>,
    pub stats: ClusterStats,
    pub budget: RetryBudget,
    pub in_flight: InFlight,
    settings: ArcSwap<Settings>,
    set: Mutex<Set>,
    /// Woken when an endpoint becomes live or is found dead.
    changed: Notify,
    waiting: AtomicUsize,
    order: RandomState,
    /// The process's; an endpoint's liveness is the health of models.
    health: Arc<Version>,
}

struct Set {
    picker: Box<dyn Picker>,
    policy: String,
    endpoints: Vec<Arc<Endpoint>>,
    /// Configured weights, in the order of `endpoints`.
    weights: Vec<u32>,
}

/// The right to use an endpoint for one attempt: counts it in flight, and reports its outcome when finished.
/// Dropped unfinished (the caller went away), it reports a neutral outcome.
pub struct Lease {
    pub endpoint: Arc<Endpoint>,
    cluster: Arc<Cluster>,
}

// === impl Settings ===

impl Settings {
    /// # Errors
    /// Names the value that the data plane does not know.
    pub fn new(config: &ClusterConfig) -> Result<Self, String> {
        let codes = |names: &[String]| {
            CodeSet::from_names(names).map_err(|error| format!("cluster {}: {error}", config.name))
        };
        if !balance::NAMES.contains(&config.policy.as_str()) {
            let known = balance::NAMES.join(", ");
            return Err(format!(
                "cluster {}: unknown policy {}; known: {known}",
                config.name, config.policy
            ));
        }
        if let Some(endpoint) = config
            .endpoints
            .iter()
            .find(|endpoint| !(1..=65535).contains(&endpoint.weight))
        {
            let (name, address, weight) = (&config.name, &endpoint.address, endpoint.weight);
            return Err(format!(
                "cluster {name}: weight {weight} of {address} is not in 1..=65535"
            ));
        }
        let failure = &config.failure_codes;
        Ok(Self {
            timeout: Duration::from_millis(config.timeout_ms),
            attempt_timeout: config.attempt_timeout_ms.map(Duration::from_millis),
            stream_idle_timeout: Duration::from_millis(config.stream_idle_timeout_ms),
            max_attempts: config.max_attempts.max(1),
            idempotent: config.idempotent,
            retry_codes: codes(&config.retry_codes)?,
            failure_codes: [
                codes(&failure.tfs)?,
                codes(&failure.seldon)?,
                codes(&failure.oip)?,
            ],
            max_in_flight: config.max_in_flight,
            config: config.clone(),
        })
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// gRPC codes that count against an endpoint, by the protocol of the method called.
    pub fn failure_codes(&self, protocol: Protocol) -> CodeSet {
        self.failure_codes[match protocol {
            Protocol::Tfs | Protocol::None => 0,
            Protocol::Seldon => 1,
            Protocol::Oip => 2,
        }]
    }
}

// === impl Cluster ===

impl Cluster {
    pub fn new(settings: &Settings, started: Instant, health: Arc<Version>) -> Arc<Self> {
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
            in_flight: InFlight::default(),
            set: Mutex::new(set),
            settings: ArcSwap::from_pointee(settings.clone()),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
            order: RandomState::new(),
            health,
        })
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
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

    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.lock().endpoints.clone()
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

    pub fn policy(&self) -> String {
        self.lock().policy.clone()
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

    /// The address's connectivity changed.
    pub(super) fn refresh(&self, endpoint: &Endpoint) {
        {
            let mut set = self.lock();
            let slot = endpoint.slot();
            if slot != Endpoint::REMOVED {
                set.picker.set_live(slot, endpoint.address.is_live());
            }
        }
        self.health.bump();
        self.changed.notify_waiters();
    }

    /// Wait until an endpoint may be picked, as long as one of them has not even been tried yet.
    /// Returns whether another pick is worth it.
    pub async fn wait_live(&self, limit: Duration) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let found = tokio::time::timeout(limit, async {
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
                if is_live || !is_pending {
                    return is_live;
                }
                changed.await;
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
    fn note_weight(&self, slot: usize, endpoint: &Endpoint) {
        endpoint
            .is_full
            .store(self.picker.is_full(slot), Ordering::Relaxed);
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
