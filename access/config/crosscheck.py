"""What keys of the configuration must agree on with each other.

Looks at the plain data, not at the validated models, so that these problems are reported together with all others.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from access import listening
from access.config.key_types import nearest
from access.config.sections import ClusterSettings
from access.document import Path
from access.own_addresses import OwnAddresses
from dl_inference.address import fault

_GOES_TO = ("cluster", "endpoints", "discovery", "split")
_SETTINGS = tuple(ClusterSettings.model_fields)


class Finding(NamedTuple):
    """A problem at a path of the configuration."""

    path: Path
    message: str
    remedy: str


class _TargetData(NamedTuple):
    path: Path
    data: Mapping[str, Any]
    may_be_empty: bool


def findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield every disagreement in the configuration's plain data, which may be of any shape."""
    own = {name for name, model in _mapping(data.get("models")).items() if _has_own_cluster(model)}
    shared = set(_mapping(data.get("clusters")))
    for name in sorted(own & shared):
        yield Finding(
            ("models", name), f"{name} is also the name of a cluster in `clusters`", f"write `{{cluster: {name}}}`"
        )
    for target in _targets(data):
        yield from _target(target, own | shared)
    yield from _timeouts(data)
    default = data.get("default_cluster")
    if isinstance(default, str) and default not in own | shared and not data.get("discovery"):
        yield Finding(("default_cluster",), f"there is no cluster {default!r}", nearest(default, own | shared))
    if not any(data.get(key) for key in ("models", "discovery", "default_cluster")):
        yield Finding((), "nothing to route", "give `models`, `discovery` or `default_cluster`")
    yield from _listeners(data)
    yield from _circles(data)


def _target(target: _TargetData, clusters: set[str]) -> Iterator[Finding]:
    given = [key for key in _GOES_TO if target.data.get(key) is not None]
    if len(given) > 1:
        yield Finding(target.path, f"{' and '.join(given)} at once", "keep one of them")
    elif not given and not target.may_be_empty:
        yield Finding(target.path, "says nowhere to go", "give `cluster`, `endpoints`, `discovery` or `split`")
    name = target.data.get("cluster")
    if isinstance(name, str) and name not in clusters:
        yield Finding((*target.path, "cluster"), f"there is no cluster {name!r}", nearest(name, clusters))
    if given in (["cluster"], ["split"], []):
        for key in _SETTINGS:
            if key in target.data:
                where = f"under clusters.{name}" if given == ["cluster"] else "beside the `endpoints` it is meant for"
                yield Finding((*target.path, key), f"{key} has no effect here", f"write it {where}")
    parts = target.data.get("split")
    if isinstance(parts, list) and parts and all(_mapping(part).get("weight") == 0 for part in parts):
        yield Finding((*target.path, "split"), "every weight is 0", "give one a weight")


def _targets(data: Mapping[str, Any]) -> Iterator[_TargetData]:
    for name, model in _mapping(data.get("models")).items():
        path: Path = ("models", name)
        versions = _mapping(_mapping(model).get("versions"))
        yield from _route(path, model, bool(versions))
        for version, route in versions.items():
            yield from _route((*path, "versions", version), route, False)


def _route(path: Path, route: Any, may_be_empty: bool) -> Iterator[_TargetData]:
    if not isinstance(route, Mapping):  # the models' own validation says so
        return
    yield _TargetData(path, route, may_be_empty)
    parts = route.get("split")
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        if isinstance(part, Mapping):
            yield _TargetData((*path, "split", index), part, False)


def _timeouts(data: Mapping[str, Any]) -> Iterator[Finding]:
    defaults = _mapping(data.get("cluster_defaults"))
    sections: list[tuple[Path, Mapping[str, Any]]] = [(("cluster_defaults",), defaults)]
    sections += [(("clusters", name), _mapping(cluster)) for name, cluster in _mapping(data.get("clusters")).items()]
    sections += [(target.path, target.data) for target in _targets(data)]
    for path, settings in sections:
        if "attempt_timeout_ms" not in settings and "timeout_ms" not in settings:
            continue
        attempt, whole = (
            settings.get(key, defaults.get(key, ClusterSettings.model_fields[key].default))
            for key in ("attempt_timeout_ms", "timeout_ms")
        )
        if isinstance(attempt, int) and isinstance(whole, int) and attempt >= whole:
            yield Finding(
                path,
                f"attempt_timeout_ms {attempt} is not below timeout_ms {whole}: no time would be left to try again",
                "make it smaller, or leave it out",
            )


def _listeners(data: Mapping[str, Any]) -> Iterator[Finding]:
    addresses = listening.addresses(data.get("listen"))
    everything = [*addresses, *listening.addresses(data.get("admin"))]
    for index, address in enumerate(everything):
        if isinstance(address, str) and not address.endswith(":0") and address in everything[:index]:
            path: Path = ("admin",) if index == len(addresses) else ("listen", index)
            yield Finding(path, f"{address} is listened on already", "give another port")


def _circles(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield endpoints that are the access service itself."""
    addresses = listening.addresses(data.get("listen"))
    known = [each for each in addresses if isinstance(each, str) and not fault(each) and not each.endswith(":0")]
    own = OwnAddresses(known)
    places: list[tuple[Path, Mapping[str, Any]]] = [
        (("clusters", name), _mapping(cluster)) for name, cluster in _mapping(data.get("clusters")).items()
    ]
    places += [(target.path, target.data) for target in _targets(data)]
    for path, place in places:
        endpoints = place.get("endpoints")
        for index, endpoint in enumerate(endpoints if isinstance(endpoints, list) else ()):
            address = _mapping(endpoint).get("address") if isinstance(endpoint, Mapping) else endpoint
            if isinstance(address, str) and not fault(address) and own.contains(address):
                text = f"{address} is this access service itself: every call to it would come back here"
                yield Finding((*path, "endpoints", index), text, "name the model server, or give it another port")


def _has_own_cluster(model: Any) -> bool:
    return any(_mapping(model).get(key) is not None for key in ("endpoints", "discovery"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
