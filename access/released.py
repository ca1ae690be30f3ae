"""One route key of a source -> its clusters and routes: by its release document, or by its endpoints' versions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from access.config.sections import ClusterSettings
from access.discovery.base import Announced, Entry
from access.fields import EndpointConfig
from dl_inference.problem import Problem
from dl_inference.registry.schema import Release, ReleaseDocument


@dataclass(frozen=True, slots=True)
class Part:
    """A cluster that a route key needs.

    Attributes:
        name: of the cluster.
        settings: what its source and its release document say.
        endpoints: distinct addresses; may be none.
    """

    name: str
    settings: ClusterSettings
    endpoints: tuple[EndpointConfig, ...]


@dataclass(frozen=True, slots=True)
class Released:
    """Where the calls of one route key go.

    Attributes:
        parts: its clusters.
        split: cluster -> weight, for calls that ask for no version.
        versions: version -> cluster; so are labels that endpoints know themselves.
        labels: label -> version.
        passes_through: whether other versions go where calls without a version go.
        warnings: what of it cannot be followed.
    """

    parts: tuple[Part, ...]
    split: Mapping[str, int]
    versions: Mapping[str, str]
    labels: Mapping[str, str]
    passes_through: bool
    warnings: tuple[Problem, ...] = ()


def released(model: str, entry: Entry, given: ClusterSettings) -> Released:
    """Work out the routes of a route key.

    Args:
        model: the route key, which the clusters are called by: ``model``, ``model@3``.
        entry: what the source says.
        given: what access.yaml says for this model; a release document wins over it, and it over `entry.timeout_ms`.
    """
    if entry.timeout_ms is not None:
        given = _with(given, timeout_ms=entry.timeout_ms, only_missing=True)
    if entry.protocol is not None:
        given = _with(given, protocol=entry.protocol, only_missing=True)
    if entry.release is None:
        return _by_announcement(model, entry, given)
    return _by_document(model, entry, entry.release, given)


def _by_announcement(model: str, entry: Entry, given: ClusterSettings) -> Released:
    """Every endpoint has its share; who asks for a version or a label gets one that has it."""
    parts = [Part(model, given, entry.endpoints)]
    versions = {}
    for asked, endpoints in _asked(entry).items():
        versions[asked] = model
        if len(endpoints) < len(entry.endpoints):
            versions[asked] = f"{model}@{asked}"
            parts.append(Part(f"{model}@{asked}", given, endpoints))
    if all(cluster == model for cluster in versions.values()):
        versions = {}  # nothing to choose from
    return Released(tuple(parts), {model: 1}, versions, {}, True)


def _by_document(model: str, entry: Entry, document: ReleaseDocument, given: ClusterSettings) -> Released:
    given = _given_by(document, given)
    parts: dict[str, Part] = {}
    split: dict[str, int] = {}
    versions: dict[str, str] = {}
    warnings: list[Problem] = []
    shares = document.shares()
    for version in sorted({*document.releases, *_all_versions(entry)}):
        release = document.releases.get(version)
        settings = given
        if release is not None:
            settings = _given_by(release, given)
        name = f"{model}@{version}"
        unasked = tuple(each for each in entry.endpoints if isinstance(each, Announced) and each.version == version)
        asked = tuple(each for each in entry.endpoints if _answers(each, version))
        if unasked or not asked:
            parts[name] = Part(name, settings, unasked)
        if version in shares and unasked:
            split[name] = shares[version]
        elif version in shares:
            warnings.append(_unserved(model, version, document, answers_when_asked=bool(asked)))
        versions[version] = name
        if len(asked) > len(unasked):
            versions[version] = f"{name}/asked"
            parts[versions[version]] = Part(versions[version], settings, asked)
    if not split:  # nothing serves what is released: the calls are told so, with the name that they could wait for
        split = {f"{model}@{version}": weight for version, weight in shares.items() if f"{model}@{version}" in parts}
    if not split:
        parts[model] = Part(model, given, ())
        split = {model: 1}
    for label, endpoints in _labelled(entry).items():
        if label not in document.labels:
            versions[label] = f"{model}@{label}"
            parts[versions[label]] = Part(versions[label], given, endpoints)
    labels = {label: version for label, version in document.labels.items() if version in versions}
    return Released(tuple(parts.values()), split, versions, labels, False, tuple(warnings))


def _unserved(model: str, version: str, document: ReleaseDocument, *, answers_when_asked: bool) -> Problem:
    why = "no endpoint announces it"
    if answers_when_asked:
        why = "its endpoints answer with another version unless asked"
    return Problem(
        f"releases of {model}, revision {document.revision}",
        f"version {version} has a share, but {why}: the others take its calls",
        "start an endpoint that serves it, or end its release",
    )


def _all_versions(entry: Entry) -> Iterator[str]:
    for each in entry.endpoints:
        if isinstance(each, Announced):
            yield from (*((each.version,) if each.version else ()), *each.versions)


def _asked(entry: Entry) -> dict[str, tuple[EndpointConfig, ...]]:
    """Return who answers when a version, or a label, is asked for."""
    versions = sorted(set(_all_versions(entry)))
    found = {version: tuple(each for each in entry.endpoints if _answers(each, version)) for version in versions}
    return found | _labelled(entry)


def _labelled(entry: Entry) -> dict[str, tuple[EndpointConfig, ...]]:
    """Return which endpoints know a label: what it means each of them says itself."""
    announced = [each for each in entry.endpoints if isinstance(each, Announced)]
    labels = sorted({label for each in announced for label in each.labels})
    return {label: tuple(each for each in announced if label in each.labels) for label in labels}


def _answers(endpoint: EndpointConfig, version: str) -> bool:
    return isinstance(endpoint, Announced) and (endpoint.version == version or version in endpoint.versions)


def _given_by(release: ReleaseDocument | Release, given: ClusterSettings) -> ClusterSettings:
    return _with(
        given,
        timeout_ms=release.timeout_ms,
        attempt_timeout_ms=release.attempt_timeout_ms,
        priority=release.priority,
    )


def _with(settings: ClusterSettings, *, only_missing: bool = False, **values: object) -> ClusterSettings:
    given = settings.model_fields_set if only_missing else ()
    return settings.model_copy(update={k: v for k, v in values.items() if v is not None and k not in given})
