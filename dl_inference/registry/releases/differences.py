"""What changes of release documents did, a line for each thing: one change, or those of a history."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dl_inference.registry.schema import Release, ReleaseDocument, SchemaError


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


def changes(
    documents: Sequence[ReleaseDocument | SchemaError],
) -> Iterator[tuple[ReleaseDocument | SchemaError, list[str]]]:
    """Yield each document, the oldest first, with what it changed.

    Of the first of a history that was cut off that is not known.
    """
    before: ReleaseDocument | None = None
    for document in documents:
        if isinstance(document, SchemaError):
            yield document, []
            continue
        is_cut = before is None and document.revision > 1
        yield document, ["(what was before is not kept)"] if is_cut else differences(before, document) or ["nothing"]
        before = document


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
