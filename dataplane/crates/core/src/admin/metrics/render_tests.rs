use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::code::Code;
use crate::error::ErrorKind;
use crate::stats::{
    CallStats, ClosedReason, ClusterStats, EndpointStats, ProcessStats, RefusedReason, RetryCause,
    StageStats,
};

fn healths(now: &str) -> [(&'static str, bool); 4] {
    ["unknown", "serving", "not_serving", "loading"].map(|health| (health, health == now))
}

/// One of everything, with names that need escaping.
fn sample_page() -> String {
    let process = ProcessStats::default();
    process.errors.add(ErrorKind::NoRoute);
    process.refused.add(RefusedReason::MaxConnections);
    process.closed.add(ClosedReason::Flood);
    process.count_reload("nodefile", false);
    process.cold_waits.record(Duration::from_millis(3));
    let calls = CallStats::new(2);
    for micros in 1..=1_000 {
        calls.record(1, Code::Ok, Duration::from_micros(micros * 10));
    }
    calls.record(0, Code::Unavailable, Duration::from_secs(1));
    let stages = StageStats::default();
    stages.queue.record(Duration::from_millis(3));
    let stats = ClusterStats::default();
    stats.retries.add(RetryCause::UpstreamStatus);
    let endpoint = EndpointStats::default();
    endpoint.answered(Code::Ok, Duration::from_millis(3));
    endpoint.load.count(Some(0.75));
    endpoint.load.count(None);
    let idle = EndpointStats::default();
    let view = MetricsView {
        version: "0.1.0",
        process: &process,
        methods: &["a.B/C", "d.E/F"],
        models: vec![("we\"ird\\\nmodel", &calls)],
        clusters: vec![ClusterView {
            name: "fleet",
            stats: &stats,
            retry_budget_tokens: 12.5,
            endpoints: vec![
                EndpointView {
                    address: "127.0.0.1:1",
                    stats: &endpoint,
                    effective_weight: 384,
                    pick_weight: 128,
                    live: true,
                    health: healths("loading"),
                    ejected: true,
                    ejections: 3,
                    latency_s: Some(0.25),
                    in_flight: 2,
                },
                EndpointView {
                    address: "unix:/x",
                    stats: &idle,
                    effective_weight: 0,
                    pick_weight: 0,
                    live: false,
                    health: healths("unknown"),
                    ejected: false,
                    ejections: 0,
                    latency_s: None,
                    in_flight: 0,
                },
            ],
        }],
        stages: Some(&stages),
        left_in_queue: 3,
        buckets: Buckets::nearest(&[1.0, 2.0, 5.0, 10.0]),
        sources: vec![SourceView {
            name: "zookeeper zk:2181/x".to_owned(),
            is_ok: false,
            last_good_unix_s: Some(1_795_000_000.25),
            skipped: 2,
        }],
        shared_limits: Some(SharedLimitsView {
            is_ok: true,
            instances: 3,
        }),
        loaded: vec![LoadedView {
            model: "digits".to_owned(),
            loads: 3,
            unloads: 2,
            memory_bytes: 4096,
        }],
        callers: vec![("alice", vec![("OK", 7)])],
        memory_budget: Some(8192),
        limited: vec![LimitedView {
            caller: "",
            model: "ranking",
            limit: "in_flight",
            count: 3,
        }],
        quarantined: vec![QuarantineView {
            model: "digits".to_owned(),
            version: "2".to_owned(),
            step: "golden".to_owned(),
        }],
        connections: 3,
        held_bytes: 7,
        draining: true,
        tls: Vec::new(),
    };
    render(&view)
}

/// (family, type) in the order of the page; panics where the text breaks the format.
fn families(text: &str) -> Vec<(String, String)> {
    let mut families: Vec<(String, String)> = Vec::new();
    let mut seen = BTreeSet::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(
                families.iter().all(|(other, _)| other != name),
                "{name} has two heads"
            );
            families.push((name.to_owned(), kind.to_owned()));
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(series.to_owned()), "{series} appears twice");
            let (family, kind) = families.last().unwrap();
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(family.as_str()).unwrap();
            let allowed: &[&str] = if kind == "histogram" {
                &["_bucket", "_sum", "_count"]
            } else {
                &[""]
            };
            assert!(allowed.contains(&suffix), "{line} under {family}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        }
    }
    families
}

