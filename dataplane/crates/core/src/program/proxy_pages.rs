//! The pages of the access service's admin port.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::admin::metrics::{
    Buckets, ClusterView, EndpointView, LimitedView, LoadedView, MetricsView, QuarantineView,
    SharedLimitsView, SourceView, render,
};
use crate::balance::{Health, Nanos, Reason, State, View};
use crate::callers::Callers;
use crate::callers::limits::{Limit, Of};
use crate::code::Code;
use crate::net::drain::Phase;
use crate::net::tls::{Client, TlsView};
use crate::proxy::cluster::Cluster;
use crate::proxy::method;
use crate::proxy::route::Model;
use crate::proxy::split::Split;
use crate::proxy::state::{self, Shared};
use crate::stats::{CallStats, Histogram};

/// No caller's name.
const OTHERS: &str = "(others)";

/// A line for each discovery source that cannot be read: the age, `now`, of its last good state.
pub fn remarks(shared: &Shared, now: SystemTime) -> Vec<String> {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .as_ref()
        .map_or(0.0, Duration::as_secs_f64);
    sources(&shared.control_status())
        .into_iter()
        .filter(|source| !source.is_ok)
        .map(|source| {
            let name = source.name.replace(char::is_control, " ");
            match source.last_good_unix_s {
                Some(time) => {
                    let age = (now - time).max(0.0);
                    format!("source {name} cannot be read: its last good state is {age:.0} s old")
                }
                None => {
                    format!("source {name} has never been read: its `fallback` is used")
                }
            }
        })
        .collect()
}

/// The discovery sources in what the control plane says. Of a name that appears twice the worse is shown.
fn sources(control: &Value) -> Vec<SourceView> {
    let mut sources: BTreeMap<&str, SourceView> = BTreeMap::new();
    let rows = control["sources"].as_array().into_iter().flatten();
    for row in rows {
        let Some(name) = row["name"].as_str() else {
            continue;
        };
        let source = SourceView {
            name: name.to_owned(),
            is_ok: row["ok"] == true,
            last_good_unix_s: row["last_good_unix_s"].as_f64().filter(|time| *time > 0.0),
            skipped: row["skipped"].as_u64().unwrap_or(0),
        };
        let known = sources.entry(name).or_insert_with(|| source.clone());
        known.is_ok &= source.is_ok;
        known.skipped = known.skipped.max(source.skipped);
        known.last_good_unix_s = match (known.last_good_unix_s, source.last_good_unix_s) {
            (Some(one), Some(other)) => Some(one.min(other)),
            _ => None,
        };
    }
    sources.into_values().collect()
}

/// The sharing of limits in what the control plane says.
fn shared_limits(control: &Value) -> Option<SharedLimitsView> {
    let sharing = control["shared_limits"].as_object()?;
    Some(SharedLimitsView {
        is_ok: sharing["ok"] == true,
        instances: sharing["instances"].as_u64().unwrap_or_default(),
    })
}

/// The versions of model folders that are kept from calls, in what the control plane says.
fn quarantined(control: &Value) -> Vec<QuarantineView> {
    let folders = control["folders"].as_array().into_iter().flatten();
    let found: BTreeSet<_> = folders
        .flat_map(|folder| {
            let rows = folder["quarantined"].as_array().into_iter().flatten();
            rows.map(|row| QuarantineView {
                model: folder["name"].as_str().unwrap_or_default().to_owned(),
                version: row["version"]
                    .as_u64()
                    .map(|number| number.to_string())
                    .unwrap_or_default(),
                step: row["step"].as_str().unwrap_or_default().to_owned(),
            })
        })
        .collect();
    found.into_iter().collect()
}

/// What was loaded and unloaded, in what the control plane says.
fn loaded(control: &Value) -> Vec<LoadedView> {
    let folders = control["folders"].as_array().into_iter().flatten();
    folders
        .map(|folder| LoadedView {
            model: folder["name"].as_str().unwrap_or_default().to_owned(),
            loads: folder["loads"].as_u64().unwrap_or_default(),
            unloads: folder["unloads"].as_u64().unwrap_or_default(),
            memory_bytes: folder["memory_bytes"].as_u64().unwrap_or_default(),
        })
        .collect()
}

