"""access.yaml: every key, default and unit, once. `load` reads files and environment into these models."""

import re
from typing import TYPE_CHECKING, Annotated, Any, Self, Union

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from access.discovery import RESOLVERS, SourceConfig
from access.fields import (
    Code,
    Codes,
    EndpointList,
    FrozenList,
    Name,
    Section,
    problem,
)
from access.listening import Listens, Port
from access.sharing.config import SharedLimits
from access.upstream import Upstream
from dl_inference._native import POLICIES
from dl_inference.registry.schema import MAX_WEIGHT, Protocol
from dl_inference.serving.latency import (
    LATENCY_BUCKETS_MS,
    LEAST_MS,
    MOST_BUCKETS,
    MOST_MS,
    LatencyBuckets,
)
from dl_inference.serving.limits import (
    KIB,
    MIB,
    Count,
    FrameBytes,
    HeldBytes,
    MessageBytes,
    MetadataBytes,
    MetadataFields,
    Milliseconds,
    MillisecondsOrOff,
    Priority,
    ServerLimits,
    WindowBytes,
)
from dl_inference.serving.tracing import Service, Tracing

# design.md, error table: seldon-core's wrapper answers UNKNOWN to every exception in user code.
FAILURE_CODES: dict[Protocol, tuple[str, ...]] = {
    "tfs": ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS"),
    "seldon": ("UNAVAILABLE", "DATA_LOSS"),
    "oip": ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS"),
}

_METADATA_KEY = re.compile(r"[a-z0-9_.-]{1,128}")
_HASH_FIELD = re.compile(r"id|(parameters|meta\.tags)\..{1,256}|meta\.puid|model_spec\.signature_name")


def _known_policy(policy: str) -> str:
    if policy not in POLICIES:
        raise problem(f"{policy!r} is not a policy", f"use one of {', '.join(POLICIES)}")
    return policy


def _metadata_key(name: str) -> str:
    if not _METADATA_KEY.fullmatch(name) or name.startswith("grpc-"):
        raise problem(
            f"{name!r} is not a metadata key that callers set",
            "use 1 to 128 of a-z, 0-9, `_`, `-` and `.`, and do not begin with `grpc-`",
        )
    return name


def _hash_field(name: str) -> str:
    if not _HASH_FIELD.fullmatch(name):
        raise problem(
            f"{name!r} is not a field of a request that calls can be kept on one endpoint by",
            "use id or parameters.NAME (Open Inference), meta.puid or meta.tags.NAME (Seldon), or "
            "model_spec.signature_name (TF Serving)",
        )
    return name


def _never_resource_exhausted(codes: tuple[Code, ...]) -> tuple[Code, ...]:
    if "RESOURCE_EXHAUSTED" in codes:
        raise problem(
            "RESOURCE_EXHAUSTED never counts against an endpoint: every gRPC server answers it to an oversized message",
            "remove it",
        )
    return codes


def _kind(value: Any) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) else None


if TYPE_CHECKING:
    AnySource = SourceConfig
else:
    AnySource = Annotated[
        Union[tuple(Annotated[source.config, Tag(kind)] for kind, source in RESOLVERS.items())],  # noqa: UP007
        Discriminator(_kind),
    ]


