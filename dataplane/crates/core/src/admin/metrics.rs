//! The page of /metrics ([`render`]), from the counters that the request path updates ([`crate::stats`]).
//! docs/metrics.md describes each family; a test compares the two.
//!
//! Why not the `prometheus-client` crate: its `Family` looks labels up in a locked map for each record,
//! while ours live where the request path already is (model, cluster, endpoint), so its recorders are of
//! no use; its encoder writes OpenMetrics only, wants every collector `'static` and would leave the walk
//! over the routing state to us. What is left is the text format, 100 lines in [`exposition`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub mod exposition;
mod process;
mod view;

use crate::stats::ProcessStats;
pub use exposition::Buckets;
use exposition::{Exposition, Kind};
pub use view::{
    ClusterView, EndpointView, LimitedView, LoadedView, MetricsView, QuarantineView,
    SharedLimitsView, SourceView,
};

/// Write the page of /metrics.
pub fn render(view: &MetricsView<'_>) -> String {
    let mut page = Exposition::default();
    requests(&mut page, view);
    callers(&mut page, view);
    stages(&mut page, view);
    attempts(&mut page, view);
    endpoints(&mut page, view);
    loads(&mut page, view);
    clusters(&mut page, view);
    limited(&mut page, view);
    sources(&mut page, view);
    shared_limits(&mut page, view);
    quarantined(&mut page, view);
    loaded(&mut page, view);
    tls(&mut page, view);
    process_counters(&mut page, view);
    process_gauges(&mut page, view);
    process::write(&mut page);
    page.finish()
}

fn requests(page: &mut Exposition, view: &MetricsView<'_>) {
    let used = || {
        view.models.iter().flat_map(|&(model, calls)| {
            let named = calls.used();
            named.filter_map(move |(id, counters)| Some((*view.methods.get(id)?, model, counters)))
        })
    };
    let mut family = page.family(
        "dl_requests_total",
        Kind::Counter,
        "Calls finished, by the gRPC code that the caller got.",
    );
    for (method, model, counters) in used() {
        for (code, count) in counters.codes.used() {
            family.sample(
                &[("method", method), ("model", model), ("code", code)],
                count,
            );
        }
    }
    let mut family = page.family(
        "dl_request_seconds",
        Kind::Histogram,
        "Time from a call's headers to the end of its answer.",
    );
    for (method, model, counters) in used() {
        let labels = [("method", method), ("model", model)];
        family.histogram(&labels, &counters.seconds.snapshot(), &view.buckets);
    }
}

fn callers(page: &mut Exposition, view: &MetricsView<'_>) {
    let mut family = page.family(
        "dl_caller_requests_total",
        Kind::Counter,
        "Calls finished of each caller, by the gRPC code that it got.",
    );
    for (caller, codes) in &view.callers {
        for (code, count) in codes {
            family.sample(&[("caller", caller), ("code", code)], *count);
        }
    }
}

fn stages(page: &mut Exposition, view: &MetricsView<'_>) {
    let Some(stages) = view.stages else { return };
    let mut family = page.family(
        "dl_stage_seconds",
        Kind::Histogram,
        "Time of a call's stages in the model server.",
    );
    for (stage, seconds) in stages.all() {
        family.histogram(&[("stage", stage)], &seconds.snapshot(), &view.buckets);
    }
    for (name, help, count) in [
        (
            "dl_model_calls_total",
            "How often the model was called.",
            &stages.model_calls,
        ),
        (
            "dl_model_rows_total",
            "Rows that the model was called with.",
            &stages.model_rows,
        ),
    ] {
        let mut family = page.family(name, Kind::Counter, help);
        family.sample(&[], count.load(Relaxed));
    }
    let mut family = page.family(
        "dl_calls_left_total",
        Kind::Counter,
        "Calls whose caller went, or whose deadline passed, before they came to the model.",
    );
    family.sample(&[("place", "queue")], view.left_in_queue);
    family.sample(&[("place", "batch")], stages.left_in_hand.load(Relaxed));
}

