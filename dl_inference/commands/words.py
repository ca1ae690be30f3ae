"""What the registry says, in words for people: ages, and of release documents shares and what a change did."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from dl_inference.registry.schema import Release, ReleaseDocument


def plain(text: object) -> str:
    """Return a text of somebody else's without what a terminal would obey."""
    return "".join(each if each.isprintable() else "\ufffd" for each in str(text))


def ago(seconds: float) -> str:
    """Return a time that has passed, for people."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def since(text: str) -> str:
    """Return how long ago an ISO 8601 time was; the text itself where it is none."""
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        return text
    return ago((datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds())


def percent(document: ReleaseDocument | None) -> dict[str, float]:
    """Return version -> share of the calls that ask for no version, 0..100; of the versions that have one."""
    shares = document.shares() if document else {}
    total = sum(shares.values())
    return {version: 100 * weight / total for version, weight in shares.items()}


def standing(document: ReleaseDocument | None, version: str) -> str:
    """Return phase and share of a version, such as ``canary 4.8 %``; empty where it is not released."""
    release = document.releases.get(version) if document else None
    if release is None:
        return ""
    priority = f", priority {release.priority}" if release.priority else ""
    if release.phase == "staging":
        return f"staging, when asked for{priority}"
    return f"{release.phase} {_share(percent(document).get(version, 0.0))}{priority}"


def differences(before: ReleaseDocument | None, after: ReleaseDocument) -> list[str]:
    """Return what a change did, a line for each thing."""
    releases = before.releases if before else {}
    found = [line for version in {**releases, **after.releases} for line in _release(before, after, version)]
    old_labels = before.labels if before else {}
    for label in {**old_labels, **after.labels}:
        if old_labels.get(label) != after.labels.get(label):
            found.append(f"label {label}: {old_labels.get(label, 'none')} -> {after.labels.get(label, 'none')}")
    skip = {"schema", "model", "revision", "author", "time", "reason", "releases", "labels"}
    return found + list(_keys("", _plain_keys(before) if before else {}, _plain_keys(after), skip))


def _release(before: ReleaseDocument | None, after: ReleaseDocument, version: str) -> Iterator[str]:
    old, new = before.releases.get(version) if before else None, after.releases.get(version)
    if new is None:
        yield f"version {version}: no longer released"
        return
    if old is None:
        yield f"version {version}: released, {_words(new)}"
        return
    if old.phase != new.phase:
        yield f"version {version}: {old.phase} -> {new.phase}"
    yield from _keys(f"version {version}: ", _plain_keys(old), _plain_keys(new), {"phase"})


def _words(release: Release) -> str:
    return ", ".join(
        [release.phase, *(f"{key} {value}" for key, value in _plain_keys(release).items() if key != "phase")]
    )


def _keys(place: str, old: Mapping[str, Any], new: Mapping[str, Any], skip: set[str]) -> Iterator[str]:
    for key in {**old, **new}:
        if key not in skip and old.get(key) != new.get(key):
            yield f"{place}{key} {_value(old.get(key))} -> {_value(new.get(key))}"


def _plain_keys(document: Release | ReleaseDocument) -> dict[str, Any]:
    return document.model_dump(mode="json", by_alias=True, exclude_none=True)


def _value(value: Any) -> str:
    return "default" if value is None else str(value)[:80]


def _share(value: float) -> str:
    return f"{value:.1f} %" if 0 < value < 100 else f"{value:.0f} %"
