//! What the front's thread, Python's threads and the admin port share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::codec::oip::shown;
use super::meter::Meter;
use super::method::Method;
use super::outbox::Outbox;
use super::queue::Queue;
use super::tuner::Batching;
use crate::call::limit::{HeldBytes, InFlight};
use crate::call::task_id::task_id_of;
use crate::config::WorkerConfig;
use crate::error::{Error, ErrorKind};
use crate::local::health::{Changes, HealthSource, Serving};
use crate::local::oip::{self, Inventory, ModelIndex};
use crate::local::reflection::Reflection;
use crate::local::services;
use crate::net::drain::Phase;
use crate::net::server::Server;
use crate::spans::{Counts, Tracer};
use crate::stats::{CallStats, StageStats};

/// Full names of the model's services that reflection lists.
const SERVICES: [&str; 4] = [
    "seldon.protos.Model",
    "seldon.protos.Seldon",
    oip::SERVICE,
    "tensorflow.serving.ModelService",
];

pub struct Shared {
    pub config: WorkerConfig,
    pub server: Arc<Server>,
    pub queue: Arc<Queue>,
    pub outbox: Arc<Outbox>,
    /// Calls by the number of their method; one more for all others.
    pub calls: CallStats,
    /// Where their time goes; the queue is recorded when Python takes a call.
    pub stages: StageStats,
    /// What load reports say.
    pub meter: Meter,
    pub in_flight: InFlight,
    /// Request bytes of the calls in flight.
    pub held: Arc<HeldBytes>,
    pub reflection: Arc<Reflection>,
    pub tracer: Option<Arc<Tracer>>,
    is_ready: AtomicBool,
    health: Changes,
}

// === impl Shared ===

impl Shared {
    pub fn new(config: WorkerConfig, descriptors: &[u8]) -> Result<Self, String> {
        let services = [&SERVICES[..], &services::SERVICES].concat();
        let server = Arc::new(Server::new(config.limits.clone()));
        let held = HeldBytes::new(config.limits.max_held_bytes, server.stats.clone());
        let counts = Counts {
            sent: server.stats.spans_sent.clone(),
            lost: server.stats.spans_lost.clone(),
        };
        let tracer = config.tracing.as_ref();
        let tracer = tracer.map(|tracing| Tracer::start(tracing, counts));
        Ok(Self {
            tracer: tracer.transpose()?.map(Arc::new),
            queue: Arc::new(Queue::new(config.max_queue, batching(&config))),
            outbox: Arc::default(),
            stages: StageStats::default(),
            calls: CallStats::new(Method::ALL.len() + 1),
            meter: Meter::new(Instant::now()),
            in_flight: InFlight::default(),
            held: Arc::new(held),
            reflection: Arc::new(Reflection::new(descriptors, &services)?),
            is_ready: AtomicBool::new(false),
            health: Changes::default(),
            server,
            config,
        })
    }

    /// Whether the model may be called.
    ///
    /// # Errors
    /// Says why not.
    pub fn ready(&self) -> Result<(), String> {
        if self.is_draining() {
            return Err("draining".to_owned());
        }
        if !self.is_ready() {
            return Err("the model is not ready".to_owned());
        }
        let limit = self.config.hang_timeout_ms;
        if limit > 0 && self.meter.stuck_for(Instant::now()) > Duration::from_millis(limit) {
            return Err(format!(
                "the model's code is stuck: no answer for {limit} ms (hang_timeout_ms)"
            ));
        }
        Ok(())
    }

    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
        self.health.bump();
    }

    /// Check that a caller means this model and this version; an empty name or version leaves it to us.
    ///
    /// # Errors
    /// `model_not_found`.
    pub fn check_model(&self, name: &str, version: &str) -> Result<(), Error> {
        let config = &self.config;
        let text = if !name.is_empty() && !self.is_name(name) {
            let names: Vec<_> = self.names().collect();
            format!(
                "there is no model {} here: this model server serves {}",
                shown(name),
                names.join(", ")
            )
        } else if !version.is_empty()
            && version != config.version
            && !config.labels.iter().any(|label| label == version)
        {
            format!(
                "model {} has no version {} here: this model server serves version {}",
                config.model,
                shown(version),
                config.version
            )
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::ModelNotFound, text))
    }

    /// What the model answers to.
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.config.model)
            .chain(&self.config.aliases)
            .map(String::as_str)
    }

    /// Whether a name is the model's: one of its names, or one that ends in a task id that is one. The access service
    /// routes `textcnn-69` by the 69 in it, and passes the name on.
    fn is_name(&self, name: &str) -> bool {
        let is = |name: &str| self.names().any(|known| known == name);
        is(name) || task_id_of(name).is_some_and(|id| is(&id))
    }

    pub fn start_drain(&self) {
        self.server.drain.begin();
        self.health.bump();
    }
}

fn batching(config: &WorkerConfig) -> Batching {
    let batching = &config.batching;
    Batching {
        joins: batching.joins,
        max_rows: batching.max_rows,
        max_delay: batching.max_delay_ms.map(Duration::from_millis),
    }
}

impl HealthSource for Shared {
    fn status(&self, service: &str) -> Option<Serving> {
        if !service.is_empty() && !self.is_name(service) {
            return None;
        }
        Some(if self.ready().is_ok() {
            Serving::Serving
        } else {
            Serving::NotServing
        })
    }

    fn list(&self) -> Vec<(String, Serving)> {
        std::iter::once("")
            .chain(self.names())
            .filter_map(|name| self.status(name).map(|serving| (name.to_owned(), serving)))
            .collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.health.subscribe()
    }

    fn is_draining(&self) -> bool {
        self.server.drain.phase() != Phase::Running
    }
}

impl Inventory for Shared {
    fn is_ready(&self) -> bool {
        self.ready().is_ok()
    }

    fn models(&self) -> Vec<ModelIndex> {
        let reason = self.ready().err();
        let (name, version) = (&self.config.model, &self.config.version);
        vec![oip::entry(name, version, reason.as_deref())]
    }
}
