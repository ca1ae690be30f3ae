"""Configuration and discovered endpoints -> the two documents of the data plane. Pure: no files, no clock.

Clusters have stable names, so that statistics survive a reload: a cluster of `clusters` and a model's own
(inline or discovered) have the plain name; parts of a split are ``model/split/0``, of a version ``model@3``.

A release document in a source wins over what the configuration says of its model: see `access.released`.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from access import listening
from access.config.sections import (
    FAILURE_CODES,
    AccessConfig,
    CallLimits,
    ClusterSettings,
    ModelConfig,
    Route,
    SplitTarget,
    Target,
)
from access.discovery.base import ANY_MODEL, Entry, Snapshot, SourceConfig
from access.fields import EndpointConfig, Section
from access.released import released
from dl_inference.address import normal
from dl_inference.problem import Problem
from dl_inference.serving.limits import ServerLimits

# What a cluster's document takes over from its settings as it is; the rest is worked out here.
_SAME = tuple(name for name in ClusterSettings.model_fields if name not in ("protocol", "failure_codes", "tls"))

_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, slots=True)
class Routing:
    """A whole routing state.

    Attributes:
        state: the StateConfig document (dataplane/crates/core/src/config.rs).
        warnings: what of the discovered entries could not be used; the rest stands.
    """

    state: dict[str, Any]
    warnings: tuple[Problem, ...] = ()


def source_key(source: SourceConfig) -> str:
    """Return the identity of a source: the same text for the same configuration."""
    return source.model_dump_json()


def sources(config: AccessConfig) -> dict[str, SourceConfig]:
    """Return every discovery source that the configuration names, once, by its key."""
    found = [*config.discovery]
    for model in config.models.values():
        for route in (model, *model.versions.values()):
            found += [target.discovery for target in (route, *(route.split or ())) if target.discovery]
    return {source_key(source): source for source in found}


def process(config: AccessConfig, folder: Path = Path()) -> dict[str, Any]:
    """Return the ProxyConfig document: what cannot change while the process runs; `folder`: where its paths start."""
    limits = config.limits.model_dump()
    scan = limits["route_scan_limit_bytes"]
    limits["route_scan_limit_bytes"] = scan = limits["max_message_bytes"] if scan is None else scan
    # A caller may have to send this much before the route key is found and its cluster takes bytes off; 5 bytes
    # are the gRPC frame's head.
    limits["stream_window_bytes"] = max(limits["stream_window_bytes"], min(scan + 5, 2**31 - 1))
    limits["connection_window_bytes"] = max(limits["connection_window_bytes"], limits["stream_window_bytes"])
    server = ServerLimits.model_fields
    return {
        "listen": [listening.document(each, folder) for each in config.listen],
        "admin": None if config.admin is None else listening.document(config.admin, folder),
        "workers": config.workers or cores(),
        "expose_endpoints": config.expose_endpoints,
        "admin_methods": config.admin_methods,
        "owns_models": False,  # the endpoints do
        "access_log": config.access_log,
        "tracing": config.tracing.document(),
        "latency_buckets_ms": list(config.metrics.latency_buckets_ms),
        "limits": {name: value for name, value in limits.items() if name in server},
        "upstream": {
            **{name: value for name, value in limits.items() if name not in server},
            "stream_window_bytes": config.limits.stream_window_bytes,
        },
        "uris": config.uris.model_dump(mode="json"),
    }


def routing(
    config: AccessConfig,
    snapshots: Mapping[str, Snapshot],
    folder: Path = Path(),
    *,
    is_own: Callable[[str], bool] = lambda address: False,
) -> Routing:
    """Return the whole routing state.

    Args:
        config: a configuration that `access.config.load` has checked.
        snapshots: what each source of `sources(config)` says, by its key.
        folder: where relative paths of the configuration start.
        is_own: tells whether an address is the access service's own: one that a source names is left out.
    """
    builder = _Builder(config, snapshots, folder, is_own)
    for name, cluster in config.clusters.items():
        builder.add_cluster(name, cluster, cluster.endpoints)
    for name, model in config.models.items():
        builder.add_model(name, model)
    for source in config.discovery:
        builder.add_discovered(source)
    return Routing(builder.state(), tuple(builder.warnings))


def cluster(
    defaults: ClusterSettings,
    name: str,
    given: ClusterSettings,
    endpoints: Sequence[EndpointConfig],
    folder: Path = Path(),
) -> dict[str, Any]:
    """Return a cluster of the routing state.

    Args:
        defaults: what holds where `given` says nothing.
        name: of the cluster.
        given: what its owner said.
        endpoints: with distinct addresses; may be none.
        folder: where relative paths of the settings start.
    """
    own = {key: getattr(given, key) for key in given.model_fields_set & ClusterSettings.model_fields.keys()}
    settings = defaults.model_copy(update=own)
    return {
        "name": name,
        "endpoints": [{"address": each.address, "weight": each.weight} for each in endpoints],
        "failure_codes": _failure_codes(settings),
        "tls": None if settings.tls is None else settings.tls.document(folder),
        "restart_wait_ms": 0,  # nobody here starts endpoints
        "unloaded": None,
        **{key: _plain(getattr(settings, key)) for key in _SAME},
    }


def model_limits(config: AccessConfig, given: CallLimits | None) -> dict[str, Any] | None:
    """Return a model's limits as the routing state has them; None where there are none."""
    limits = given or config.model_limits
    return None if limits is None else call_limits(limits, config.instances)


