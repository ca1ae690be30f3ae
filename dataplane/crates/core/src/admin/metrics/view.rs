//! What a page of metrics is made from.

use super::exposition::Buckets;
use crate::net::tls::TlsView;
use crate::stats::{CallStats, ClusterStats, EndpointStats, ProcessStats, StageStats};

/// Everything that a page shows. Model names, cluster names and the addresses within a cluster must each
/// be given once: the format forbids two samples with the same labels.
#[derive(Debug)]
pub struct MetricsView<'a> {
    /// Version of the program.
    pub version: &'a str,
    pub process: &'a ProcessStats,
    /// Label of each method id of [`CallStats`]: the full name without the leading slash.
    pub methods: &'a [&'a str],
    /// (route key, calls); `""` for calls without a configured model.
    pub models: Vec<(&'a str, &'a CallStats)>,
    /// Of a model server.
    pub stages: Option<&'a StageStats>,
    /// Calls that left a model server's queue unanswered.
    pub left_in_queue: u64,
    pub clusters: Vec<ClusterView<'a>>,
    /// Bounds of all histograms.
    pub buckets: Buckets,
    /// With distinct names.
    pub sources: Vec<SourceView>,
    /// None where limits are not shared.
    pub shared_limits: Option<SharedLimitsView>,
    /// With distinct labels.
    pub limited: Vec<LimitedView<'a>>,
    /// With distinct labels.
    pub quarantined: Vec<QuarantineView>,
    /// With distinct names.
    pub loaded: Vec<LoadedView>,
    /// (name, codes and counts) of the callers that have called.
    pub callers: Vec<(&'a str, Vec<(&'static str, u64)>)>,
    /// Of all model processes, bytes.
    pub memory_budget: Option<u64>,
    /// Open downstream connections.
    pub connections: u64,
    /// Request bytes held for scanning and retries.
    pub held_bytes: u64,
    pub draining: bool,
    /// Of ports, and towards the endpoints of clusters.
    pub tls: Vec<TlsView>,
}

/// What a limit has refused.
#[derive(Clone, Debug)]
pub struct LimitedView<'a> {
    /// Empty where the limit is a model's.
    pub caller: &'a str,
    /// Empty where the limit is a caller's, whatever the model.
    pub model: &'a str,
    pub limit: &'static str,
    pub count: u64,
}

/// One cluster of a page.
#[derive(Debug)]
pub struct ClusterView<'a> {
    pub name: &'a str,
    pub stats: &'a ClusterStats,
    pub retry_budget_tokens: f64,
    pub endpoints: Vec<EndpointView<'a>>,
}

/// One endpoint of a cluster on a page.
#[derive(Debug)]
pub struct EndpointView<'a> {
    pub address: &'a str,
    pub stats: &'a EndpointStats,
    /// In 1/256 of a configured weight of 1, as the picker gives it.
    pub effective_weight: u32,
    /// In the same unit: what it is picked by; 0 when it is not.
    pub pick_weight: u32,
    pub live: bool,
    /// Each health by name, and whether it is the one that the endpoint has.
    pub health: [(&'static str, bool); 4],
    pub ejected: bool,
    pub ejections: u64,
    /// Typical time of an answer.
    pub latency_s: Option<f64>,
    pub in_flight: u32,
}

/// A version of a model folder that is kept from calls; "" for a folder of which no version can be told.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct QuarantineView {
    pub model: String,
    pub version: String,
    pub step: String,
}

/// A model that the control plane loads and unloads.
#[derive(Clone, Debug)]
pub struct LoadedView {
    pub model: String,
    pub loads: u64,
    pub unloads: u64,
    pub memory_bytes: u64,
}

/// One discovery source on a page.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceView {
    pub name: String,
    pub is_ok: bool,
    /// When its last good state was read, seconds since 1970; none while there never was one.
    pub last_good_unix_s: Option<f64>,
    /// Entries of its newest state that cannot be used.
    pub skipped: u64,
}

/// How limits are shared with other access services.
#[derive(Clone, Copy, Debug)]
pub struct SharedLimitsView {
    pub is_ok: bool,
    /// Access services that share them, this one included; 0 while nobody knows.
    pub instances: u64,
}
