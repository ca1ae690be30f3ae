"""What `dl-inference release show` prints: how a model's releases stand now, for people and for programs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dl_inference.commands.release_view import as_json, columns, ready_endpoints
from dl_inference.commands.words import percent, plain, since, standing
from dl_inference.registry.releases.checks import compare, ready
from dl_inference.registry.releases.store import Applied, Stored
from dl_inference.registry.schema import EndpointDocument, ReleaseDocument


@dataclass(frozen=True, slots=True)
class State:
    """All that is known of a model's releases.

    Attributes:
        place: where it was looked up.
        model: the route key.
        stored: the release document.
        endpoints: who announces the model; None: nobody announces anything there.
        applied: what each access service follows; None: they do not say it there.
    """

    place: str
    model: str
    stored: Stored
    endpoints: Sequence[EndpointDocument] | None
    applied: Sequence[Applied] | None

    @property
    def is_unknown(self) -> bool:
        """Tell whether nothing is known of such a model."""
        return self.stored.document is None and not self.stored.last_revision and not self.endpoints

    def versions(self) -> list[str]:
        """Return every version that is released or announced."""
        released = self.stored.document.releases if self.stored.document else {}
        announced = {
            each for endpoint in self.endpoints or () for each in (endpoint.version, *endpoint.versions) if each
        }
        return sorted({*released, *announced}, key=int)

    def problems(self) -> list[str]:
        """Return what is wrong with the document now."""
        document = self.stored.document
        return [finding.text for finding in compare(document, document, self.endpoints, ())] if document else []

    def lags(self, applied: Applied) -> bool:
        """Tell whether an access service follows another revision than the current one."""
        document = self.stored.document
        return applied.revision != (document.revision if document else None)

    def as_json(self) -> dict[str, Any]:
        """Return all of it for programs."""
        document = self.stored.document
        endpoints = (
            {version: [each.address for each in ready(version, self.endpoints)] for version in self.versions()}
            if self.endpoints is not None
            else None
        )
        access = (
            [
                {
                    "instance": each.instance,
                    "listen": list(each.service.listen),
                    "host": each.service.host,
                    "revision": each.revision,
                    "since": each.since,
                    "lags": self.lags(each),
                }
                for each in self.applied
            ]
            if self.applied is not None
            else None
        )
        return {
            "model": self.model,
            "document": as_json(document) if document else None,
            "problem": self.stored.fault,
            "shares_percent": percent(document),
            "problems": self.problems(),
            "ready_endpoints": endpoints,
            "access": access,
        }

    def render(self) -> RenderableType:
        """Return all of it for people."""
        return Group(*self._head(), *self._tables())

    def _head(self) -> Iterator[RenderableType]:
        document = self.stored.document
        if self.stored.fault is not None:
            yield Text(f"the release document of {self.model} cannot be used: {plain(self.stored.fault)}", style="red")
        elif document is None:
            yield Text(f"{self.model} has no release document in {self.place}: what access.yaml says of it holds")
        else:
            yield Text(f"{self.model}, revision {document.revision}", style="bold")
            when = f" at {plain(document.time)}, {plain(since(document.time))} ago" if document.time else ""
            yield Text(f"by {plain(document.author) or 'unknown'}{when}")
            if document.reason:
                yield Text(f"reason: {plain(document.reason)}")
            yield Text(f"for versions that say nothing else: {_settings(document)}")
        yield from (Text(f"problem: {plain(each)}", style="red") for each in self.problems())

    def _tables(self) -> Iterator[RenderableType]:
        document = self.stored.document
        if versions := self.versions():
            yield self._releases(versions, document)
        if self.applied is None:
            yield Text(
                "what the access services have applied is not known in a folder: see their `dl-inference status`"
            )
        elif self.applied:
            yield self._access(self.applied)
        else:
            yield Text("no access service says that it follows this registry")

    def _releases(self, versions: Sequence[str], document: ReleaseDocument | None) -> Table:
        table = columns(
            "Versions", ("version", "phase, share", "weight", "timeout ms", "attempt ms", "labels", "ready endpoints")
        )
        for version in versions:
            release = document.releases.get(version) if document else None
            numbers = (
                (release.weight, release.timeout_ms, release.attempt_timeout_ms) if release else (None, None, None)
            )
            labels = [label for label, target in document.labels.items() if target == version] if document else []
            table.add_row(
                version,
                standing(document, version) or Text("not released", style="dim"),
                *("" if number is None else str(number) for number in numbers),
                ", ".join(labels),
                ready_endpoints(version, self.endpoints),
            )
        return table

    def _access(self, applied: Sequence[Applied]) -> Table:
        table = columns("Access services", ("access service", "listens on", "revision", "since", ""))
        for each in applied:
            behind = Text("lags", style="bold red") if self.lags(each) else Text("applied", style="green")
            table.add_row(
                Text(plain(" ".join(filter(None, (each.service.host, each.instance))))),
                Text(plain(", ".join(each.service.listen) or each.service.program)),
                "none" if each.revision is None else str(each.revision),
                Text(f"{plain(each.since)} ({plain(since(each.since))} ago)" if each.since else ""),
                behind,
            )
        return table


def _settings(document: ReleaseDocument) -> str:
    own = document.model_dump(include={"timeout_ms", "attempt_timeout_ms", "priority"})
    weight = 100 if document.weight is None else document.weight
    told = [f"weight {weight}", *(f"{key} {value}" for key, value in own.items())]
    return ", ".join(told)