class Limits(ServerLimits, Section):
    """The limits of the process. A change needs a restart."""

    max_message_bytes: MessageBytes = Field(16 * MIB, description="largest gRPC message in either direction, bytes")
    max_metadata_bytes: MetadataBytes = Field(16 * 1024, description="largest header list, bytes as HTTP/2 counts them")
    max_metadata_fields: MetadataFields = Field(128, description="most header fields of one request")
    max_streams: Count = Field(1024, description="calls in flight on one downstream connection")
    max_connections: Count = Field(10_000, description="downstream connections")
    max_connections_per_ip: Count = Field(
        1000, description="downstream connections of one remote IP address; unix sockets are not counted"
    )
    max_in_flight: Count = Field(10_000, description="calls in flight in the process; more are shed")
    max_held_bytes: HeldBytes = Field(
        256 * MIB, description="request bytes held for route keys and retries in the process; more calls are shed"
    )
    connection_idle_timeout_ms: Milliseconds = Field(
        300_000, description="a downstream connection without calls is closed after this time, ms"
    )
    max_connection_age_ms: Milliseconds = Field(
        1_800_000, description="a downstream connection is asked to reconnect at this age (±10 %), to spread again, ms"
    )
    max_connection_age_grace_ms: Milliseconds = Field(
        600_000, description="how long the calls of an aged connection may still run, ms"
    )
    stream_window_bytes: WindowBytes = Field(
        MIB,
        description="flow-control window of one call, bytes: what may come of its answer before the caller takes it; "
        "for what comes from a caller never below `route_scan_limit_bytes`, which raises it",
    )
    connection_window_bytes: WindowBytes = Field(
        32 * MIB,
        description="flow-control window of one caller's connection, bytes; never below a call's. It grows by what is "
        "kept of requests. An endpoint's connection, which calls of many share, is never held up by it",
    )
    max_frame_bytes: FrameBytes = Field(64 * 1024, description="largest HTTP/2 frame asked for on both sides, bytes")
    tcp_user_timeout_ms: MillisecondsOrOff = Field(
        20_000, description="sent bytes unacknowledged for this time end a connection on either side, ms; 0 = system's"
    )

    route_scan_limit_bytes: Annotated[int, Field(ge=64, le=2**31 - 1)] | None = Field(
        None, description="how far into a message the route key is looked for, bytes; null: as `max_message_bytes`"
    )
    max_retry_bytes: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(
        4 * MIB, description="request bytes of one call that are kept for a retry; a larger request is sent once"
    )
    max_unread_bytes: HeldBytes = Field(
        256 * MIB,
        description="bytes of answers kept in the process for callers that do not take them; beyond it such calls end. "
        "As many bytes of requests are kept for endpoints that do not take them; beyond it such calls wait",
    )
    connect_timeout_ms: Milliseconds = Field(
        1000, description="an endpoint's name looked up; and again for its TCP connect and HTTP/2 preface, ms"
    )
    max_connections_per_endpoint: Count = Field(
        8, description="connections of one worker to one endpoint; the next opens when the streams are used up"
    )
    keepalive_ms: MillisecondsOrOff = Field(
        300_000,
        description="HTTP/2 PING to an endpoint that was silent for this time while calls run, ms; 0 = never. "
        "gRPC servers close connections that ping more often than every 5 minutes, unless told otherwise",
    )
    keepalive_timeout_ms: Milliseconds = Field(
        20_000, description="how long to wait for the PING's answer, and for the rest of a frame, ms"
    )


class Metrics(Section):
    """What /metrics shows. It holds until a restart."""

    latency_buckets_ms: Annotated[LatencyBuckets, FrozenList] = Field(
        LATENCY_BUCKETS_MS,
        description=f"upper bounds of the histograms, ascending, 1..{MOST_BUCKETS} of them, {LEAST_MS}..{MOST_MS}, ms. "
        "The page shows for each the nearest bound that is counted, at most 4.5 % away",
    )


class Uris(Section):
    """Which data of HTTP requests is fetched by URI. It holds until a restart."""

    hosts: Annotated[tuple[str, ...], FrozenList] = Field(
        (),
        description="hosts that data may come from: `HOST` or `*.DOMAIN` with the scheme's own port, `HOST:PORT`; "
        "none: only `data:` URIs are taken",
    )
    networks: Annotated[tuple[str, ...], FrozenList] = Field(
        (),
        description="networks, `10.0.0.0/8`, whose addresses those hosts may have though they are not public; "
        "loopback, private and link-local addresses are refused otherwise",
    )
    types: Annotated[tuple[str, ...], FrozenList] = Field(
        (), description="media types that are taken, `image/*`: all of a kind; none: all"
    )
    max_bytes: MessageBytes = Field(16 * MIB, description="largest datum, bytes")
    timeout_ms: Milliseconds = Field(5000, description="most that fetching one may take, redirects included, ms")


