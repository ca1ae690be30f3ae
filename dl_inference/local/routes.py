"""Models -> the routing state. Pure: no processes, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from access.config.sections import AccessConfig, ClusterSettings
from access.fields import EndpointConfig
from access.state import cluster, model_limits
from dl_inference.local.models import Model

# A call is sent again as often as the process dies that has it: a request that kills two, and others that do so at the
# same time. Those that were in the dead process all come at once.
_WHERE_PROCESSES_DIE = {"max_attempts": 6, "retry_budget_cap": 10_000.0, "retry_budget_per_second": 1_000.0}


@dataclass(frozen=True)
class Routes:
    """A whole routing state.

    Attributes:
        state: the StateConfig document (dataplane/crates/core/src/config.rs).
        warnings: names that could not be given to a model because another one has them.
        owners: every name that is routed -> the model's own.
    """

    state: dict[str, Any]
    warnings: tuple[str, ...]
    owners: Mapping[str, str]


def routing(config: AccessConfig, models: Iterable[Model]) -> Routes:
    """Return the routes of all models, by name, version, label and alias.

    A version is a cluster ``digits@3``. One whose first process still loads, or fails, has a cluster without
    endpoints: its calls get UNAVAILABLE. A version that is not in the folder, and a model without a layout, has no
    route. The only folder there is becomes
    the default cluster.
    """
    models = sorted(models, key=lambda model: model.name)
    clusters: dict[str, dict[str, Any]] = {}
    routed: dict[str, dict[str, Any]] = {}
    for model in models:
        if model.layout is not None:
            routed[model.name] = _model(config, model, clusters)
    default = None
    if len(models) == 1 and routed:
        default = next(iter(routed.values()))["split"][0]["cluster"]
    owners, warnings = _add_aliases(models, routed)
    state = {"clusters": list(clusters.values()), "models": list(routed.values()), "default_cluster": default}
    return Routes(state, tuple(warnings), {name: owners[name] for name in routed})


def _model(config: AccessConfig, model: Model, clusters: dict[str, dict[str, Any]]) -> dict[str, Any]:
    assert model.layout is not None  # the caller looked
    settings = ClusterSettings(timeout_ms=model.layout.timeout_ms, priority=model.layout.priority)
    serving = model.serving()

    def add(version: int) -> list[dict[str, Any]]:
        name = f"{model.name}@{version}"
        addresses = serving[version].addresses if version in serving else ()
        endpoints = [EndpointConfig(address=address) for address in addresses]
        clusters[name] = cluster(config.cluster_defaults, name, settings, endpoints)
        if not addresses:
            clusters[name]["unloaded"] = model.wanted.route(model.name)
        if version in serving and serving[version].is_coming_back:
            clusters[name] |= {**_WHERE_PROCESSES_DIE, "restart_wait_ms": clusters[name]["timeout_ms"]}
        return [{"cluster": name, "weight": 1}]

    default = model.default.version if model.default is not None else model.layout.default
    versions = {str(version): add(version) for version in sorted({*serving, *model.layout.served})}
    labels = {
        # One that moves to a version that still loads is answered meanwhile.
        label: str(version if version in serving else default)
        for label, version in model.layout.labels.items()
    }
    versions.setdefault(str(default), add(default))
    if model.layout.kind == "TensorFlow":  # its processes read the labels themselves, and are new when one moves
        versions |= {label: versions[version] for label, version in labels.items()}
        labels = {}
    return {
        "name": model.name,
        "alias_of": None,
        "split": add(default),
        "versions": versions,
        "labels": labels,
        "pass_through": False,  # the default version's process would answer as another version
        "limits": model_limits(config, None),
    }


def _add_aliases(models: list[Model], routed: dict[str, dict[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """Route further names as the model that they belong to; a folder's name wins over an alias.

    Returns:
        Name -> the model's own; warnings.
    """
    warnings = []
    owners = {model.name: model.name for model in models}
    for model in models:
        for alias in _aliases(model):
            if alias in owners:
                if owners[alias] != model.name:
                    warnings.append(f"{model.name}: the alias {alias} is left out: {owners[alias]} has that name")
                continue
            owners[alias] = model.name
            routed[alias] = _aliased(model, alias, routed[model.name])
    return owners, warnings


def _aliases(model: Model) -> Iterable[str]:
    """Return the further names that the process of the default version answers to, or will once there is one.

    A new alias is routed when the new process has taken over, and one that is taken away until then: no call gets to a
    process that does not know the name.
    """
    if model.layout is None:
        return ()
    known = model.default.aliases if model.default is not None else model.layout.aliases
    return dict.fromkeys(known)


def _aliased(model: Model, alias: str, routes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's routes under another name: of its versions those whose processes answer to it."""
    strangers = {f"{model.name}@{version}" for version, group in model.serving().items() if alias not in group.aliases}
    versions = {each: split for each, split in routes["versions"].items() if split[0]["cluster"] not in strangers}
    labels = {label: version for label, version in routes["labels"].items() if version in versions}
    return {**routes, "name": alias, "alias_of": model.name, "versions": versions, "labels": labels}
