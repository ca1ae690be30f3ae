//! The pages of the admin port: /status as JSON, /metrics, and whether the proxy is ready.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::method;
use super::route::{Model, Split};
use super::state::Shared;
use crate::admin::metrics::{CallStats, ClusterView, EndpointView, Histogram, MetricsView, render};
use crate::grpc::status::Code;
use crate::net::drain::Phase;

impl Shared {
    /// Whether calls are welcome: a state is applied, and nothing drains. One dead model does not count.
    ///
    /// # Errors
    /// Says why not.
    pub fn ready(&self) -> Result<(), String> {
        if self.drain.phase() != Phase::Running {
            return Err("draining".to_owned());
        }
        if self.applied.load(Ordering::Relaxed) == 0 {
            return Err("no routing state has been applied yet".to_owned());
        }
        Ok(())
    }
}

/// The page of /metrics.
pub fn metrics(shared: &Shared) -> String {
    let state = shared.state.load_full();
    let methods: Vec<&str> = method::all()
        .iter()
        .map(|method| method.path.trim_start_matches('/'))
        .collect();
    let weights: Vec<_> = state
        .clusters
        .iter()
        .map(|cluster| cluster.weights())
        .collect();
    let clusters = state
        .clusters
        .iter()
        .zip(&weights)
        .map(|(cluster, endpoints)| ClusterView {
            name: &cluster.name,
            stats: &cluster.stats,
            retry_budget_tokens: cluster.budget.tokens(),
            endpoints: endpoints
                .iter()
                .map(|(endpoint, _, effective_weight)| EndpointView {
                    address: &endpoint.address.text,
                    stats: &endpoint.stats,
                    effective_weight: *effective_weight,
                    live: endpoint.address.is_live(),
                })
                .collect(),
        });
    let mut models: Vec<(&str, &CallStats)> = state
        .routes
        .models
        .values()
        .map(|model| (&*model.name, &*model.stats))
        .collect();
    models.sort_unstable_by_key(|(name, _)| *name);
    models.push(("", &shared.unrouted));
    render(&MetricsView {
        version: env!("CARGO_PKG_VERSION"),
        process: &shared.stats,
        methods: &methods,
        models,
        clusters: clusters.collect(),
        connections: shared.connections.load(Ordering::Relaxed) as u64,
        held_bytes: shared.held.bytes() as u64,
        draining: shared.drain.phase() != Phase::Running,
    })
}

/// The page of /status.
pub fn json(shared: &Shared) -> String {
    let state = shared.state.load_full();
    let mut models: Vec<_> = state.routes.models.values().collect();
    models.sort_unstable_by_key(|model| &model.name);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": shared.ready().is_ok(),
        "draining": shared.drain.phase() != Phase::Running,
        "uptime_s": shared.started.elapsed().as_secs(),
        "states_applied": shared.applied.load(Ordering::Relaxed),
        "connections": shared.connections.load(Ordering::Relaxed),
        "in_flight": shared.in_flight.count(),
        "held_bytes": shared.held.bytes(),
        "models": models.into_iter().map(model).collect::<Vec<_>>(),
        "clusters": state.clusters.iter().map(|it| cluster(it)).collect::<Vec<_>>(),
        "default_cluster": state.routes.default.as_ref().map(|cluster| &*cluster.name),
        "errors": shared.stats.errors.used().collect::<std::collections::BTreeMap<_, _>>(),
        "control": shared.control_status(),
    })
    .to_string()
}

fn model(model: &Model) -> Value {
    let (mut requests, mut errors) = (0, 0);
    let total = Histogram::default();
    let mut snapshot = total.snapshot();
    for (_, counters) in model.stats.used() {
        // The good ones first: calls go on ending while this reads, and fewer in all than good is not to be.
        let good = counters.codes.get(Code::Ok);
        let all = counters.codes.total();
        requests += all;
        errors += all - good;
        snapshot.add(&counters.seconds.snapshot());
    }
    let versions: serde_json::Map<_, _> = model
        .versions
        .iter()
        .map(|(version, targets)| (version.to_string(), split(targets)))
        .collect();
    json!({
        "name": model.name,
        "split": model.split.as_ref().map(split),
        "versions": versions,
        "requests": requests,
        "errors": errors,
        "p50_ms": milliseconds(snapshot.quantile(0.5)),
        "p99_ms": milliseconds(snapshot.quantile(0.99)),
    })
}

fn split(split: &Split) -> Value {
    split
        .targets()
        .map(|(cluster, weight)| json!({"cluster": cluster.name, "weight": weight}))
        .collect()
}

fn cluster(cluster: &Cluster) -> Value {
    let endpoints: Vec<_> = cluster
        .weights()
        .into_iter()
        .map(|(endpoint, weight, effective_weight)| {
            let stats = &endpoint.stats;
            let good = stats.codes.get(Code::Ok);
            let requests = stats.codes.total();
            json!({
                "address": endpoint.address.text,
                "weight": weight,
                "effective_weight": f64::from(effective_weight) / 256.0,
                "live": endpoint.address.is_live(),
                "in_flight": stats.in_flight.load(Ordering::Relaxed),
                "requests": requests,
                "errors": requests - good,
                "p50_ms": milliseconds(stats.seconds.quantile(0.5)),
                "p99_ms": milliseconds(stats.seconds.quantile(0.99)),
            })
        })
        .collect();
    json!({
        "name": cluster.name,
        "policy": cluster.policy(),
        "retry_tokens": cluster.budget.tokens(),
        "in_flight": cluster.in_flight.count(),
        "endpoints": endpoints,
    })
}

/// Seconds to milliseconds with microsecond digits; null without samples.
fn milliseconds(seconds: Option<f64>) -> Option<f64> {
    seconds.map(|seconds| (seconds * 1e6).round() / 1e3)
}