/// What the limits of models have refused, under their own names, and those of callers that have series of their own.
fn limited<'a>(state: &'a state::State, callers: Option<&'a Callers>) -> Vec<LimitedView<'a>> {
    let mut models: Vec<_> = state.routes.models.values().collect();
    models.retain(|model| model.alias_of.is_none());
    models.sort_unstable_by_key(|model| &model.name);
    let limits = models.into_iter().filter_map(|it| it.limit.as_deref());
    let callers = callers.into_iter().flat_map(Callers::all);
    let callers = callers.filter(|it| it.counts.has_own_series);
    let of_callers = callers.flat_map(|it| it.limit.iter().chain(it.at_models.values()));
    limits
        .chain(of_callers.map(AsRef::as_ref))
        .flat_map(|limit| {
            limit.refused().map(|(of, count)| LimitedView {
                caller: limit.whose.caller.as_deref().unwrap_or_default(),
                model: limit.whose.model.as_deref().unwrap_or_default(),
                limit: of.name(),
                count,
            })
        })
        .collect()
}

/// The page of /metrics.
pub fn metrics(shared: &Shared) -> String {
    let control = shared.control_status();
    let state = shared.state.load_full();
    let callers = shared.callers.load_full();
    let methods: Vec<&str> = method::all()
        .iter()
        .map(|method| method.path.trim_start_matches('/'))
        .collect();
    let weights: Vec<_> = state
        .clusters
        .iter()
        .map(|cluster| cluster.endpoints())
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
                .map(|(endpoint, _, view)| EndpointView {
                    address: &endpoint.address.text,
                    stats: &endpoint.stats,
                    effective_weight: view.effective_weight,
                    pick_weight: view.pick_weight,
                    live: endpoint.address.is_live(),
                    health: Health::ALL.map(|each| (each.name(), each == view.health)),
                    ejected: view.state != State::Warm,
                    ejections: view.ejections,
                    latency_s: view.latency.map(|time| time as f64 / 1e9),
                    in_flight: view.in_flight,
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
        process: &shared.server.stats,
        methods: &methods,
        models,
        stages: None,
        left_in_queue: 0,
        buckets: Buckets::nearest(&shared.config.latency_buckets_ms),
        clusters: clusters.collect(),
        limited: limited(&state, callers.as_deref()),
        sources: sources(&control),
        shared_limits: shared_limits(&control),
        quarantined: quarantined(&control),
        loaded: loaded(&control),
        callers: callers.as_deref().map(callers_view).unwrap_or_default(),
        memory_budget: control["memory_budget"].as_u64(),
        connections: shared.server.limiter.count() as u64,
        held_bytes: shared.held.bytes() as u64,
        draining: shared.server.drain.phase() != Phase::Running,
        tls: tls(shared, &state),
    })
}

/// How callers' calls ended; those beyond a number share one series.
fn callers_view(callers: &Callers) -> Vec<(&str, Vec<(&'static str, u64)>)> {
    let mut others: BTreeMap<&str, u64> = BTreeMap::new();
    let mut own = Vec::new();
    for caller in callers.all() {
        if caller.counts.has_own_series {
            own.push((&*caller.name, caller.counts.codes.used().collect()));
            continue;
        }
        for (code, count) in caller.counts.codes.used() {
            *others.entry(code).or_default() += count;
        }
    }
    own.push((OTHERS, others.into_iter().collect()));
    own
}

/// TLS of the ports, and of the clusters.
fn tls(shared: &Shared, state: &state::State) -> Vec<TlsView> {
    let secured = shared.server.secured();
    let ports = secured.iter().map(|it| it.view());
    let clusters = state.clusters.iter();
    let clusters = clusters.filter_map(|it| Some(state.client(it)?.view(&it.name)));
    ports.chain(clusters).collect()
}

/// The page of /status.
pub fn json(shared: &Shared) -> String {
    let state = shared.state.load_full();
    let mut models: Vec<_> = state.routes.models.values().collect();
    models.sort_unstable_by_key(|model| &model.name);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": shared.ready().is_ok(),
        "draining": shared.server.drain.phase() != Phase::Running,
        "draining_since_unix_s": shared.server.drain.began().and_then(unix_s),
        "uptime_s": shared.started.elapsed().as_secs(),
        "states_applied": shared.applied.load(Ordering::Relaxed),
        "connections": shared.server.limiter.count(),
        "in_flight": shared.in_flight.count(),
        "held_bytes": shared.held.bytes(),
        "unread_bytes": shared.unread.bytes(),
        "unsent_bytes": shared.unsent.bytes(),
        "models": models.into_iter().map(model).collect::<Vec<_>>(),
        "clusters": state.clusters.iter().map(|it| cluster(it, state.client(it))).collect::<Vec<_>>(),
        "default_cluster": state.routes.default.as_ref().map(|cluster| &*cluster.name),
        "errors": shared.server.stats.errors.used().collect::<BTreeMap<_, _>>(),
        "tls": shared.server.secured().iter().map(|it| it.status()).collect::<Vec<_>>(),
        "control": shared.control_status(),
    })
    .to_string()
}

