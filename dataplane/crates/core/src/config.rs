//! The two JSON documents that the control plane hands over: [`ProxyConfig`] once at start, and the
//! whole routing state ([`StateConfig`]) on each change. Every default lives in `access/config/sections.py` and, of the
//! model server, in `dl_inference/serving/`;
//! here every field is required, and an unknown one is refused.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use serde::Deserialize;

/// What cannot change while the process runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// Addresses to listen on: `127.0.0.1:8500`, `[::]:8500` or `unix:/path`.
    pub listen: Vec<Listen>,
    /// The HTTP/1 admin port (`/metrics /ready /live /status`); none when null.
    pub admin: Option<Listen>,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Name the endpoint that served in the trailer `access-endpoint`.
    pub expose_endpoints: bool,
    /// Forward methods of kind `admin`.
    pub admin_methods: bool,
    /// The models are the control plane's own: it takes orders to load and unload them.
    pub owns_models: bool,
    /// File that gets one JSON line per call; `-` is standard output; none when null.
    pub access_log: Option<String>,
    /// Traces; none when null.
    pub tracing: Option<TracingConfig>,
    /// Bounds of the histograms in /metrics, as near as may be; ascending.
    pub latency_buckets_ms: Vec<f64>,
    pub limits: Limits,
    pub upstream: UpstreamLimits,
    pub uris: UriConfig,
}

/// A port: an address, or one with its TLS.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Listen {
    Plain(String),
    Secured(Box<Secured>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secured {
    pub address: String,
    pub tls: ListenerTls,
}

/// The files of a port's TLS; all are PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// The first is for callers that ask for none of the names.
    pub certificates: Vec<PairConfig>,
    /// Authorities of callers' certificates.
    pub client_ca: Option<String>,
    pub client_auth: ClientAuth,
    /// Lists of revoked certificates.
    pub crl: Option<String>,
    /// Names of callers that may come in; empty: every one that is verified.
    pub san: Vec<String>,
    /// `1.2` or `1.3`.
    pub min_version: String,
}

/// TLS towards endpoints; the files are PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// Authorities of endpoints' certificates; the system's when null.
    pub ca: Option<String>,
    /// What is shown to endpoints that ask for one.
    pub certificate: Option<PairConfig>,
    /// Name that their certificates are for; the host of each address when null.
    pub server_name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairConfig {
    /// With the authorities between it and a root.
    pub certificate: String,
    pub key: String,
}

/// Whether callers show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    None,
    Optional,
    Required,
}

impl Listen {
    pub fn address(&self) -> &str {
        match self {
            Self::Plain(address) => address,
            Self::Secured(secured) => &secured.address,
        }
    }

    pub fn tls(&self) -> Option<&ListenerTls> {
        match self {
            Self::Plain(_) => None,
            Self::Secured(secured) => Some(&secured.tls),
        }
    }
}

/// Where spans go, and of which calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracingConfig {
    /// `http://HOST:PORT` of a collector.
    pub endpoint: String,
    /// Share of the calls that are traced, of those whose callers have no trace; 0..=1.
    pub sample: f64,
    /// What the spans say they are of.
    pub service: String,
}

/// Which data of requests over HTTP may be fetched by URI.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UriConfig {
    /// `HOST`, `*.DOMAIN`, each with the scheme's port, or with `:PORT`. None: nothing is fetched.
    pub hosts: Vec<String>,
    /// Networks whose addresses may be reached though they are not public.
    pub networks: Vec<String>,
    /// Media types that are taken, `image/*` for all of a kind; none: all.
    pub types: Vec<String>,
    /// Largest datum, bytes.
    pub max_bytes: usize,
    /// Most that one may take, redirects included.
    pub timeout_ms: u64,
}

/// Bounds on what a caller may ask of a program, whichever program it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Largest gRPC message either way, bytes.
    pub max_message_bytes: usize,
    /// Largest header list, bytes as HTTP/2 counts them.
    pub max_metadata_bytes: u32,
    /// Of one downstream connection: half of it for the metadata of its calls, half for answers that wait to be written.
    pub max_connection_bytes: usize,
    /// Most header fields of one request.
    pub max_metadata_fields: usize,
    /// Concurrent streams of one downstream connection.
    pub max_streams: u32,
    pub max_connections: usize,
    /// Connections of one remote IP address (unix sockets are not counted).
    pub max_connections_per_ip: usize,
    /// Calls in flight in the process; more are shed.
    pub max_in_flight: usize,
    /// Request bytes held in the process: of messages being read or worked on, for scanning and for retries.
    pub max_held_bytes: usize,
    /// From accepting a connection to its first request headers.
    pub header_timeout_ms: u64,
    /// A request body that brings fewer than 16 KiB in this time ends the call.
    pub body_timeout_ms: u64,
    /// A downstream connection without streams is closed after this time.
    pub connection_idle_timeout_ms: u64,
    /// GOAWAY after this age, +-10 %, so that long-lived connections spread again.
    pub max_connection_age_ms: u64,
    /// How long calls of an aged connection may still run.
    pub max_connection_age_grace_ms: u64,
    /// Control frames a connection may send before traffic earns more.
    pub frame_credit: u32,
    /// Control frames earned by each request and DATA frame.
    pub frame_credit_per_frame: u32,
    pub stream_window_bytes: u32,
    pub connection_window_bytes: u32,
    /// SETTINGS_MAX_FRAME_SIZE announced on both sides, 16384..=16777215.
    pub max_frame_bytes: u32,
    /// TCP_USER_TIMEOUT on both sides; 0 = the system's.
    pub tcp_user_timeout_ms: u64,
    /// Of web pages that may read answers over HTTP: `https://example.com`, or `*`; none where empty.
    pub cors_origins: Origins,
}

