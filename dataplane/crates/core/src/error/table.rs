//! THE error table: every kind of error that a program of ours answers, with its gRPC code, whether the access
//! service retries it, whether it counts against the endpoint, what it means and what helps. Control plane, client,
//! docs/errors.md and tests read this table (`dl_inference._native.ERROR_KINDS`); none repeats a column of it.

use super::ErrorKind;
use crate::code::Code;

/// What the access service does by itself before the caller hears of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Never,
    /// It never reached an endpoint's application: whatever the method, at no cost to the budget.
    Always,
    /// As [`Self::Always`], but no endpoint of the cluster is left for it.
    AnotherShare,
    /// Idempotent methods.
    Idempotent,
    /// Idempotent methods, when it was `attempt_timeout_ms` that ran out.
    AttemptTimeout,
    /// A model server's own: the access service sees a status, and the cluster's `retry_codes` decide.
    AsStatus,
}

/// Whether an error counts against the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    No,
    Yes,
    /// If the endpoint held the call for its median latency, and 10 ms.
    IfHeld,
    /// A model server's own: the cluster's `failure_codes` decide.
    AsStatus,
}

/// One kind of error. The texts are sentences without a full stop, lower case, as they follow an error's own text.
#[derive(Debug)]
pub struct Row {
    pub kind: ErrorKind,
    /// In the trailer `access-error`, in metrics and in logs.
    pub name: &'static str,
    pub code: Code,
    pub retry: Retry,
    pub blame: Blame,
    pub meaning: &'static str,
    pub remedy: &'static str,
}

