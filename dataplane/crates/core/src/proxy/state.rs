//! What the whole process shares, the routing state that is swapped whole, and what one worker owns.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;

use super::cluster::{Cluster, Settings};
use super::endpoint::Address;
use super::limit::{HeldBytes, InFlight};
use super::method;
use super::pool::{Pool, Upstream};
use super::route::{Model, Routes, Split};
use crate::admin::access_log::AccessLog;
use crate::admin::grpc::LocalServices;
use crate::admin::health::Version;
use crate::admin::metrics::{CallStats, ProcessStats};
use crate::admin::reflection::Reflection;
use crate::config::{ProxyConfig, SplitConfig, StateConfig};
use crate::net::drain::Drain;

/// Shared by all threads of the process.
pub struct Shared {
    pub config: ProxyConfig,
    pub state: ArcSwap<State>,
    pub stats: Arc<ProcessStats>,
    /// Calls that no configured model took.
    pub unrouted: Arc<CallStats>,
    pub in_flight: InFlight,
    pub held: Arc<HeldBytes>,
    pub drain: Drain,
    /// Wakes those who watch the health of a model.
    pub health: Arc<Version>,
    pub reflection: Arc<Reflection>,
    pub started: Instant,
    /// Open downstream connections.
    pub connections: Arc<AtomicUsize>,
    pub access_log: Option<AccessLog>,
    /// Shown under `control` in /status.
    control_status: Mutex<serde_json::Value>,
    /// States applied so far.
    pub applied: AtomicU64,
    /// Serialises `apply`.
    applying: Mutex<()>,
}

/// One routing state.
#[derive(Default)]
pub struct State {
    pub routes: Routes,
    /// In the order of the configuration.
    pub clusters: Vec<Arc<Cluster>>,
    pub addresses: Vec<Arc<Address>>,
}

/// What a cluster of the new state will be: its settings, and its endpoints with their weights.
type Plan = (Settings, Vec<(Arc<Address>, u32)>);

/// What one worker thread owns.
pub struct Worker {
    pub shared: Arc<Shared>,
    pub pool: Pool,
    pub local: LocalServices,
}

// === impl Worker ===

impl Worker {
    /// The connections to an address. None when the address has been removed since the call picked it: it must not
    /// come back.
    pub fn upstream(&self, address: &Arc<Address>) -> Option<Rc<Upstream>> {
        self.pool.get(address).or_else(|| {
            let state = self.shared.state.load();
            let is_wanted = state.addresses.iter().any(|wanted| wanted.id == address.id);
            is_wanted.then(|| self.pool.upstream(address))
        })
    }
}

// === impl Shared ===

impl Shared {
    /// # Errors
    /// The access log cannot be opened.
    pub fn new(config: ProxyConfig, reflection: Reflection) -> io::Result<Self> {
        let held = Arc::new(HeldBytes::new(config.limits.max_held_bytes));
        let stats = Arc::new(ProcessStats::default());
        let access_log = match &config.access_log {
            Some(path) => Some(AccessLog::open(path, stats.access_log_lost.clone())?),
            None => None,
        };
        Ok(Self {
            access_log,
            config,
            state: ArcSwap::default(),
            stats,
            unrouted: Arc::new(CallStats::new(method::all().len())),
            in_flight: InFlight::default(),
            held,
            drain: Drain::default(),
            health: Arc::default(),
            reflection: Arc::new(reflection),
            started: Instant::now(),
            connections: Arc::default(),
            control_status: Mutex::default(),
            applied: AtomicU64::new(0),
            applying: Mutex::new(()),
        })
    }