def call_limits(limits: CallLimits, instances: int) -> dict[str, Any]:
    """Return limits as the data plane has them, shared by so many access services."""
    given = limits.model_dump(include=set(CallLimits.model_fields))
    return {**given, "burst": limits.burst or math.ceil(limits.requests_per_s or 1), "instances": instances}


def cores() -> int:
    """Return how many cores this process may use: its affinity, and a container's CPU quota rounded up."""
    available = len(os.sched_getaffinity(0))
    try:
        quota, period = _CGROUP_CPU.read_text().split()
        return max(1, min(available, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2, or no quota ("max")
        return available


@dataclass(slots=True)
class _Builder:
    config: AccessConfig
    snapshots: Mapping[str, Snapshot]
    folder: Path
    is_own: Callable[[str], bool]
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)

    def add_cluster(self, name: str, given: ClusterSettings, endpoints: tuple[EndpointConfig, ...]) -> None:
        self.clusters[name] = made = cluster(self.config.cluster_defaults, name, given, endpoints, self.folder)
        self._check_affinity(made, given.model_fields_set)

    def _check_affinity(self, made: Mapping[str, Any], own: set[str]) -> None:
        """Warn of a policy that has no key, and of a key that the policy does not use."""
        policy, keys = made["policy"], [key for key in ("hash_key", "hash_field") if made[key] is not None]
        place = f"cluster {made['name']}" if own & {"policy", *keys} else "cluster_defaults"
        if policy == "maglev" and not keys:
            problem = Problem(place, "policy maglev without a key: calls go anywhere", "set hash_key or hash_field")
        # A default may be meant for those clusters that choose maglev.
        elif policy != "maglev" and own & set(keys):
            what = f"{' and '.join(keys)} does nothing with policy {policy}"
            problem = Problem(place, what, "set policy: maglev, or remove it")
        else:
            return
        if problem not in self.warnings:
            self.warnings.append(problem)

    def add_model(self, name: str, model: ModelConfig) -> None:
        found = self._released_entry(name, model)
        if found is not None:
            self._add_released(name, found, model)
            return
        versions = {version: self.split(name, f"{name}@{version}", each) for version, each in model.versions.items()}
        split = self.split(name, name, model)
        self.models[name] = {
            "name": name,
            "alias_of": None,
            "split": split,
            "versions": versions,
            "labels": {},
            "pass_through": True,
            "limits": self._limits(model),
        }

    def split(self, model: str, cluster: str, route: Route) -> list[dict[str, Any]]:
        """Return where a route's calls go; add the clusters that are written in place."""
        parts: Iterator[tuple[str, Target]] = iter([(cluster, route)])
        if route.split is not None:
            parts = ((f"{cluster}/split/{index}", part) for index, part in enumerate(route.split))
        return [
            {"cluster": name, "weight": target.weight if isinstance(target, SplitTarget) else 1}
            for place, target in parts
            if (name := self._cluster_of(model, place, target)) is not None
        ]

    def add_discovered(self, source: SourceConfig) -> None:
        for key, entry in self.snapshots[source_key(source)].entries.items():
            if key == ANY_MODEL:
                self.warnings.append(
                    Problem(
                        f"{source.kind} source",
                        "it does not say whose endpoints these are",
                        "name it under models.NAME.discovery, or give it `entries`",
                    )
                )
                continue
            if key in self.config.models:  # what the file says about one model wins over a list of many
                continue
            # Under a release document no cluster is called like its model.
            if key in self.models or key in self.clusters:
                what = "another source has it already" if key in self.models else "a cluster has that name"
                self.warnings.append(
                    Problem(f"{source.kind} {key}", f"the entry is skipped: {what}", "give one of them another name")
                )
                continue
            self._add_released(key, self._usable(f"{source.kind} {key}", entry), ClusterSettings())

    def state(self) -> dict[str, Any]:
        default = self.config.default_cluster
        if default is not None and default not in self.clusters:
            self.warnings.append(Problem("default_cluster", f"no source names {default!r} now", "it is left out"))
            default = None
        return {
            "clusters": list(self.clusters.values()),
            "models": list(self.models.values()),
            "default_cluster": default,
        }

    def _cluster_of(self, model: str, place: str, target: Target) -> str | None:
        if target.cluster is not None:
            return target.cluster
        if target.endpoints is not None:
            self.add_cluster(place, target, target.endpoints)
            return place
        if target.discovery is None:  # only versions are routed
            return None
        entry = self._entry(target.discovery, model)
        if entry is None:
            self.warnings.append(
                Problem(
                    f"{target.discovery.kind} {model}", "the source has no such entry", "its calls get no_endpoints"
                )
            )
            entry = Entry(())
        entry = self._usable(f"{target.discovery.kind} {model}", entry)
        part = released(place, replace(entry, release=None), target).parts[0]
        self.add_cluster(place, part.settings, part.endpoints)
        return place

    def _entry(self, source: SourceConfig, model: str) -> Entry | None:
        entries = self.snapshots[source_key(source)].entries
        return entries.get(model, entries.get(ANY_MODEL))

    def _released_entry(self, name: str, model: ModelConfig) -> Entry | None:
        """Return the entry that decides over a configured model: the model's own source's, or one with releases."""
        own = [model.discovery] if model.discovery else []
        for source in (*own, *self.config.discovery):
            entry = self._entry(source, name)
            is_whole = source is model.discovery and not model.versions
            if entry is not None and (entry.release is not None or is_whole):
                return self._usable(f"{source.kind} {name}", entry)
        return None

    def _add_released(self, name: str, entry: Entry, given: ClusterSettings) -> None:
        routes = released(name, entry, given)
        for part in routes.parts:
            self.add_cluster(part.name, part.settings, part.endpoints)
        if name == self.config.default_cluster and name not in self.clusters:
            parts = [part for part in routes.parts if part.name in routes.split]
            self.add_cluster(name, parts[0].settings, tuple(each for part in parts for each in part.endpoints))
        self.models[name] = {
            "name": name,
            "alias_of": None,
            "split": [{"cluster": cluster, "weight": weight} for cluster, weight in routes.split.items()],
            "versions": {version: [{"cluster": cluster, "weight": 1}] for version, cluster in routes.versions.items()},
            "labels": dict(routes.labels),
            "pass_through": routes.passes_through,
            "limits": self._limits(self.config.models.get(name)),
        }
        self.warnings += routes.warnings

    def _limits(self, model: ModelConfig | None) -> dict[str, Any] | None:
        return model_limits(self.config, model.limits if model is not None else None)

    def _usable(self, place: str, entry: Entry) -> Entry:
        """Return the entry without the access service's own addresses, and each other one once."""
        found: dict[str, EndpointConfig] = {}
        for each in entry.endpoints:
            if self.is_own(each.address):
                reason = f"{each.address} is this access service itself: calls would go round in a circle"
                remedy = "announce the model server's address"
            elif (first := found.setdefault(normal(each.address), each)) is not each:
                reason, remedy = f"{each.address} is {first.address}, written in another way", "name it once"
            else:
                continue
            self.warnings.append(Problem(place, f"{reason}; it is left out", remedy))
        return replace(entry, endpoints=tuple(found.values()))


def _failure_codes(settings: ClusterSettings) -> dict[str, list[str]]:
    if settings.failure_codes is not None:
        return {protocol: list(settings.failure_codes) for protocol in FAILURE_CODES}
    return {protocol: list(FAILURE_CODES[settings.protocol or protocol]) for protocol in FAILURE_CODES}


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.model_dump()
    return list(value) if isinstance(value, tuple) else value
