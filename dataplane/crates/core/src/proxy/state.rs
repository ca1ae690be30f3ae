//! What the whole process shares, the routing state that is swapped whole.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustc_hash::FxHashMap;

use super::access_log::AccessLog;
use super::address::Address;
use super::cluster::Cluster;
use super::method;
use super::orders::Orders;
use super::pool::turns::Turns;
use super::recorder::Recorder;
use super::route::{Model, Routes};
use super::settings::Settings;
use super::split::Split;
use super::watch::Watch;
use crate::call::limit::{HeldBytes, InFlight};
use crate::callers::limits::{Limit, Whose};
use crate::callers::replays::Replays;
use crate::callers::{Callers, CallersConfig, Refusals};
use crate::config::{ModelConfig, ProxyConfig, SplitConfig, StateConfig, UpstreamTls};
use crate::local::health::Changes;
use crate::local::reflection::Reflection;
use crate::net::drain::Phase;
use crate::net::server::Server;
use crate::net::tls::Client;
use crate::spans::{Counts, Tracer};
use crate::stats::CallStats;

mod check;
mod shares;

use check::check;
pub use shares::Part;

/// Shared by all threads of the process.
pub struct Shared {
    pub config: ProxyConfig,
    pub server: Arc<Server>,
    pub state: ArcSwap<State>,
    /// Who may call; none where everybody may.
    pub callers: ArcSwapOption<Callers>,
    /// What the operator has not been told yet of calls that are nobody's.
    pub refusals: Refusals,
    /// Signed requests that have come.
    pub replays: Replays,
    /// Calls that no configured model took.
    pub unrouted: Arc<CallStats>,
    pub in_flight: InFlight,
    pub held: Arc<HeldBytes>,
    /// Bytes of answers whose callers do not take them.
    pub unread: Arc<HeldBytes>,
    /// Bytes of requests that endpoints do not take.
    pub unsent: Arc<HeldBytes>,
    /// Wakes those who watch the health of a model.
    pub health: Arc<Changes>,
    pub reflection: Arc<Reflection>,
    pub started: Instant,
    /// When to try addresses again that are dead.
    pub turns: Arc<Turns>,
    /// Gives each worker its number.
    pub workers_started: AtomicUsize,
    /// What the operator has been told of endpoints.
    pub watch: Watch,
    pub access_log: Option<Arc<AccessLog>>,
    pub tracer: Option<Arc<Tracer>>,
    pub recorder: Recorder,
    /// What callers ask of the control plane.
    pub orders: Orders,
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
    /// The TLS of clusters that have it; those with the same files share one.
    pub clients: Vec<Arc<Client>>,
}

impl State {
    /// The TLS of a cluster, if it has it.
    pub fn client(&self, cluster: &Cluster) -> Option<&Client> {
        let tls = cluster.tls()?;
        let found = self.clients.iter().find(|it| it.is_for(&tls));
        found.map(|it| &**it)
    }
}

/// What a cluster of the new state will be: its settings, and its endpoints with their weights.
type Plan = (Settings, Vec<(Arc<Address>, u32)>);

// === impl Shared ===

impl Shared {
    /// # Errors
    /// The access log cannot be opened.
    pub fn new(config: ProxyConfig, reflection: Reflection) -> io::Result<Self> {
        let server = Arc::new(Server::new(config.limits.clone()));
        let stats = &server.stats;
        let held = HeldBytes::new(config.limits.max_held_bytes, stats.clone());
        let unread = HeldBytes::new(config.upstream.max_unread_bytes, stats.clone());
        // Of their own, so that endpoints that take nothing cost callers that take nothing no answer.
        let unsent = HeldBytes::new(config.upstream.max_unread_bytes, stats.clone());
        let access_log = match &config.access_log {
            Some(path) => {
                let log = AccessLog::open(path, stats.access_log_lost.clone())?;
                Some(Arc::new(log))
            }
            None => None,
        };
        let counts = Counts {
            sent: stats.spans_sent.clone(),
            lost: stats.spans_lost.clone(),
        };
        let tracer = config.tracing.as_ref();
        let tracer = tracer.map(|tracing| Tracer::start(tracing, counts));
        let tracer = tracer.transpose().map_err(io::Error::other)?;
        Ok(Self {
            tracer: tracer.map(Arc::new),
            access_log,
            recorder: Recorder::default(),
            orders: Orders::default(),
            config,
            server,
            state: ArcSwap::default(),
            callers: ArcSwapOption::default(),
            refusals: Refusals::default(),
            replays: Replays::default(),
            unrouted: Arc::new(CallStats::new(method::all().len())),
            in_flight: InFlight::default(),
            held: Arc::new(held),
            unread: Arc::new(unread),
            unsent: Arc::new(unsent),
            health: Arc::default(),
            reflection: Arc::new(reflection),
            started: Instant::now(),
            turns: Arc::new(Turns::new(Instant::now().into())),
            workers_started: AtomicUsize::new(0),
            watch: Watch::default(),
            control_status: Mutex::default(),
            applied: AtomicU64::new(0),
            applying: Mutex::new(()),
        })
    }