/// Whole milliseconds, as the control plane's times.
fn unix_s(at: SystemTime) -> Option<f64> {
    let since_1970 = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some((since_1970.as_secs_f64() * 1e3).round() / 1e3)
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
        "split": model.split.as_deref().map(split),
        "versions": versions,
        "labels": model.labels,
        "pass_through": model.pass_through,
        "limits": model.limit.as_deref().map(limit),
        "requests": requests,
        "errors": errors,
        "p50_ms": milliseconds(snapshot.quantile(0.5)),
        "p99_ms": milliseconds(snapshot.quantile(0.99)),
    })
}

fn limit(limit: &Limit) -> Value {
    let config = &limit.config;
    json!({
        "requests_per_s": config.requests_per_s,
        "burst": config.requests_per_s.map(|_| config.burst),
        "in_flight": config.in_flight,
        "bytes_per_s": config.bytes_per_s,
        "instances": config.instances,
        "shares": shares(limit),
        "in_flight_now": limit.in_flight(),
        "refused": limit.refused().map(|(of, count)| (of.name(), count)).collect::<BTreeMap<_, _>>(),
    })
}

/// The parts that are allowed here, of the limits that are set.
fn shares(limit: &Limit) -> BTreeMap<&'static str, f64> {
    let set = Of::ALL.into_iter().filter(|of| limit.has(*of));
    set.map(|of| (of.name(), (limit.part(of) * 1e4).round() / 1e4))
        .collect()
}

fn split(split: &Split) -> Value {
    split
        .targets()
        .map(|(cluster, weight)| json!({"cluster": cluster.name, "weight": weight}))
        .collect()
}

fn cluster(cluster: &Cluster, client: Option<&Client>) -> Value {
    let now = cluster.now();
    let endpoints: Vec<_> = cluster
        .endpoints()
        .into_iter()
        .map(|(endpoint, weight, view)| {
            let stats = &endpoint.stats;
            let good = stats.codes.get(Code::Ok);
            let requests = stats.codes.total();
            let (since, why) = endpoint.address.down().unzip();
            let since = since.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
            json!({
                "address": endpoint.address.text,
                "weight": weight,
                "effective_weight": f64::from(view.effective_weight) / 256.0,
                "pick_weight": f64::from(view.pick_weight) / 256.0,
                "live": endpoint.address.is_live(),
                "down_since_unix_s": since.map(|time| time.as_secs()),
                "down_reason": why,
                "health": view.health.name(),
                "state": state_text(&view, now),
                "last_ejection": view.last_ejection.map(|it| ejection(it, now)),
                "ejections": view.ejections,
                "latency_ms": milliseconds(view.latency.map(|time| time as f64 / 1e9)),
                "in_flight": view.in_flight,
                "requests": requests,
                "errors": requests - good,
                "p50_ms": milliseconds(stats.seconds.quantile(0.5)),
                "p99_ms": milliseconds(stats.seconds.quantile(0.99)),
                "utilization": stats.load.utilization(),
            })
        })
        .collect();
    json!({
        "name": cluster.name,
        "policy": cluster.policy(),
        "retry_tokens": cluster.budget.tokens(),
        "in_flight": cluster.in_flight.count(),
        "tls": client.map(Client::status),
        "endpoints": endpoints,
    })
}

/// Whether the balancer gives the endpoint calls, and if not, until when.
fn state_text(view: &View, now: Nanos) -> String {
    match view.state {
        State::Ejected { until } => format!("ejected for {:.1} s", seconds(now, until)),
        State::HalfOpen { .. } => "half-open".to_owned(),
        State::Warm => "warm".to_owned(),
    }
}

fn ejection((at, reason): (Nanos, Reason), now: Nanos) -> Value {
    let reason = match reason {
        Reason::Streak(count) => format!("{count} failures in a row"),
        Reason::Rate => "it failed far more often than the others".to_owned(),
        Reason::Probe => "the call that was to find out whether it had healed failed".to_owned(),
    };
    json!({"seconds_ago": seconds(at, now).round(), "reason": reason})
}

fn seconds(from: Nanos, to: Nanos) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

/// Seconds to milliseconds with microsecond digits; null without samples.
fn milliseconds(seconds: Option<f64>) -> Option<f64> {
    seconds.map(|seconds| (seconds * 1e6).round() / 1e3)
}

#[cfg(test)]
#[path = "proxy_pages_tests.rs"]
mod tests;
