"""What is wrong with a release document, before it is written. Pure: no network, no clock."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from dl_inference.registry.schema import EndpointDocument, ReleaseDocument


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        text: what.
        remedy: what to do about it.
        version: the version that it is about; None: the document as a whole.
        is_new: whether it was right before the change, or the change touched it.
    """

    text: str
    remedy: str
    version: str | None = None
    is_new: bool = True

    def __str__(self) -> str:
        """Return both on one line."""
        return f"{self.text}: {self.remedy}"


def ready(version: str, endpoints: Sequence[EndpointDocument]) -> list[EndpointDocument]:
    """Return the endpoints that take calls, and answer for a version when none is asked for."""
    return [each for each in endpoints if each.state == "ready" and each.version == version]


def ready_when_asked(version: str, endpoints: Sequence[EndpointDocument]) -> list[EndpointDocument]:
    """Return the endpoints that take calls, and answer for a version only when it is asked for."""
    return [
        each for each in endpoints if each.state == "ready" and each.version != version and version in each.versions
    ]


def unknown_versions(
    before: ReleaseDocument | None,
    after: ReleaseDocument,
    endpoints: Sequence[EndpointDocument] | None,
    known: Collection[str],
) -> list[str]:
    """Return the versions that nobody has ever heard of.

    Args:
        before: the document that was changed.
        after: the document to look at.
        endpoints: who announces the model; None: not known, so that nothing can be said.
        known: versions of earlier documents.
    """
    if endpoints is None:
        return []
    heard = {*known, *(before.releases if before else ())}
    heard.update(version for each in endpoints for version in (each.version, *each.versions) if version)
    return [version for version in after.releases if version not in heard]


def compare(
    before: ReleaseDocument | None,
    after: ReleaseDocument,
    endpoints: Sequence[EndpointDocument] | None,
    known: Collection[str],
) -> list[Finding]:
    """Return what is wrong with a document; `is_new` tells what the change brought from what was wrong already.

    Whoever moves calls away from a version whose endpoints are dead must not be held up by their being dead.

    Args:
        before: the document that was changed; None: there was none.
        after: the document as it would be.
        endpoints: who announces the model; None: not known.
        known: versions of earlier documents.
    """
    unknown = list(_unknown(before, after, endpoints, known))
    unheard = {finding.version for finding in unknown}
    dead = [finding for finding in _dead(after, endpoints) if finding.version not in unheard]
    found = [*unknown, *_faults(after), *dead]
    if before is None:
        return found
    old = {finding.text for finding in (*_faults(before), *_dead(before, endpoints))}
    touched = {version for version, release in after.releases.items() if before.releases.get(version) != release}
    if before.weight != after.weight:
        touched.update(version for version, release in after.releases.items() if release.weight is None)
    return [replace(finding, is_new=finding.text not in old or finding.version in touched) for finding in found]


def _unknown(
    before: ReleaseDocument | None,
    after: ReleaseDocument,
    endpoints: Sequence[EndpointDocument] | None,
    known: Collection[str],
) -> Iterator[Finding]:
    announced = sorted(
        {version for each in endpoints or () for version in (each.version, *each.versions) if version}, key=int
    )
    says = f"announced are {', '.join(announced)}" if announced else "no endpoint announces a version of it now"
    for version in unknown_versions(before, after, endpoints, known):
        yield Finding(
            f"version {version} of {after.model} is unknown: no endpoint announces it and no release names it ({says})",
            "start its endpoints first, or release it anyway with --force",
            version,
        )


def _faults(document: ReleaseDocument) -> Iterator[Finding]:
    remedies = {"label": f"move it first: dl-inference release set {document.model} --label NAME=VERSION"}
    for text in document.faults():
        yield Finding(text, remedies.get(text.partition(" ")[0], "give one of them a weight"))


def _dead(document: ReleaseDocument, endpoints: Sequence[EndpointDocument] | None) -> Iterator[Finding]:
    if endpoints is None:
        return
    for version in document.shares():
        if ready(version, endpoints):
            continue
        leaving = sum(each.state != "ready" and each.version == version for each in endpoints)
        why = f" ({leaving} draining)" if leaving else ""
        if ready_when_asked(version, endpoints):
            why = " to answer with it unasked"
        yield Finding(
            f"version {version} of {document.model} would get calls, but no endpoint of it is ready{why}",
            "start its endpoints first, or give it no share (--phase staging)",
            version,
        )
