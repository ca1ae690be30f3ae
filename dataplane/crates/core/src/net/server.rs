//! What all listeners, workers and connections of a process share.

use std::sync::Arc;

use super::drain::Drain;
use super::limits::ConnectionLimiter;
use crate::config::Limits;
use crate::stats::ProcessStats;

pub struct Server {
    pub limits: Limits,
    pub drain: Drain,
    pub stats: Arc<ProcessStats>,
    pub limiter: ConnectionLimiter,
}

impl Server {
    pub fn new(limits: Limits) -> Self {
        Self {
            drain: Drain::default(),
            stats: Arc::default(),
            limiter: ConnectionLimiter::new(limits.max_connections, limits.max_connections_per_ip),
            limits,
        }
    }
}