class CallLimits(Section):
    """How much may be asked for; what is null has no limit. A call beyond a limit is refused at once."""

    requests_per_s: Annotated[float, Field(ge=0.001, le=1e9)] | None = Field(
        None, description="calls per second, and in streams messages per second"
    )
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="of `requests_per_s`: how many may come at once after a rest; null: as many as in a second"
    )
    in_flight: Count | None = Field(None, description="calls at the same time")
    bytes_per_s: Annotated[int, Field(ge=KIB, le=2**40)] | None = Field(
        None,
        description="bytes of requests' messages per second, and at once after a rest. A message is taken while "
        "anything is left, however large it is; what it is over is waited for afterwards",
    )

    @model_validator(mode="after")
    def _has_a_rate(self) -> Self:
        if self.burst is not None and self.requests_per_s is None:
            raise problem("burst without requests_per_s", "set requests_per_s, or remove burst")
        return self


class Traces(Tracing, Section):
    """Traces of calls, sent by OTLP ([tracing](tracing.md)). They hold until a restart."""

    service: Service = Field("dl-inference-access", description="`service.name` of the spans")


class HealthCheck(Section):
    """How endpoints are asked for their health, by grpc.health.v1. One that does not offer it is not asked again."""

    enabled: bool = Field(True, description="whether they are asked")
    interval_ms: Milliseconds = Field(
        5000, description="between two questions, ms; 500 at most while an endpoint does not serve"
    )
    timeout_ms: Milliseconds = Field(1000, description="how long an answer is waited for, ms; none says nothing")
    service: str = Field("", max_length=256, description="what is asked for, a model's name; empty: the whole server")