/// Origins of web pages, shared by all requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Vec<String>")]
pub struct Origins(Arc<[String]>);

impl From<Vec<String>> for Origins {
    fn from(origins: Vec<String>) -> Self {
        Self(origins.into())
    }
}

impl Deref for Origins {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

/// Bounds on what the access service does for a call before and beside an endpoint's answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamLimits {
    /// How far into a message the route key is looked for.
    pub route_scan_limit_bytes: usize,
    /// Request bytes kept for a retry, per call.
    pub max_retry_bytes: usize,
    /// Flow-control window of one answer. That of an endpoint's connection is as large as can be: calls share it.
    pub stream_window_bytes: u32,
    /// Bytes of answers kept in the process for callers that do not take them; beyond it their calls end. As many of
    /// requests for endpoints that do not take them; beyond it they wait.
    pub max_unread_bytes: usize,
    /// TCP connect and HTTP/2 preface to an endpoint.
    pub connect_timeout_ms: u64,
    /// Most connections of one worker to one endpoint; a second one opens when the first's streams are used up.
    pub max_connections_per_endpoint: usize,
    /// HTTP/2 PING to an endpoint whose connection was silent for this time while calls are in flight; 0 = never.
    pub keepalive_ms: u64,
    pub keepalive_timeout_ms: u64,
}

/// The whole routing state.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateConfig {
    pub clusters: Vec<ClusterConfig>,
    pub models: Vec<ModelConfig>,
    /// Cluster of calls whose model has no route.
    pub default_cluster: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    pub name: String,
    /// One of [`crate::balance::NAMES`].
    pub policy: String,
    /// `maglev`: metadata key whose value keeps calls on one endpoint; calls without it go anywhere.
    pub hash_key: Option<String>,
    /// The same of a field of the request, for calls without that metadata.
    pub hash_field: Option<String>,
    /// `dwrr`: a call goes to an endpoint with fewer calls in flight for its weight, where there is one.
    pub compare_in_flight: bool,
    /// Endpoints that are slower than the others get less.
    pub avoid_slow: bool,
    /// Endpoints that fail far more than the others get no calls for some seconds.
    pub eject: bool,
    /// Calls that no endpoint would answer within their deadline are shed at once.
    pub admit_by_deadline: bool,
    pub use_load_reports: bool,
    /// An endpoint that comes back, or is new, has its whole share after this time; 0 = at once.
    pub slow_start_ms: u64,
    pub slow_start_new_ms: u64,
    /// Calls in flight at one endpoint; no such limit when null.
    pub max_in_flight_per_endpoint: Option<u32>,
    pub endpoints: Vec<EndpointConfig>,
    /// How they are spoken to; without TLS when null. Unix sockets have none.
    pub tls: Option<UpstreamTls>,
    /// Most that a call may take, ms; a caller's own deadline can only shorten it.
    pub timeout_ms: u64,
    pub attempt_timeout_ms: Option<u64>,
    /// How much its calls matter at most: `high`, `normal` or `low`; null: as their callers say.
    pub priority: Option<String>,
    /// How long a call may wait where no endpoint is left for it and another one is being started; 0 = not at all.
    pub restart_wait_ms: u64,
    /// The model is known and has no endpoint, because it is not loaded.
    pub unloaded: Option<UnloadedConfig>,
    /// A stream with no message either way for this time ends.
    pub stream_idle_timeout_ms: u64,
    /// Attempts of one call, the first included; at least 1.
    pub max_attempts: u32,
    /// Whether predict and metadata methods may be sent twice.
    pub idempotent: bool,
    /// Ask a second endpoint when the first takes longer than 95 % of the calls.
    pub hedge: bool,
    /// Hedges that each request adds to their budget (0.05 = hedges may add 5 % load).
    pub hedge_budget_ratio: f64,
    /// How its endpoints are asked for their health.
    pub health_check: HealthCheckConfig,
    /// gRPC codes, by name, that are tried on another endpoint.
    pub retry_codes: Vec<String>,
    /// gRPC codes, by name, that count against the endpoint, by the protocol of the method called.
    pub failure_codes: FailureCodes,
    /// Calls in flight in this cluster; more are shed.
    pub max_in_flight: usize,
    /// Tokens that each request adds to the retry budget (0.2 = retries may add 20 % load).
    pub retry_budget_ratio: f64,
    pub retry_budget_per_second: f64,
    /// Most tokens, and how many there are at the start.
    pub retry_budget_cap: f64,
}

