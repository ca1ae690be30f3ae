//! What all listeners, workers and connections of a process share.

use std::sync::{Arc, OnceLock};

use super::drain::Drain;
use super::limits::ConnectionLimiter;
use super::strangers::Strangers;
use crate::config::Limits;
use crate::stats::ProcessStats;

pub struct Server {
    pub limits: Limits,
    pub drain: Drain,
    pub stats: Arc<ProcessStats>,
    pub limiter: ConnectionLimiter,
    /// Callers of other protocols.
    pub strangers: Strangers,
    /// Address of the admin port, once it is bound.
    pub admin: OnceLock<String>,
}

impl Server {
    pub fn new(limits: Limits) -> Self {
        Self {
            drain: Drain::default(),
            stats: Arc::default(),
            limiter: ConnectionLimiter::new(limits.max_connections, limits.max_connections_per_ip),
            strangers: Strangers::default(),
            admin: OnceLock::new(),
            limits,
        }
    }
}