/// Every kind, each at its number.
pub const TABLE: [Row; 31] = [
    Row {
        kind: ErrorKind::UnknownMethod,
        name: "unknown_method",
        code: Code::Unimplemented,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "the path is not a method of the protocols served here",
        remedy: "the server at this address does not speak this protocol: try another; reflection lists its methods",
    },
    Row {
        kind: ErrorKind::BadRouteKey,
        name: "bad_route_key",
        code: Code::InvalidArgument,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "the call names no model and there is no `default_cluster`; or it names two different ones, or its \
                  message cannot be read as far as the name; or it asks for two versions, or for a label where none \
                  can be replaced",
        remedy: "send the model's name in the metadata `x-model`, and the version as the text says",
    },
    Row {
        kind: ErrorKind::BadRequest,
        name: "bad_request",
        code: Code::InvalidArgument,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "not a well-formed gRPC request (framing, `grpc-timeout`, too many metadata fields, a message that \
                  ends early), or a message that the model's protocol does not allow",
        remedy: "correct the caller: the text names what is wrong and the limit",
    },
    Row {
        kind: ErrorKind::MissingEncoding,
        name: "missing_encoding",
        code: Code::Internal,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "a message is marked as compressed, but `grpc-encoding` names no compression; gRPC requires INTERNAL",
        remedy: "correct the caller: send `grpc-encoding`, or do not set the flag of the message",
    },
    Row {
        kind: ErrorKind::UnsupportedEncoding,
        name: "unsupported_encoding",
        code: Code::Unimplemented,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "a message, or a body over HTTP, has an unknown compression; over gRPC `grpc-accept-encoding` lists the known ones",
        remedy: "use gzip or deflate, or no compression",
    },
    Row {
        kind: ErrorKind::NoRoute,
        name: "no_route",
        code: Code::NotFound,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "no such model, or no such version of it; the text names the nearest known models, or the versions \
                  there are",
        remedy: "`dl-inference status` lists the models that the access service knows",
    },
    Row {
        kind: ErrorKind::UnknownLabel,
        name: "unknown_label",
        code: Code::InvalidArgument,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "a TF Serving message asks for a `version_label` that the model does not have: the code and the text of \
                  TF Serving itself; in other protocols a label stands where versions do, and is `no_route`",
        remedy: "ask for one of the labels or versions that the text names, or set the label: \
                 `dl-inference release set MODEL --label LABEL=VERSION`, under `serve` in model.yaml",
    },
    Row {
        kind: ErrorKind::MessageTooLarge,
        name: "message_too_large",
        code: Code::ResourceExhausted,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "a request or an answer is larger than `limits.max_message_bytes`, or a request's metadata than \
                  `limits.max_metadata_bytes`",
        remedy: "send less, or raise the limit that the text names, of the access service and of the endpoint",
    },
    Row {
        kind: ErrorKind::Shed,
        name: "shed",
        code: Code::ResourceExhausted,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "too many calls in flight (`max_in_flight` of the cluster or of the process), too many waiting for \
                  the model (`max_queue`), too many request bytes held (`limits.max_held_bytes`), too much \
                  metadata of one connection's calls (`limits.max_connection_bytes`), or too many bytes of answers that \
                  callers do not take (`limits.max_unread_bytes`)",
        remedy: "try again later, with back-off; add endpoints, or raise the limit that the text names",
    },
    Row {
        kind: ErrorKind::Limited,
        name: "limited",
        code: Code::ResourceExhausted,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "more requests, calls in flight or bytes than the `limits` of the call's model allow",
        remedy: "wait as long as `grpc-retry-pushback-ms` says, over HTTP `Retry-After`; or raise the limit that the text \
                 names",
    },
    Row {
        kind: ErrorKind::Denied,
        name: "denied",
        code: Code::PermissionDenied,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "the method changes the endpoint (load, unload, reload, settings), and `admin_methods` is off; or the \
                  caller may not do that with the model: no rule of its `allow` in callers.yaml says so",
        remedy: "set `admin_methods: true`, and send `x-model` to choose the cluster; or add a rule: \
                 `dl-inference callers check --as CALLER MODEL METHOD` tells which one allows what",
    },
    Row {
        kind: ErrorKind::Unauthenticated,
        name: "unauthenticated",
        code: Code::Unauthenticated,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "the call shows no credential of a caller of callers.yaml; what was wrong with it is in the log of the \
                  access service alone",
        remedy: "send one valid key, in `x-api-key` or as the Bearer token of `authorization`; `dl-inference callers ls` lists the \
                 keys and when they expire",
    },
    Row {
        kind: ErrorKind::UriDenied,
        name: "uri_denied",
        code: Code::PermissionDenied,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "a request over HTTP names data by a URI that may not be fetched: its host, address, type or size",
        remedy: "send the data itself, or set the key of `uris` that the text names",
    },
    Row {
        kind: ErrorKind::UriFailed,
        name: "uri_failed",
        code: Code::FailedPrecondition,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "the host that a URI of the request names did not give the data",
        remedy: "look whether the host answers; the text says what it did",
    },
    Row {
        kind: ErrorKind::TooManyHops,
        name: "too_many_hops",
        code: Code::FailedPrecondition,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "the call has passed 8 access services, which the metadata `x-dl-inference-hops` count: it goes round \
                  in a circle",
        remedy: "two access services name each other as endpoints: `dl-inference status` of each lists its endpoints; \
                 name the model servers",
    },
    Row {
        kind: ErrorKind::NoEndpoints,
        name: "no_endpoints",
        code: Code::Unavailable,
        retry: Retry::AnotherShare,
        blame: Blame::No,
        meaning: "no endpoint of the cluster is live; while one has not been tried yet, the call waits up to \
                  `limits.connect_timeout_ms` first",
        remedy: "`dl-inference status` shows which endpoints are down; the caller may retry",
    },
    Row {
        kind: ErrorKind::ModelUnloaded,
        name: "model_unloaded",
        code: Code::NotFound,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "the model is known and not loaded: somebody has unloaded it, or it is loaded on demand, and the call asks \
                  only whether it is ready. Only under `serve`",
        remedy: "load it: `dl-inference models load MODEL`; `dl-inference models ls` shows the state of each",
    },
    Row {
        kind: ErrorKind::MemoryBudget,
        name: "memory_budget",
        code: Code::ResourceExhausted,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "the call's model is to be loaded on demand, and does not fit into `--memory-budget` beside the models \
                  that may not be unloaded, as calls are in flight in them or they are loaded from the start",
        remedy: "try again later, raise the budget, or unload another model: `dl-inference models ls` shows the memory of \
                 each",
    },
    Row {
        kind: ErrorKind::Draining,
        name: "draining",
        code: Code::Unavailable,
        retry: Retry::AsStatus,
        blame: Blame::AsStatus,
        meaning: "the process is stopping",
        remedy: "retry: the connection got a GOAWAY, and a new connection goes to another process",
    },
    Row {
        kind: ErrorKind::DeadlineExceeded,
        name: "deadline_exceeded",
        code: Code::DeadlineExceeded,
        retry: Retry::AttemptTimeout,
        blame: Blame::IfHeld,
        meaning: "the caller's deadline, the cluster's or the model's `timeout_ms`, the last attempt's \
                  `attempt_timeout_ms`, a stream's `stream_idle_timeout_ms` or the request body's \
                  `limits.body_timeout_ms` ran out; the text says which",
        remedy: "raise `timeout_ms` of the call or of the cluster, or find out why the model is slow",
    },
    Row {
        kind: ErrorKind::ConnectFailed,
        name: "connect_failed",
        code: Code::Unavailable,
        retry: Retry::Always,
        blame: Blame::Yes,
        meaning: "the connection failed: refused, timed out, or the name does not resolve",
        remedy: "check the endpoint: the text has its address and the system's reason",
    },
    Row {
        kind: ErrorKind::RefusedStream,
        name: "refused_stream",
        code: Code::Unavailable,
        retry: Retry::Always,
        blame: Blame::No,
        meaning: "the endpoint refused the stream, or sent GOAWAY before it: it never saw the call; if no other \
                  endpoint is live, the call goes to the same one once more, on a new connection",
        remedy: "none is needed, unless it is frequent: then check the endpoint's limits on streams and connection \
                 age",
    },
    Row {
        kind: ErrorKind::ConnectionLost,
        name: "connection_lost",
        code: Code::Unavailable,
        retry: Retry::Idempotent,
        blame: Blame::Yes,
        meaning: "the connection broke after the call was sent, or the endpoint broke HTTP/2's rules on it, or stopped in \
                  the midst of a frame; the endpoint may have worked on the call",
        remedy: "check the endpoint's log: it crashed or was killed, or the network failed",
    },
    Row {
        kind: ErrorKind::StreamReset,
        name: "stream_reset",
        code: Code::Unavailable,
        retry: Retry::Idempotent,
        blame: Blame::Yes,
        meaning: "the endpoint reset the stream after the call was sent",
        remedy: "check the endpoint's log",
    },
    Row {
        kind: ErrorKind::BadUpstreamResponse,
        name: "bad_upstream_response",
        code: Code::Internal,
        retry: Retry::Never,
        blame: Blame::Yes,
        meaning: "the endpoint's answer has no `grpc-status`, broken framing, or more metadata than \
                  `limits.max_metadata_bytes`",
        remedy: "is it a gRPC server? is there an HTTP-only proxy in between? does it send large trailers?",
    },
    Row {
        kind: ErrorKind::ModelNotFound,
        name: "model_not_found",
        code: Code::NotFound,
        retry: Retry::AsStatus,
        blame: Blame::AsStatus,
        meaning: "the model server serves another model or another version",
        remedy: "check the model's name and version; the text says what is served",
    },
    Row {
        kind: ErrorKind::ModelNotReady,
        name: "model_not_ready",
        code: Code::Unavailable,
        retry: Retry::AsStatus,
        blame: Blame::AsStatus,
        meaning: "the model is not loaded and warmed up yet, or the model server is stopping",
        remedy: "wait until its health or /ready says that it is ready; its log says what it is doing",
    },
    Row {
        kind: ErrorKind::Hook,
        name: "hook",
        code: Code::Internal,
        retry: Retry::AsStatus,
        blame: Blame::No,
        meaning: "the model's code failed, or refused the request; a hook may choose another code and text",
        remedy: "the model server's log has the traceback under the request id",
    },
    Row {
        kind: ErrorKind::Poison,
        name: "poison",
        code: Code::FailedPrecondition,
        retry: Retry::AsStatus,
        blame: Blame::AsStatus,
        meaning: "two processes of the model died while they had this request, the second while it had nothing else; \
                  every process of the model version refuses it for `poison_ms`. Only under `serve`",
        remedy: "correct the request, or the model: the log says how its processes ended, and a changed folder is \
                 asked again at once",
    },
    Row {
        kind: ErrorKind::Cancelled,
        name: "cancelled",
        code: Code::Cancelled,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "the caller cancelled; in the last 10 % of its deadline (or 5 ms) this is judged as \
                  deadline_exceeded for the endpoint",
        remedy: "none is needed",
    },
    Row {
        kind: ErrorKind::Internal,
        name: "internal",
        code: Code::Internal,
        retry: Retry::Never,
        blame: Blame::No,
        meaning: "a fault in this program; the text is always the same, with the request id",
        remedy: "report it, with the log lines that have the request id",
    },
];

// === impl Retry, Blame: as docs/errors.md words them ===

impl Retry {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Never => "no",
            Self::Always => "yes, on another endpoint, whatever the method; costs no budget",
            Self::AnotherShare => "at another share of the route's split; costs no budget",
            Self::Idempotent => "idempotent methods, on another endpoint",
            Self::AttemptTimeout => {
                "idempotent methods, on another endpoint, when it was `attempt_timeout_ms` that ran out"
            }
            Self::AsStatus => "as its code, by `retry_codes`",
        }
    }
}

impl Blame {
    pub const fn text(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Yes => "yes",
            Self::IfHeld => "yes, if the endpoint held the call for its median latency and 10 ms",
            Self::AsStatus => "as its code, by `failure_codes`",
        }
    }
}