/// A model that is not loaded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnloadedConfig {
    pub model: String,
    /// A call makes the control plane load it, and waits for that.
    pub on_demand: bool,
    /// Why it was not loaded when that was tried last.
    pub refusal: Option<RefusalConfig>,
    /// How often that was refused so far: a call that waits hears of what comes after it.
    pub refusals: u64,
}

/// Why a model was not loaded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusalConfig {
    pub text: String,
    /// It does not fit into the memory budget.
    pub is_memory: bool,
}

/// Calls of grpc.health.v1 to endpoints.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct HealthCheckConfig {
    pub enabled: bool,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// What is asked for; empty for the server as a whole.
    pub service: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureCodes {
    pub tfs: Vec<String>,
    pub seldon: Vec<String>,
    pub oip: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// `host:port`, `[v6]:port` or `unix:/path`; the endpoint's identity.
    pub address: String,
    /// 1..=65535.
    pub weight: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The route key.
    pub name: String,
    /// The model that it is another name of; `None` for a model's own name.
    pub alias_of: Option<String>,
    /// Where calls without a routed version or label go; empty when only versions are routed.
    pub split: Vec<SplitConfig>,
    /// Version or label -> where it goes.
    pub versions: BTreeMap<String, Vec<SplitConfig>>,
    /// Label -> the version that it stands for: a call that asks for the label is routed as one that asks for the
    /// version, and its message asks for the version upstream. A label is not a number, and not in `versions`.
    pub labels: BTreeMap<String, String>,
    /// Whether a version or label that is in neither goes to `split`; else it is no_route.
    pub pass_through: bool,
    /// How much may be asked of it, by all of its names together.
    pub limits: Option<CallLimits>,
}

/// How much may be asked for. What is null has no limit.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CallLimits {
    pub requests_per_s: Option<f64>,
    /// Requests that may come at once after a rest; at least 1.
    pub burst: u32,
    pub in_flight: Option<usize>,
    /// Of requests' messages.
    pub bytes_per_s: Option<u64>,
    /// Access services that share the limits: each allows its part.
    pub instances: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    pub cluster: String,
    /// Share among its siblings; 0 = none.
    pub weight: u32,
}

/// What the model-server front needs at its start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    pub listen: Vec<Listen>,
    pub admin: Option<Listen>,
    /// The model's name, for health (`""` is always there) and for OIP.
    pub model: String,
    /// Further names that it answers to.
    pub aliases: Vec<String>,
    pub version: String,
    /// Labels of this version, which OIP callers may ask for in its place.
    pub labels: Vec<String>,
    /// What OIP's ModelMetadata says of the model.
    pub platform: String,
    /// Empty where nothing is known of them.
    pub inputs: Vec<TensorConfig>,
    pub outputs: Vec<TensorConfig>,
    /// Requests waiting for Python; beyond it RESOURCE_EXHAUSTED.
    pub max_queue: usize,
    /// Most requests of one batch.
    pub max_batch: usize,
    pub batching: BatchingConfig,
    /// Deadline of calls that bring none.
    pub timeout_ms: u64,
    /// A stream that brings no message for this time ends.
    pub stream_idle_timeout_ms: u64,
    /// A model that works for so long and answers nothing is not ready; 0 = off.
    pub hang_timeout_ms: u64,
    /// Say in the trailers of each call how loaded the model is.
    pub load_reports: bool,
    /// Bounds of the histograms in /metrics, as near as may be; ascending.
    pub latency_buckets_ms: Vec<f64>,
    pub limits: Limits,
    /// Traces; none when null.
    pub tracing: Option<TracingConfig>,
    /// Where the processes of this version tell each other which calls they have; none when null.
    pub hands: Option<HandsConfig>,
}

/// How a request is found that kills the processes that run it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandsConfig {
    /// A file, of this version's processes alone; made where there is none.
    pub path: String,
    /// How long a request is suspected, and refused once it has killed again.
    pub poison_ms: u64,
}

/// How a model server makes batches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchingConfig {
    /// Whether Python calls the model once for the requests of a batch.
    pub joins: bool,
    /// Most rows of a batch of several requests.
    pub max_rows: usize,
    /// How long the oldest request of a batch waits for others; absent: as the server learns.
    pub max_delay_ms: Option<u64>,
    /// What requests must have in common for Python to join them.
    pub alike: Alike,
    /// The axis in which they may differ, as Python fills it up.
    pub pad_axis: Option<usize>,
}

/// What requests must have in common to be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alike {
    /// Nothing: all of them are one group.
    All,
    /// Their tags or parameters: shapes are what the model's own `preprocess` makes.
    Tags,
    /// Tags, types and shapes.
    Shapes,
}

/// One input or output of a model, as ModelMetadata describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorConfig {
    pub name: String,
    /// numpy's name of the type; `object` for BYTES.
    pub dtype: String,
    /// -1 where a size varies.
    pub shape: Vec<i64>,
}
