//! The pages of the model server's admin port.

use std::sync::atomic::Ordering;

use serde_json::{Map, json};

use super::handle::METHODS;
use super::state::Shared;
use crate::admin::health::HealthSource;
use crate::admin::http::AdminPages;
use crate::admin::metrics::{MetricsView, render};

impl AdminPages for Shared {
    fn metrics(&self) -> String {
        let methods: Vec<&str> = METHODS
            .iter()
            .map(|method| &method[1..])
            .chain([""])
            .collect();
        render(&MetricsView {
            version: env!("CARGO_PKG_VERSION"),
            process: &self.process,
            methods: &methods,
            models: vec![(&self.config.model, &self.calls)],
            clusters: Vec::new(),
            sources: Vec::new(),
            connections: self.connections.load(Ordering::Relaxed) as u64,
            held_bytes: self.budget.used() as u64,
            draining: self.is_draining(),
        })
    }

    fn status_json(&self) -> String {
        let mut calls = Map::new();
        for (method, counters) in self.calls.used() {
            let codes: Map<_, _> = counters
                .codes
                .used()
                .map(|(code, count)| (code.to_owned(), count.into()))
                .collect();
            let name = METHODS.get(method).map_or("", |method| &method[1..]);
            let seconds = &counters.seconds;
            let row = json!({"codes": codes, "p50_s": seconds.quantile(0.5), "p99_s": seconds.quantile(0.99)});
            calls.insert(name.to_owned(), row);
        }
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "model": self.config.model,
            "model_version": self.config.version,
            "ready": self.ready().is_ok(),
            "draining": self.is_draining(),
            "connections": self.connections.load(Ordering::Relaxed),
            "in_flight": self.in_flight.load(Ordering::Relaxed),
            "queued": self.queue.len(),
            "max_queue": self.config.max_queue,
            "calls": calls,
        })
        .to_string()
    }

    fn ready(&self) -> Result<(), String> {
        if self.is_draining() {
            return Err("draining".to_owned());
        }
        if !self.is_ready() {
            return Err("the model is not ready".to_owned());
        }
        Ok(())
    }
}