fn attempts(page: &mut Exposition, view: &MetricsView<'_>) {
    let mut family = page.family(
        "dl_attempts_total",
        Kind::Counter,
        "Attempts on an endpoint, by the gRPC code that each ended with.",
    );
    for_each_endpoint(view, |labels, endpoint| {
        for (code, count) in endpoint.stats.codes.used() {
            family.sample(&[labels[0], labels[1], ("code", code)], count);
        }
    });
    let mut family = page.family(
        "dl_attempt_seconds",
        Kind::Histogram,
        "Time of an attempt that the endpoint answered.",
    );
    for_each_endpoint(view, |labels, endpoint| {
        let snapshot = endpoint.stats.seconds.snapshot();
        if snapshot.count() > 0 {
            family.histogram(labels, &snapshot, &view.buckets);
        }
    });
}

fn endpoints(page: &mut Exposition, view: &MetricsView<'_>) {
    let mut family = page.family("dl_in_flight", Kind::Gauge, "Attempts going on.");
    for_each_endpoint(view, |labels, endpoint| {
        family.sample(labels, endpoint.in_flight);
    });
    let mut family = page.family(
        "dl_effective_weight",
        Kind::Gauge,
        "What is left of the configured weight: equal to it while the endpoint is healthy.",
    );
    for_each_endpoint(view, |labels, endpoint| {
        family.sample(labels, f64::from(endpoint.effective_weight) / 256.0);
    });
    let mut family = page.family(
        "dl_pick_weight",
        Kind::Gauge,
        "The weight by which the endpoint is picked: less than the effective weight while it is slow or new, 0 while \
         it gets no calls.",
    );
    for_each_endpoint(view, |labels, endpoint| {
        family.sample(labels, f64::from(endpoint.pick_weight) / 256.0);
    });
    let mut family = page.family(
        "dl_endpoint_ejected",
        Kind::Gauge,
        "1 while the endpoint gets no calls because it failed, else 0.",
    );
    for_each_endpoint(view, |labels, endpoint| {
        family.sample(labels, u8::from(endpoint.ejected));
    });
    let mut family = page.family(
        "dl_ejections_total",
        Kind::Counter,
        "How often the endpoint was ejected.",
    );
    for_each_endpoint(view, |labels, endpoint| {
        family.sample(labels, endpoint.ejections);
    });
    let mut family = page.family(
        "dl_endpoint_latency_seconds",
        Kind::Gauge,
        "Typical time of an answer, as the balancer estimates it (a geometric mean of the last ones).",
    );
    for_each_endpoint(view, |labels, endpoint| {
        if let Some(latency) = endpoint.latency_s {
            family.sample(labels, latency);
        }
    });
    let mut family = page.family(
        "dl_endpoint_live",
        Kind::Gauge,
        "1 while the endpoint may be picked, else 0.",
    );
    for_each_endpoint(view, |labels, endpoint| {
        family.sample(labels, u8::from(endpoint.live));
    });
    let mut family = page.family(
        "dl_endpoint_health",
        Kind::Gauge,
        "1 for the health that the endpoint was last found to have, 0 for the others.",
    );
    for_each_endpoint(view, |labels, endpoint| {
        for (health, is_now) in endpoint.health {
            let labels = [labels[0], labels[1], ("health", health)];
            family.sample(&labels, u8::from(is_now));
        }
    });
}

fn loads(page: &mut Exposition, view: &MetricsView<'_>) {
    let mut family = page.family(
        "dl_load_reports_total",
        Kind::Counter,
        "Load reports in the trailers of an endpoint, by whether they could be read.",
    );
    for_each_endpoint(view, |labels, endpoint| {
        let load = &endpoint.stats.load;
        for (result, count) in [("read", &load.read), ("unreadable", &load.unreadable)] {
            let count = count.load(Relaxed);
            if count > 0 {
                family.sample(&[labels[0], labels[1], ("result", result)], count);
            }
        }
    });
    let mut family = page.family(
        "dl_endpoint_utilization",
        Kind::Gauge,
        "Utilization in the endpoint's last load report: 1 is fully busy.",
    );
    for_each_endpoint(view, |labels, endpoint| {
        if let Some(utilization) = endpoint.stats.load.utilization() {
            family.sample(labels, utilization);
        }
    });
}

fn for_each_endpoint<'a>(
    view: &'a MetricsView<'_>,
    mut write: impl FnMut(&[(&'a str, &'a str); 2], &'a EndpointView<'_>),
) {
    for cluster in &view.clusters {
        for endpoint in &cluster.endpoints {
            write(
                &[("cluster", cluster.name), ("endpoint", endpoint.address)],
                endpoint,
            );
        }
    }
}

