"""What can be done to a release document: each function makes the next document out of the one now. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dl_inference.registry.releases.change import RefusedError
from dl_inference.registry.schema import EndpointDocument, Phase, Release, ReleaseDocument

AS_THE_MODEL = 0
"""A timeout of 0 takes the release's own away, so that the model's holds; of the model, the access service's."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set of a release or of a model; None: stays as it is.

    Attributes:
        weight: share among the versions.
        timeout_ms: most that a call may take; 0: what holds above.
        attempt_timeout_ms: after this time a call is tried on another endpoint; 0: what holds above.
        labels: label -> version; the empty version takes the label away.
        phase: of a release; a model has none.
        priority: of calls, at most; empty: what holds above.
    """

    weight: int | None = None
    timeout_ms: int | None = None
    attempt_timeout_ms: int | None = None
    labels: Mapping[str, str] | None = None
    phase: Phase | None = None
    priority: str | None = None

    def values(self) -> dict[str, int | str | None]:
        """Return what changes of a release's or a model's own keys."""
        given = {
            "weight": self.weight,
            "timeout_ms": self.timeout_ms,
            "attempt_timeout_ms": self.attempt_timeout_ms,
            "priority": self.priority,
        }
        return {
            key: None if key != "weight" and value in {AS_THE_MODEL, ""} else value
            for key, value in given.items()
            if value is not None
        }


def adopt(model: str, endpoints: Sequence[EndpointDocument] | None) -> ReleaseDocument | None:
    """Return the document that says what holds without one; None where no version is known.

    The versions that endpoints answer with unasked have equal shares.
    """
    versions = sorted({each.version for each in endpoints or () if each.version and each.state == "ready"}, key=int)
    if not versions:
        return None
    releases = {version: Release(phase="production") for version in versions}
    return ReleaseDocument(model=model, revision=1, releases=releases)


def deploy(
    document: ReleaseDocument | None,
    endpoints: Sequence[EndpointDocument] | None,
    *,
    model: str,
    version: str,
    settings: Settings,
) -> ReleaseDocument:
    """Release a version, or change its release.

    `production` without a weight gives it every call: the other versions that had a share go to staging, where they
    answer only who asks for them. With a weight, the others stay as they are.
    """
    phase, base = settings.phase, document or adopt(model, endpoints)
    releases = dict(base.releases) if base else {}
    # What was adopted was never released by anybody.
    present = releases.get(version) if document else None
    if present is None and phase is None:
        raise RefusedError(
            f"version {version} of {model} is not released yet: say --phase staging, canary or production"
        )
    has_no_share = present is None or present.phase == "staging"
    if has_no_share and phase == "canary" and settings.weight is None and (base is None or base.weight is None):
        raise RefusedError(f"a canary needs a share: say --weight N (the others have {_weights(base, version)})")
    values = settings.values()
    if phase == "production" and settings.weight is None:
        values["weight"] = None
        for other in base.shares() if base else {}:
            if other != version:
                releases[other] = releases[other].model_copy(update={"phase": "staging", "weight": None})
    if phase == "staging":
        values["weight"] = None
    release = present or Release(phase=phase or "staging")
    releases[version] = release.model_copy(update={**values, "phase": phase or release.phase})
    base = base or ReleaseDocument(model=model, revision=1, releases=releases)
    return base.model_copy(update={"releases": releases, "labels": _labels(base.labels, settings.labels)})


def remove(document: ReleaseDocument | None, model: str, version: str) -> ReleaseDocument:
    """End the release of a version."""
    if document is None or version not in document.releases:
        released = ", ".join(document.releases) if document else "nothing"
        raise RefusedError(f"version {version} of {model} is not released (released: {released})")
    releases = {each: release for each, release in document.releases.items() if each != version}
    if not releases:
        raise RefusedError(
            f"version {version} is the last release of {model}: release another one first, or take the whole document"
            f" away (access.yaml holds then): dl-inference release clear {model}"
        )
    return document.model_copy(update={"releases": releases})


def set_model(document: ReleaseDocument | None, model: str, settings: Settings) -> ReleaseDocument:
    """Change what holds for all versions of a model."""
    if document is None:
        raise RefusedError(
            f"{model} has no release document: begin with dl-inference release {model} VERSION --phase production"
        )
    return document.model_copy(update={**settings.values(), "labels": _labels(document.labels, settings.labels)})


def restore(document: ReleaseDocument | None, old: ReleaseDocument, expected: int | None) -> ReleaseDocument:
    """Return to an earlier document.

    Args:
        document: the current one.
        old: the one to return to.
        expected: the revision that has to be current: who returns to the one before the last means that last one.
    """
    if document is not None and expected is not None and document.revision != expected:
        raise RefusedError(
            f"revision {document.revision} by {document.author} was written in the meantime: check it, then give"
            f" --to {old.revision}"
        )
    return old


def _labels(present: Mapping[str, str], given: Mapping[str, str] | None) -> dict[str, str]:
    return {label: version for label, version in {**present, **(given or {})}.items() if version}


def _weights(document: ReleaseDocument | None, version: str) -> str:
    shares = document.shares() if document else {}
    return ", ".join(f"version {each}: {weight}" for each, weight in shares.items() if each != version) or "none"