#[test]
fn the_page_is_valid_text_with_each_family_together_and_no_series_twice() {
    let text = sample_page();
    assert!(families(&text).len() >= 18);
    for line in [
        "dl_stage_seconds_count{stage=\"queue\"} 1",
        "dl_stage_seconds_count{stage=\"model\"} 0",
        "dl_requests_total{method=\"d.E/F\",model=\"we\\\"ird\\\\\\nmodel\",code=\"OK\"} 1000",
        "dl_attempts_total{cluster=\"fleet\",endpoint=\"127.0.0.1:1\",code=\"OK\"} 1",
        "dl_effective_weight{cluster=\"fleet\",endpoint=\"127.0.0.1:1\"} 1.5",
        "dl_pick_weight{cluster=\"fleet\",endpoint=\"127.0.0.1:1\"} 0.5",
        "dl_endpoint_ejected{cluster=\"fleet\",endpoint=\"127.0.0.1:1\"} 1",
        "dl_ejections_total{cluster=\"fleet\",endpoint=\"127.0.0.1:1\"} 3",
        "dl_endpoint_latency_seconds{cluster=\"fleet\",endpoint=\"127.0.0.1:1\"} 0.25",
        "dl_in_flight{cluster=\"fleet\",endpoint=\"127.0.0.1:1\"} 2",
        "dl_endpoint_live{cluster=\"fleet\",endpoint=\"unix:/x\"} 0",
        "dl_endpoint_health{cluster=\"fleet\",endpoint=\"127.0.0.1:1\",health=\"loading\"} 1",
        "dl_endpoint_health{cluster=\"fleet\",endpoint=\"127.0.0.1:1\",health=\"serving\"} 0",
        "dl_endpoint_health{cluster=\"fleet\",endpoint=\"unix:/x\",health=\"unknown\"} 1",
        "dl_load_reports_total{cluster=\"fleet\",endpoint=\"127.0.0.1:1\",result=\"unreadable\"} 1",
        "dl_endpoint_utilization{cluster=\"fleet\",endpoint=\"127.0.0.1:1\"} 0.75",
        "dl_retries_total{cluster=\"fleet\",kind=\"upstream_status\"} 1",
        "dl_retry_budget_tokens{cluster=\"fleet\"} 12.5",
        "dl_shed_total{scope=\"cluster\",cluster=\"fleet\"} 0",
        "dl_limited_total{caller=\"\",model=\"ranking\",limit=\"in_flight\"} 3",
        "dl_errors_total{kind=\"no_route\"} 1",
        "dl_errors_total{kind=\"shed\"} 0",
        "dl_connections_refused_total{reason=\"max_connections\"} 1",
        "dl_connections_closed_total{reason=\"flood\"} 1",
        "dl_reloads_total{source=\"nodefile\",result=\"error\"} 1",
        "dl_reloads_total{source=\"nodefile\",result=\"ok\"} 0",
        "dl_source_ok{source=\"zookeeper zk:2181/x\"} 0",
        "dl_source_last_good_timestamp_seconds{source=\"zookeeper zk:2181/x\"} 1795000000.25",
        "dl_source_skipped{source=\"zookeeper zk:2181/x\"} 2",
        "dl_shared_limits_ok 1",
        "dl_shared_limits_instances 3",
        "dl_model_quarantined{model=\"digits\",version=\"2\",step=\"golden\"} 1",
        "dl_model_loads_total{model=\"digits\"} 3",
        "dl_model_unloads_total{model=\"digits\"} 2",
        "dl_model_memory_bytes{model=\"digits\"} 4096",
        "dl_memory_budget_bytes 8192",
        "dl_caller_requests_total{caller=\"alice\",code=\"OK\"} 7",
        "dl_cold_wait_seconds_count 1",
        "dl_connections 3",
        "dl_held_bytes 7",
        "dl_draining 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is missing");
    }
    assert!(!text.contains("dl_attempt_seconds_count{cluster=\"fleet\",endpoint=\"unix:/x\"}"));
}

#[test]
fn the_documentation_has_a_row_for_each_family_and_no_other() {
    let documented = include_str!("../../../../../../docs/metrics.md");
    let rows: BTreeMap<&str, &str> = documented
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(name, _)| name.starts_with("dl_") || name.starts_with("process_"))
        .map(|(name, rest)| (name, rest.split(' ').next().unwrap()))
        .collect();
    let text = sample_page();
    let families = families(&text);
    let written: BTreeMap<&str, &str> = families
        .iter()
        .map(|(name, kind)| (name.as_str(), kind.as_str()))
        .collect();
    assert_eq!(rows, written);
}

/// Prometheus's histogram_quantile over the bucket lines of one histogram.
fn histogram_quantile(text: &str, series: &str, q: f64) -> f64 {
    let buckets: Vec<(f64, f64)> = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix(series)?
                .split_once("le=\"")?
                .1
                .split_once("\"} ")
        })
        .map(|(le, count)| {
            (
                le.replace("+Inf", "inf").parse().unwrap(),
                count.parse().unwrap(),
            )
        })
        .collect();
    let rank = q * buckets.last().unwrap().1;
    let index = buckets
        .iter()
        .position(|&(_, count)| count >= rank)
        .unwrap();
    let (lower, below) = if index == 0 {
        (0.0, 0.0)
    } else {
        buckets[index - 1]
    };
    let (upper, count) = buckets[index];
    lower + (upper - lower) * (rank - below) / (count - below)
}

#[test]
fn quantiles_computed_from_the_page_as_prometheus_does_are_in_the_right_bucket() {
    let text = sample_page();
    for (q, exact) in [(0.5, 0.005), (0.99, 0.0099)] {
        let estimate = histogram_quantile(&text, "dl_request_seconds_bucket{method=\"d.E/F\"", q);
        assert!(
            (estimate / exact - 1.0).abs() < 0.1, // evenly spread times: what is interpolated is near
            "q {q}: {estimate} for {exact}"
        );
    }
}