fn clusters(page: &mut Exposition, view: &MetricsView<'_>) {
    let mut family = page.family(
        "dl_retries_total",
        Kind::Counter,
        "Attempts after the first of a call, by what the one before failed with.",
    );
    for cluster in &view.clusters {
        for (kind, count) in cluster.stats.retries.used() {
            family.sample(&[("cluster", cluster.name), ("kind", kind)], count);
        }
    }
    let mut family = page.family(
        "dl_hedges_total",
        Kind::Counter,
        "Calls for which a second endpoint was due to be asked, by how that ended.",
    );
    for cluster in &view.clusters {
        for (result, count) in cluster.stats.hedges.used() {
            family.sample(&[("cluster", cluster.name), ("result", result)], count);
        }
    }
    let mut family = page.family(
        "dl_retry_budget_tokens",
        Kind::Gauge,
        "Retries that the budget allows now.",
    );
    for cluster in &view.clusters {
        family.sample(&[("cluster", cluster.name)], cluster.retry_budget_tokens);
    }
    let load = |count: &AtomicU64| count.load(Relaxed);
    let mut family = page.family(
        "dl_shed_total",
        Kind::Counter,
        "Calls refused because a limit was reached.",
    );
    for (scope, count) in [
        ("process", &view.process.shed_in_flight),
        ("held_bytes", &view.process.shed_held_bytes),
    ] {
        family.sample(&[("scope", scope), ("cluster", "")], load(count));
    }
    for cluster in &view.clusters {
        family.sample(
            &[("scope", "cluster"), ("cluster", cluster.name)],
            load(&cluster.stats.shed),
        );
    }
}

fn limited(page: &mut Exposition, view: &MetricsView<'_>) {
    let mut family = page.family(
        "dl_limited_total",
        Kind::Counter,
        "Calls and messages refused by a limit of a model or a caller.",
    );
    for each in &view.limited {
        let labels = [
            ("caller", each.caller),
            ("model", each.model),
            ("limit", each.limit),
        ];
        family.sample(&labels, each.count);
    }
}

fn sources(page: &mut Exposition, view: &MetricsView<'_>) {
    let mut family = page.family(
        "dl_source_ok",
        Kind::Gauge,
        "1 while a discovery source can be read, else 0.",
    );
    for source in &view.sources {
        family.sample(&[("source", &source.name)], u8::from(source.is_ok));
    }
    let mut family = page.family(
        "dl_source_last_good_timestamp_seconds",
        Kind::Gauge,
        "When the last good state of a discovery source was read, seconds since 1970.",
    );
    for source in &view.sources {
        if let Some(time) = source.last_good_unix_s {
            family.sample(&[("source", &source.name)], time);
        }
    }
    let mut family = page.family(
        "dl_source_skipped",
        Kind::Gauge,
        "Entries of a discovery source that cannot be used.",
    );
    for source in &view.sources {
        family.sample(&[("source", &source.name)], source.skipped);
    }
}

fn shared_limits(page: &mut Exposition, view: &MetricsView<'_>) {
    let mut family = page.family(
        "dl_shared_limits_ok",
        Kind::Gauge,
        "1 while limits are shared by Redis, 0 while by division.",
    );
    if let Some(shared) = view.shared_limits {
        family.sample(&[], u8::from(shared.is_ok));
    }
    let mut family = page.family(
        "dl_shared_limits_instances",
        Kind::Gauge,
        "Access services that share limits by Redis.",
    );
    if let Some(shared) = view.shared_limits.filter(|it| it.is_ok) {
        family.sample(&[], shared.instances);
    }
}

fn quarantined(page: &mut Exposition, view: &MetricsView<'_>) {
    let mut family = page.family(
        "dl_model_quarantined",
        Kind::Gauge,
        "1 for each version of a model folder that is kept from calls, with the step that it failed.",
    );
    for each in &view.quarantined {
        let labels = [
            ("model", &*each.model),
            ("version", &*each.version),
            ("step", &*each.step),
        ];
        family.sample(&labels, 1);
    }
}

