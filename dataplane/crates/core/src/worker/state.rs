//! What the front's thread, Python's threads and the admin port share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;

use super::handle::METHODS;
use super::message::Budget;
use super::queue::Queue;
use super::reply::Failure;
use crate::admin::grpc;
use crate::admin::health::{HealthSource, Serving, Version};
use crate::admin::metrics::{CallStats, ProcessStats};
use crate::admin::reflection::Reflection;
use crate::config::WorkerConfig;
use crate::error::ErrorKind;
use crate::net::drain::{Drain, Phase};

/// Full names of the services that reflection lists.
const SELDON_SERVICES: [&str; 2] = ["seldon.protos.Model", "seldon.protos.Seldon"];

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
        let services = [&SELDON_SERVICES[..], &grpc::SERVICES].concat();
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

    pub fn start_drain(&self) {
        self.drain.advance(Phase::Draining);
        self.health_version.bump();
    }
}

impl HealthSource for Shared {
    fn status(&self, service: &str) -> Option<Serving> {
        if !service.is_empty() && service != self.config.model {
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
        let names = [String::new(), self.config.model.clone()];
        names
            .into_iter()
            .filter_map(|name| self.status(&name).map(|serving| (name, serving)))
            .collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.health_version.subscribe()
    }

    fn is_draining(&self) -> bool {
        self.drain.phase() != Phase::Running
    }
}
