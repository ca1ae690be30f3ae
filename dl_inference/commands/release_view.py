"""What `dl-inference release` prints: tables for people, JSON for programs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dl_inference.commands.words import differences, percent, plain, since, standing
from dl_inference.registry.releases.change import Outcome
from dl_inference.registry.releases.checks import compare, ready, ready_when_asked
from dl_inference.registry.releases.store import Applied, Stored
from dl_inference.registry.schema import EndpointDocument, ReleaseDocument, SchemaError

COMMANDS = ("deploy", "set", "show", "history", "rollback", "clear")
"""Of `dl-inference release`: a model that is called like one of them needs `release deploy`."""


def outcome(done: Outcome) -> RenderableType:
    """Return before and after of a change, what it did, and what can be done next."""
    model, after = done.after.model, done.after
    if not done.changed:
        return Text(f"{model}: revision {after.revision} says so already; nothing is written")
    lines = [Text(f"overridden by --force: {plain(each)}", style="yellow") for each in done.overridden]
    old = f"revision {done.before.revision} -> {after.revision}" if done.before else f"revision {after.revision}"
    lines.append(Text(f"{model}, {old}, by {plain(after.author)}", style="bold"))
    if done.before is None and len(after.releases) > 1:
        lines.append(Text("first document: it takes over the versions that the endpoints announce"))
    parts: list[RenderableType] = [*lines, _table(done.before, after, done.endpoints)]
    parts += [Text(f"  {plain(each)}") for each in differences(done.before, after)]
    parts += [Text(f"note: {plain(each)}", style="yellow") for each in done.notes]
    return Group(*parts, *_next(done.before, after))


def history(model: str, documents: Sequence[ReleaseDocument | SchemaError]) -> RenderableType:
    """Return the table of revisions, the last one first."""
    table = _columns(f"History of {model}", ("revision", "time", "author", "reason", "change"))
    for document, changes in reversed(list(_changes(documents))):
        if isinstance(document, SchemaError):
            table.add_row("?", "", "", "", Text(f"cannot be read: {plain(document)}", style="red"))
            continue
        cells = (document.time, document.author, document.reason, "; ".join(changes))
        table.add_row(str(document.revision), *(Text(plain(cell)) for cell in cells))
    return table


def history_as_json(documents: Sequence[ReleaseDocument | SchemaError]) -> list[dict[str, Any]]:
    """Return the revisions, the oldest first."""
    return [
        {"problem": str(document)}
        if isinstance(document, SchemaError)
        else {"document": _as_json(document), "changes": changes}
        for document, changes in _changes(documents)
    ]


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
        """Tell whether an access service follows another revision than the one in force."""
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
            "document": _as_json(document) if document else None,
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
            yield Text(f"by {plain(document.author)} at {plain(document.time)}, {plain(since(document.time))} ago")
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
        table = _columns(
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
                _ready(version, self.endpoints),
            )
        return table

    def _access(self, applied: Sequence[Applied]) -> Table:
        table = _columns("Access services", ("access service", "listens on", "revision", "since", ""))
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


def _table(
    before: ReleaseDocument | None, after: ReleaseDocument, endpoints: Sequence[EndpointDocument] | None
) -> Table:
    table = _columns("", ("version", "before", "after", "labels", "ready endpoints"))
    for version in sorted({*(before.releases if before else ()), *after.releases}, key=int):
        old, new = standing(before, version), standing(after, version)
        labels = ", ".join(label for label, target in after.labels.items() if target == version)
        style = "" if old == new else "bold"
        table.add_row(version, old or "-", Text(new or "-", style=style), labels, _ready(version, endpoints))
    return table


def _next(before: ReleaseDocument | None, after: ReleaseDocument) -> Iterator[Text]:
    """Yield the commands that usually come next."""
    command = f"dl-inference release {'deploy ' if after.model in COMMANDS else ''}{after.model}"
    for version, release in after.releases.items():
        if release.phase == "canary":
            yield Text(f"to give version {version} every call: {command} {version} --phase production")
            yield Text(f"to end it: {command} {version} --remove")
    undo = "rollback" if before else "clear"
    yield Text(f"to undo this change: dl-inference release {undo} {after.model}", style="dim")


def _changes(
    documents: Sequence[ReleaseDocument | SchemaError],
) -> Iterator[tuple[ReleaseDocument | SchemaError, list[str]]]:
    """Yield each document with what it changed; of the first of a history that was cut off that is not known."""
    before: ReleaseDocument | None = None
    for document in documents:
        if isinstance(document, SchemaError):
            yield document, []
            continue
        is_cut = before is None and document.revision > 1
        yield document, ["(what was before is not kept)"] if is_cut else differences(before, document) or ["nothing"]
        before = document


def _ready(version: str, endpoints: Sequence[EndpointDocument] | None) -> Text:
    if endpoints is None:
        return Text("not known", style="dim")
    addresses = [each.address for each in ready(version, endpoints)]
    asked = len(ready_when_asked(version, endpoints))
    text = Text(str(len(addresses)), style="" if addresses or asked else "red")
    if addresses:
        text.append(f": {', '.join(addresses[:3])}" + (f" and {len(addresses) - 3} more" if len(addresses) > 3 else ""))
    if asked:
        text.append(f", {asked} when asked")
    return text


def _settings(document: ReleaseDocument) -> str:
    given = {"timeout_ms": document.timeout_ms, "attempt_timeout_ms": document.attempt_timeout_ms}
    weight = 100 if document.weight is None else document.weight
    told = [f"weight {weight}", *(f"{key} {value}" for key, value in given.items() if value is not None)]
    return ", ".join(told)


def _as_json(document: ReleaseDocument) -> dict[str, Any]:
    return document.model_dump(mode="json", by_alias=True, exclude_none=True)


def _columns(title: str, names: Sequence[str]) -> Table:
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name, overflow="fold")
    return table
