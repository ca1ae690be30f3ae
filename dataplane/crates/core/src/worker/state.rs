//! What the front's thread, Python's threads and the admin port share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;

use super::codec::oip::shown;
use super::handle::METHODS;
use super::inference;
use super::message::Budget;
use super::queue::Queue;
use super::reply::Failure;
use crate::admin::grpc;
use crate::admin::health::{HealthSource, Serving, Version};
use crate::admin::metrics::{CallStats, ProcessStats};
use crate::admin::reflection::Reflection;
use crate::config::WorkerConfig;
use crate::error::ErrorKind;
use crate::grpc::status::Code;
use crate::net::drain::{Drain, Phase};

/// Full names of the model's services that reflection lists.
const SERVICES: [&str; 3] = [
    "seldon.protos.Model",
    "seldon.protos.Seldon",
    inference::SERVICE,
];

pub(super) struct Shared {
    pub config: WorkerConfig,
    pub queue: Arc<Queue>,
    pub drain: Drain,
    pub process: Arc<ProcessStats>,
    /// Calls by the index of their method in [`METHODS`]; one more for all others.
    pub calls: CallStats,
    pub connections: AtomicUsize,
    pub in_flight: AtomicUsize,
    /// Request bytes of the calls in flight.
    pub budget: Arc<Budget>,
    pub reflection: Arc<Reflection>,
    is_ready: AtomicBool,
    health_version: Version,
}

// === impl Shared ===

impl Shared {
    pub fn new(config: WorkerConfig, descriptors: &[u8]) -> Result<Self, String> {
        let services = [&SERVICES[..], &grpc::SERVICES].concat();
        let process = Arc::<ProcessStats>::default();
        Ok(Self {
            queue: Arc::new(Queue::new(config.max_queue)),
            drain: Drain::default(),
            calls: CallStats::new(METHODS.len() + 1),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            budget: Budget::new(config.limits.max_held_bytes, process.clone()),
            process,
            reflection: Arc::new(Reflection::new(descriptors, &services)?),
            is_ready: AtomicBool::new(false),
            health_version: Version::default(),
            config,
        })
    }

    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
        self.health_version.bump();
    }

    /// Count a failed call, by the error table's kinds; those of hooks are not in it.
    pub fn count(&self, failure: &Failure) {
        if let Some(&kind) = ErrorKind::ALL
            .iter()
            .find(|kind| kind.name() == failure.kind)
        {
            self.process.errors.add(kind);
        }
    }

    /// Check that a caller means this model and this version; an empty name or version leaves it to us.
    pub fn check_model(&self, name: &str, version: &str) -> Result<(), Failure> {
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
        Err(Failure::new(Code::NotFound, text, "model_not_found"))
    }

    /// What the model answers to.
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.config.model)
            .chain(&self.config.aliases)
            .map(String::as_str)
    }

    fn is_name(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    pub fn start_drain(&self) {
        self.drain.begin();
        self.health_version.bump();
    }
}

impl HealthSource for Shared {
    fn status(&self, service: &str) -> Option<Serving> {
        if !service.is_empty() && !self.is_name(service) {
            return None;
        }
        let is_serving = self.is_ready() && !self.is_draining();
        Some(if is_serving {
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
        self.health_version.subscribe()
    }

    fn is_draining(&self) -> bool {
        self.drain.phase() != Phase::Running
    }
}