    pub fn control_status(&self) -> serde_json::Value {
        self.with_control_status(Clone::clone)
    }

    /// Look at what the control plane says without a copy.
    pub fn with_control_status<T>(&self, look: impl FnOnce(&serde_json::Value) -> T) -> T {
        let status = self.control_status.lock();
        look(&status.unwrap_or_else(PoisonError::into_inner))
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

    /// Let these callers in, and nobody else; what they have counted so far stays.
    ///
    /// # Errors
    /// Names what is wrong; those before stay.
    pub fn set_callers(&self, config: &CallersConfig) -> Result<(), String> {
        let _one_at_a_time = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.callers.load_full();
        let callers = Callers::new(config, old.as_deref())?;
        self.callers.store(Some(Arc::new(callers)));
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
        let mut known: FxHashMap<(&str, Option<&UpstreamTls>), Arc<Address>> = old
            .addresses
            .iter()
            .map(|address| ((&*address.text, address.tls()), address.clone()))
            .collect();
        let mut clients = Vec::new();
        let mut plans = Vec::with_capacity(config.clusters.len());
        for cluster in &config.clusters {
            let tls = cluster.tls.as_ref();
            let client = tls.map(|tls| client(&cluster.name, tls, &old.clients, &mut clients));
            let client = client.transpose()?;
            let mut endpoints = Vec::with_capacity(cluster.endpoints.len());
            for endpoint in &cluster.endpoints {
                // A unix socket is without TLS, in whatever cluster it is.
                let tls = tls.filter(|_| !endpoint.address.starts_with("unix:"));
                let key = (endpoint.address.as_str(), tls);
                let address = match known.get(&key) {
                    Some(address) => address.clone(),
                    None => {
                        let address = Address::new(&endpoint.address);
                        let address = match (&client, tls) {
                            (Some(client), Some(tls)) => {
                                address.and_then(|it| it.with_tls(client, tls))
                            }
                            _ => address,
                        };
                        Arc::new(address.map_err(|e| format!("cluster {}: {e}", cluster.name))?)
                    }
                };
                known.insert(key, address.clone());
                endpoints.push((address, endpoint.weight));
            }
            plans.push((Settings::new(cluster)?, endpoints));
        }
        let mut state = self.build(config, &old, plans);
        state.clients = clients;
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
        let limits = limits(config, old);
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
                    alias_of: model.alias_of.as_deref().map(Into::into),
                    stats,
                    split,
                    versions,
                    labels: model
                        .labels
                        .iter()
                        .map(|(label, version)| (label.as_str().into(), version.as_str().into()))
                        .collect(),
                    pass_through: model.pass_through,
                    limit: limits.get(own_name(model)).cloned(),
                },
            );
        }
        let addresses = addresses.into_values().collect();
        State {
            routes,
            clusters,
            addresses,
            clients: Vec::new(),
        }
    }
}

/// The limits of each model that has some, by its own name; what was taken of those before stays taken.
fn limits<'a>(config: &'a StateConfig, old: &State) -> FxHashMap<&'a str, Arc<Limit>> {
    let now = Instant::now();
    let own = config.models.iter().filter(|it| it.alias_of.is_none());
    own.filter_map(|model| {
        let given = model.limits.as_ref()?;
        let name = model.name.as_str();
        let before = old.routes.models.get(name);
        let before = before.and_then(|model| model.limit.as_deref());
        let whose = Whose {
            caller: None,
            model: Some(name.into()),
        };
        Some((name, Arc::new(Limit::new(whose, given, before, now))))
    })
    .collect()
}

/// Not one of its further names.
fn own_name(model: &ModelConfig) -> &str {
    model.alias_of.as_deref().unwrap_or(&model.name)
}

/// The TLS of a cluster: one that is there already, or a new one.
fn client(
    cluster: &str,
    tls: &UpstreamTls,
    old: &[Arc<Client>],
    clients: &mut Vec<Arc<Client>>,
) -> Result<Arc<Client>, String> {
    if let Some(known) = clients.iter().find(|it| it.is_for(tls)) {
        return Ok(known.clone());
    }
    let client = match old.iter().find(|it| it.is_for(tls)) {
        Some(kept) => kept.clone(),
        None => Arc::new(Client::start(cluster, tls)?),
    };
    clients.push(client.clone());
    Ok(client)
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(crate) mod tests;
