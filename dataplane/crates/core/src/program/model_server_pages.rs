//! The pages of the model server's admin port.

use std::sync::Arc;

use serde_json::{Map, json};

use crate::admin::http::AdminPages;
use crate::admin::metrics::{Buckets, MetricsView, render};
use crate::local::health::HealthSource;
use crate::worker::method::Method;
use crate::worker::state::Shared;

/// The pages of one model server.
pub struct Pages(pub Arc<Shared>);

impl AdminPages for Pages {
    fn metrics(&self) -> String {
        let methods = Method::ALL.iter().map(|method| &method.path()[1..]);
        let methods: Vec<&str> = methods.chain([""]).collect();
        let own = render(&MetricsView {
            version: env!("CARGO_PKG_VERSION"),
            process: &self.0.server.stats,
            methods: &methods,
            models: vec![(&self.0.config.model, &self.0.calls)],
            stages: Some(&self.0.stages),
            left_in_queue: self.0.queue.left(),
            buckets: Buckets::nearest(&self.0.config.latency_buckets_ms),
            clusters: Vec::new(),
            sources: Vec::new(),
            shared_limits: None,
            limited: Vec::new(),
            quarantined: Vec::new(),
            loaded: Vec::new(),
            callers: Vec::new(),
            memory_budget: None,
            connections: self.0.server.limiter.count() as u64,
            held_bytes: self.0.held.bytes() as u64,
            draining: self.0.is_draining(),
            tls: self.0.server.secured().iter().map(|it| it.view()).collect(),
        });
        self.0.server.with_shown_metrics(own)
    }

    fn status_json(&self) -> String {
        let mut calls = Map::new();
        for (method, counters) in self.0.calls.used() {
            let codes: Map<_, _> = counters
                .codes
                .used()
                .map(|(code, count)| (code.to_owned(), count.into()))
                .collect();
            let name = Method::ALL
                .get(method)
                .map_or("", |method| &method.path()[1..]);
            let seconds = &counters.seconds;
            let row = json!({"codes": codes, "p50_s": seconds.quantile(0.5), "p99_s": seconds.quantile(0.99)});
            calls.insert(name.to_owned(), row);
        }
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "model": self.0.config.model,
            "model_version": self.0.config.version,
            "tls": self.0.server.secured().iter().map(|it| it.status()).collect::<Vec<_>>(),
            "ready": self.0.ready().is_ok(),
            "draining": self.0.is_draining(),
            "connections": self.0.server.limiter.count(),
            "in_flight": self.0.in_flight.count(),
            "queued": self.0.queue.len(),
            "max_queue": self.0.config.max_queue,
            "calls": calls,
        })
        .to_string()
    }

    fn ready(&self) -> Result<(), String> {
        self.0.ready()
    }
}