class ClusterSettings(Section):
    """How calls to the endpoints of a cluster are made."""

    policy: Annotated[str, AfterValidator(_known_policy)] = Field(
        "dwrr", description=f"balancing policy: {', '.join(f'`{name}`' for name in POLICIES)}"
    )
    hash_key: Annotated[str, AfterValidator(_metadata_key)] | None = Field(
        None,
        description="`maglev`: metadata key, as `x-user`; calls with the same value of it go to the same endpoint, in "
        "every access service; calls without it go anywhere. null: all do",
    )
    hash_field: Annotated[str, AfterValidator(_hash_field)] | None = Field(
        None,
        description="`maglev`: the same by a field of the request, for calls without that metadata: `id`, "
        "`parameters.NAME`, `meta.puid`, `meta.tags.NAME` or `model_spec.signature_name` "
        "([which is which](balancing.md#the-same-key-to-the-same-endpoint)). null: none",
    )
    compare_in_flight: bool = Field(
        True,
        description="`dwrr`: a call goes to an endpoint with fewer calls in flight for its weight, where there is one; "
        "`false`: shares follow the weights alone",
    )
    avoid_slow: bool = Field(True, description="endpoints that are much slower than the others get fewer calls")
    eject: bool = Field(
        True, description="an endpoint that fails far more often than the others gets no calls for 1 to 3 seconds"
    )
    admit_by_deadline: bool = Field(
        True, description="a call that no endpoint would answer within its deadline is shed at once"
    )
    use_load_reports: bool = Field(True, description="loads that endpoints report (ORCA) change their shares")
    slow_start_ms: MillisecondsOrOff = Field(
        3000, description="an endpoint that comes back has its whole share after this time, ms; 0: at once"
    )
    slow_start_new_ms: MillisecondsOrOff = Field(
        10_000, description="the same for an endpoint that is added to a cluster, ms; 0: at once"
    )
    tls: Upstream = Field(
        None, description="TLS to the endpoints: `true`, or [its keys](#tls-of-a-cluster); null: without"
    )
    max_in_flight_per_endpoint: Count | None = Field(
        None, description="calls in flight at one endpoint; more go elsewhere or are shed; null: no limit"
    )
    protocol: Protocol | None = Field(
        None, description="`tfs`, `seldon` or `oip`: whose `failure_codes` hold; null: by the method called"
    )
    timeout_ms: Milliseconds = Field(
        60_000, description="time limit of a call, ms; a caller's own deadline can only shorten it"
    )
    attempt_timeout_ms: Milliseconds | None = Field(
        None, description="after this time a call is tried on another endpoint, ms; null: never"
    )
    priority: Priority | None = Field(
        None,
        description="`high`, `normal` or `low`: how much the calls matter at most; a caller may send a lower one as "
        "`x-priority`. null: what callers send holds",
    )
    stream_idle_timeout_ms: Milliseconds = Field(
        300_000, description="a stream ends after this time without a message in either direction, ms"
    )
    max_attempts: Annotated[int, Field(ge=1, le=3)] = Field(
        2, description="attempts of one call, the first included, 1..3; each on another endpoint"
    )
    idempotent: bool = Field(
        True, description="whether a call that may have reached the model can be sent again; `false` forbids it"
    )
    hedge: bool = Field(
        False,
        description="whether a second endpoint is asked when the first takes longer than 95 % of the calls; the first "
        "answer counts, and the other call is cancelled. For idempotent methods of one message each way",
    )
    hedge_budget_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05, description="hedges that each call adds to their budget, at most 20: 0.05 lets hedges add 5 % of load"
    )
    health_check: HealthCheck = Field(
        HealthCheck(), description="how endpoints are asked for their health: [health.md](health.md)"
    )
    retry_codes: Codes = Field(("UNAVAILABLE",), description="gRPC codes that are tried on another endpoint")
    failure_codes: Annotated[Codes, AfterValidator(_never_resource_exhausted)] | None = Field(
        None,
        description="gRPC codes that count against the endpoint; null: UNAVAILABLE, INTERNAL, UNKNOWN and DATA_LOSS, "
        "for Seldon's methods UNAVAILABLE and DATA_LOSS",
    )
    max_in_flight: Count = Field(1024, description="calls in flight in the cluster; more are shed")
    retry_budget_ratio: Annotated[float, Field(ge=0, le=10)] = Field(
        0.2, description="retries that each call adds to the budget: 0.2 lets retries add 20 % of load"
    )
    retry_budget_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = Field(
        10.0, description="retries that each second adds to the budget"
    )
    retry_budget_cap: Annotated[float, Field(ge=0, le=1_000_000)] = Field(
        100.0, description="most retries that the budget holds, and its content at the start"
    )


class ClusterConfig(ClusterSettings):
    """Endpoints that several models share."""

    endpoints: EndpointList = Field(description="list of addresses, or of `{address, weight}`; at least one")


class Target(ClusterSettings):
    """Where calls go: exactly one of `cluster`, `endpoints` and `discovery`; other keys need one of the last two."""

    cluster: Name | None = Field(None, description="a cluster of `clusters`")
    endpoints: EndpointList | None = Field(None, description="endpoints of this target alone")
    discovery: AnySource | None = Field(None, description="source of this target's endpoints: the model's entry in it")


class SplitTarget(Target):
    """One part of a split."""

    weight: Annotated[int, Field(ge=0, le=MAX_WEIGHT)] = Field(
        1, description="share of the calls, relative to the other parts; 0: none"
    )


Split = Annotated[tuple[SplitTarget, ...], FrozenList, Field(min_length=1)]


class Route(Target):
    """Where the calls of one version or label go: a target, or `split` instead."""

    split: Split | None = Field(None, description="list of targets with weights, instead of one target")


