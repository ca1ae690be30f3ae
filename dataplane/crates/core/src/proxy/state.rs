//! What the whole process shares, the routing state that is swapped whole, and what one worker owns.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use rustc_hash::FxHashMap;

use super::access_log::AccessLog;
use super::address::Address;
use super::cluster::Cluster;
use super::method;
use super::pool::{Pool, Upstream};
use super::route::{Model, Routes, Split};
use super::settings::Settings;
use crate::call::limit::{HeldBytes, InFlight};
use crate::config::{ProxyConfig, SplitConfig, StateConfig};
use crate::local::health::Changes;
use crate::local::reflection::Reflection;
use crate::local::services::LocalServices;
use crate::net::drain::Phase;
use crate::net::server::Server;
use crate::stats::CallStats;

/// Shared by all threads of the process.
pub struct Shared {
    pub config: ProxyConfig,
    pub server: Arc<Server>,
    pub state: ArcSwap<State>,
    /// Calls that no configured model took.
    pub unrouted: Arc<CallStats>,
    pub in_flight: InFlight,
    pub held: Arc<HeldBytes>,
    /// Wakes those who watch the health of a model.
    pub health: Arc<Changes>,
    pub reflection: Arc<Reflection>,
    pub started: Instant,
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

/// A routing state as one worker shares it among its calls: the outer count is the worker's own, so that calls of
/// several workers do not pass one cache line to and fro.
pub type SeenState = Rc<Arc<State>>;

/// What a cluster of the new state will be: its settings, and its endpoints with their weights.
type Plan = (Settings, Vec<(Arc<Address>, u32)>);

/// What one worker thread owns.
pub struct Worker {
    pub shared: Arc<Shared>,
    pub pool: Pool,
    pub local: LocalServices,
    /// As this worker last saw it.
    state: RefCell<SeenState>,
}

// === impl Worker ===

impl Worker {
    pub fn new(shared: Arc<Shared>, local: LocalServices) -> Self {
        let worker = Self {
            pool: Pool::new(shared.config.clone()),
            local,
            state: RefCell::new(Rc::new(shared.state.load_full())),
            shared,
        };
        worker.state_changed();
        worker
    }

    /// The routing state in force, as long as the caller keeps it.
    pub fn state(&self) -> SeenState {
        let current = self.shared.state.load();
        let mut seen = self.state.borrow_mut();
        if !Arc::ptr_eq(&seen, &current) {
            *seen = Rc::new(Guard::into_inner(current));
        }
        seen.clone()
    }

    /// Connect to what the routing state names, and let the old one go.
    pub fn state_changed(&self) {
        self.pool.reconcile(&self.state().addresses);
    }

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
        let server = Arc::new(Server::new(config.limits.clone()));
        let stats = &server.stats;
        let held = HeldBytes::new(config.limits.max_held_bytes, stats.clone());
        let access_log = match &config.access_log {
            Some(path) => Some(AccessLog::open(path, stats.access_log_lost.clone())?),
            None => None,
        };
        Ok(Self {
            access_log,
            config,
            server,
            state: ArcSwap::default(),
            unrouted: Arc::new(CallStats::new(method::all().len())),
            in_flight: InFlight::default(),
            held: Arc::new(held),
            health: Arc::default(),
            reflection: Arc::new(reflection),
            started: Instant::now(),
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

    /// Whether calls are welcome: a state is applied, and nothing drains. One dead model does not count.
    ///
    /// # Errors
    /// Says why not.
    pub fn ready(&self) -> Result<(), String> {
        if self.server.drain.phase() != Phase::Running {
            return Err("draining".to_owned());
        }
        if self.applied.load(Ordering::Relaxed) == 0 {
            return Err("no routing state has been applied yet".to_owned());
        }
        Ok(())
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
pub(crate) mod tests;