fn loaded(page: &mut Exposition, view: &MetricsView<'_>) {
    let mut by_model = |name, kind, help, value: fn(&LoadedView) -> u64| {
        let mut family = page.family(name, kind, help);
        for each in &view.loaded {
            family.sample(&[("model", &*each.model)], value(each));
        }
    };
    by_model(
        "dl_model_loads_total",
        Kind::Counter,
        "How often a model of `serve` was loaded: its default version became ready.",
        |each| each.loads,
    );
    by_model(
        "dl_model_unloads_total",
        Kind::Counter,
        "How often a model of `serve` was unloaded: asked for, idle, or for others within the memory budget.",
        |each| each.unloads,
    );
    by_model(
        "dl_model_memory_bytes",
        Kind::Gauge,
        "Resident memory of a model's processes.",
        |each| each.memory_bytes,
    );
    let mut family = page.family(
        "dl_memory_budget_bytes",
        Kind::Gauge,
        "What `memory_budget` allows the model processes together.",
    );
    if let Some(bytes) = view.memory_budget {
        family.sample(&[], bytes);
    }
    let waits = view.process.cold_waits.snapshot();
    let mut family = page.family(
        "dl_cold_wait_seconds",
        Kind::Histogram,
        "How long calls waited for their model to be loaded, whether it was or not.",
    );
    if waits.count() > 0 {
        family.histogram(&[], &waits, &view.buckets);
    }
}

fn process_counters(page: &mut Exposition, view: &MetricsView<'_>) {
    let process = view.process;
    let mut by_label = |name, help, label, counts: Vec<(&'static str, u64)>| {
        let mut family = page.family(name, Kind::Counter, help);
        for (value, count) in counts {
            family.sample(&[(label, value)], count);
        }
    };
    by_label(
        "dl_errors_total",
        "Calls that this program itself answered with an error.",
        "kind",
        process.errors.all().collect(),
    );
    by_label(
        "dl_connections_refused_total",
        "Connections turned away.",
        "reason",
        process.refused.all().collect(),
    );
    by_label(
        "dl_connections_closed_total",
        "Downstream connections ended.",
        "reason",
        process.closed.all().collect(),
    );
    let mut family = page.family(
        "dl_reloads_total",
        Kind::Counter,
        "Reloads of the configuration and of discovery sources.",
    );
    for (source, ok, count) in process.reloads() {
        let result = if ok { "ok" } else { "error" };
        family.sample(&[("source", &source), ("result", result)], count);
    }
    page.family(
        "dl_access_log_lost_total",
        Kind::Counter,
        "Lines of the access log that were not written.",
    )
    .sample(&[], process.access_log_lost.load(Relaxed));
    spans(page, process);
}

/// Of access services and model servers.
fn spans(page: &mut Exposition, process: &ProcessStats) {
    for (name, help, count) in [
        (
            "dl_spans_sent_total",
            "Spans that the collector took.",
            &process.spans_sent,
        ),
        (
            "dl_spans_lost_total",
            "Spans that did not reach the collector.",
            &process.spans_lost,
        ),
    ] {
        page.family(name, Kind::Counter, help)
            .sample(&[], count.load(Relaxed));
    }
}

fn tls(page: &mut Exposition, view: &MetricsView<'_>) {
    let mut family = page.family(
        "dl_tls_certificate_expires_timestamp_seconds",
        Kind::Gauge,
        "When a certificate of a port, or of our own towards endpoints, expires, in seconds since 1970.",
    );
    for tls in &view.tls {
        for (path, expires) in &tls.expires {
            family.sample(&[(tls.label, &tls.owner), ("path", path)], *expires);
        }
    }
    let mut family = page.family(
        "dl_tls_files_current",
        Kind::Gauge,
        "1 while the TLS files of a port or a cluster are used as they are, 0 while old ones are kept because the files are bad.",
    );
    for tls in &view.tls {
        family.sample(&[(tls.label, &tls.owner)], u64::from(tls.is_current));
    }
}

fn process_gauges(page: &mut Exposition, view: &MetricsView<'_>) {
    let mut gauge =
        |name, help, value: u64| page.family(name, Kind::Gauge, help).sample(&[], value);
    gauge(
        "dl_connections",
        "Open downstream connections.",
        view.connections,
    );
    gauge(
        "dl_held_bytes",
        "Request bytes held for route keys and retries.",
        view.held_bytes,
    );
    gauge(
        "dl_draining",
        "1 from the start of a drain, else 0.",
        u64::from(view.draining),
    );
    page.family(
        "dl_build_info",
        Kind::Gauge,
        "Always 1; the version is in the label.",
    )
    .sample(&[("version", view.version)], 1);
}

#[cfg(test)]
#[path = "metrics/render_tests.rs"]
mod tests;