class ModelConfig(Route):
    """Where a route key's calls go."""

    versions: dict[Name, Route] = Field(
        {}, description="version or label -> where it goes; others pass through to the model's own target"
    )
    limits: CallLimits | None = Field(
        None, description="how much may be asked of the model, by all callers together; null: as `model_limits`"
    )


class AccessConfig(Section):
    """The whole file."""

    listen: Listens = Field(
        ("127.0.0.1:8500",),
        description="address or list of addresses for all protocols: `host:port`, `[v6]:port`, `unix:/path`; with TLS "
        "`{address, tls}`. "
        "Restart to change",
    )
    admin: Port | None = Field(
        "127.0.0.1:8502", description="address of `/metrics /ready /live /status`; null: none. Restart to change"
    )
    workers: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="worker threads; null: one per usable core. Restart to change"
    )
    expose_endpoints: bool = Field(
        False, description="name the endpoint that answered in the trailer `access-endpoint`. Restart to change"
    )
    admin_methods: bool = Field(
        False, description="forward methods that change or load models on the endpoints. Restart to change"
    )
    access_log: str | None = Field(
        None, description="file that gets one JSON line per call; `-`: standard output; null: off. Restart to change"
    )
    callers: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="file that says who may call what ([callers.md](callers.md)), followed while the service runs; a "
        "relative path starts at the configuration's folder; null: everybody may call everything. Restart to change",
    )
    audit_log: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="file that gets a JSON line for each change of the configuration, of releases, models and by "
        "upgrades ([the audit log](metrics.md#the-audit-log)); a relative path starts at the configuration's folder; "
        "null: the log has them. Restart to change",
    )
    state_dir: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="folder that keeps the last good state of DNS and ZooKeeper sources, so that the service can start "
        "while one of them is down; a relative path starts at the configuration's folder; null: none",
    )
    drain_timeout_ms: Milliseconds = Field(
        30_000, description="how long calls in flight may still run after SIGTERM, ms"
    )
    upgrade_timeout_ms: Milliseconds = Field(
        60_000, description="how long the process that is to go on after SIGUSR2 may take to be ready, ms"
    )
    default_cluster: Name | None = Field(
        None, description="cluster of calls whose model has no route, or that name no model"
    )
    limits: Limits = Field(default_factory=Limits, description="limits of the process. Restart to change")
    metrics: Metrics = Field(default_factory=Metrics, description="what /metrics shows. Restart to change")
    tracing: Traces = Field(default_factory=Traces, description="traces of calls. Restart to change")
    uris: Uris = Field(default_factory=Uris, description="data of HTTP requests by URI. Restart to change")
    cluster_defaults: ClusterSettings = Field(
        default_factory=ClusterSettings,
        description="settings of all clusters that do not set their own, discovered ones too",
    )
    model_limits: CallLimits | None = Field(
        None, description="limits of each model that does not set its own `limits`, discovered ones too"
    )
    instances: Annotated[int, Field(ge=1, le=1000)] = Field(
        1,
        description="access services that callers are spread over evenly: each allows its part of every limit of a "
        "model ([the rule](call-limits.md#several-access-services))",
    )
    shared_limits: SharedLimits | None = Field(
        None,
        description="[Redis](#shared_limits) by which access services share limits as they need them; while it is lost "
        "`instances` holds; null: always",
    )
    clusters: dict[Name, ClusterConfig] = Field({}, description="endpoints that several models share")
    models: dict[Name, ModelConfig] = Field({}, description="route key -> where it goes")
    discovery: Annotated[tuple[AnySource, ...], FrozenList] = Field(
        (), description="sources of endpoints; each entry becomes a model, unless `models` has it"
    )


START_ONLY = (
    "listen",
    "admin",
    "workers",
    "expose_endpoints",
    "admin_methods",
    "access_log",
    "callers",
    "audit_log",
    "limits",
    "metrics",
    "tracing",
    "uris",
)
"""Keys that a running process cannot change."""