    pub fn control_status(&self) -> serde_json::Value {
        self.control_status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn set_control_status(&self, status: serde_json::Value) {
        *self
            .control_status
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Build the new state and swap it in; clusters, endpoints and model statistics that stay are the same objects.
    ///
    /// # Errors
    /// Names what is wrong; the old state stays.
    pub fn apply(&self, config: &StateConfig) -> Result<(), String> {
        let _one_at_a_time = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.state.load_full();
        // Everything that can fail comes first, so that a refused state has changed nothing.
        check(config)?;
        let mut known: FxHashMap<&str, Arc<Address>> = old
            .addresses
            .iter()
            .map(|address| (&*address.text, address.clone()))
            .collect();
        let mut plans = Vec::with_capacity(config.clusters.len());
        for cluster in &config.clusters {
            let mut endpoints = Vec::with_capacity(cluster.endpoints.len());
            for endpoint in &cluster.endpoints {
                let address = match known.get(endpoint.address.as_str()) {
                    Some(address) => address.clone(),
                    None => Arc::new(
                        Address::new(&endpoint.address)
                            .map_err(|e| format!("cluster {}: {e}", cluster.name))?,
                    ),
                };
                known.insert(&endpoint.address, address.clone());
                endpoints.push((address, endpoint.weight));
            }
            plans.push((Settings::new(cluster)?, endpoints));
        }
        let state = self.build(config, &old, plans);
        self.state.store(Arc::new(state));
        self.applied.fetch_add(1, Ordering::Relaxed);
        self.health.bump();
        Ok(())
    }

    fn build(&self, config: &StateConfig, old: &State, plans: Vec<Plan>) -> State {
        let mut clusters = Vec::with_capacity(plans.len());
        let mut addresses: FxHashMap<u64, Arc<Address>> = FxHashMap::default();
        for (settings, endpoints) in plans {
            let name = settings.name().to_owned();
            let cluster = match old.clusters.iter().find(|cluster| *cluster.name == name) {
                Some(cluster) => cluster.clone(),
                None => Cluster::new(&settings, self.started, self.health.clone()),
            };
            for (address, _) in &endpoints {
                addresses.insert(address.id, address.clone());
            }
            cluster.update(settings, endpoints);
            clusters.push(cluster);
        }
        let by_name: FxHashMap<&str, &Arc<Cluster>> = clusters
            .iter()
            .map(|cluster| (&*cluster.name, cluster))
            .collect();
        let split = |targets: &[SplitConfig]| {
            let targets = targets
                .iter()
                .filter_map(|t| Some(((*by_name.get(t.cluster.as_str())?).clone(), t.weight)));
            Split::new(targets.collect())
        };
        let mut routes = Routes {
            models: FxHashMap::default(),
            default: config
                .default_cluster
                .as_deref()
                .and_then(|name| by_name.get(name).map(|c| (*c).clone())),
        };
        for model in &config.models {
            let name: Box<str> = model.name.as_str().into();
            let stats = match old.routes.models.get(&name) {
                Some(old) => old.stats.clone(),
                None => Arc::new(CallStats::new(method::all().len())),
            };
            let versions = model
                .versions
                .iter()
                .filter_map(|(version, targets)| Some((version.as_str().into(), split(targets)?)));
            let versions = versions.collect();
            let split = split(&model.split);
            routes.models.insert(
                name.clone(),
                Model {
                    name,
                    stats,
                    split,
                    versions,
                    labels: model
                        .labels
                        .iter()
                        .map(|(label, version)| (label.as_str().into(), version.as_str().into()))
                        .collect(),
                    pass_through: model.pass_through,
                },
            );
        }
        let addresses = addresses.into_values().collect();
        State {
            routes,
            clusters,
            addresses,
        }
    }
}

/// References that the types cannot express.
fn check(config: &StateConfig) -> Result<(), String> {
    let mut clusters = rustc_hash::FxHashSet::default();
    for cluster in &config.clusters {
        if !clusters.insert(cluster.name.as_str()) {
            return Err(format!("cluster {} is there twice", cluster.name));
        }
        let mut addresses = rustc_hash::FxHashSet::default();
        if let Some(endpoint) = cluster
            .endpoints
            .iter()
            .find(|endpoint| !addresses.insert(endpoint.address.as_str()))
        {
            return Err(format!(
                "cluster {}: endpoint {} is there twice",
                cluster.name, endpoint.address
            ));
        }
    }
    if let Some(name) = config
        .default_cluster
        .as_deref()
        .filter(|name| !clusters.contains(name))
    {
        return Err(format!("default_cluster {name} is not a cluster"));
    }
    let mut models = rustc_hash::FxHashSet::default();
    for model in &config.models {
        if !models.insert(model.name.as_str()) {
            return Err(format!("model {} is there twice", model.name));
        }
        let mut targets = model.split.iter().chain(model.versions.values().flatten());
        if let Some(target) = targets.find(|target| !clusters.contains(target.cluster.as_str())) {
            return Err(format!(
                "model {}: {} is not a cluster",
                model.name, target.cluster
            ));
        }
        let mut labels = model.labels.keys();
        if let Some(label) =
            labels.find(|label| label.parse::<i64>().is_ok() || model.versions.contains_key(*label))
        {
            return Err(format!(
                "model {}: label {label} is a version, too",
                model.name
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(super) mod tests;
