//! What all listeners, workers and connections of a process share.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
    /// Callers that want TLS.
    pub strangers: Strangers,
    /// Address of the admin port, once it is bound.
    pub admin: OnceLock<String>,
    /// Metrics of models' own code, in Prometheus' text format.
    shown_metrics: Mutex<String>,
}

impl Server {
    pub fn new(limits: Limits) -> Self {
        Self {
            drain: Drain::default(),
            stats: Arc::default(),
            limiter: ConnectionLimiter::new(limits.max_connections, limits.max_connections_per_ip),
            strangers: Strangers::default(),
            admin: OnceLock::new(),
            shown_metrics: Mutex::default(),
            limits,
        }
    }

    /// Replace the metrics that Python has rendered.
    pub fn show_metrics(&self, text: String) {
        *self
            .shown_metrics
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// A page of metrics with those behind it.
    pub fn with_shown_metrics(&self, mut page: String) -> String {
        let shown = &self.shown_metrics;
        page.push_str(&shown.lock().unwrap_or_else(PoisonError::into_inner));
        page
    }
}
