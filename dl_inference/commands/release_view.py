"""What `dl-inference release` prints of changes, just made or of the history: tables for people, JSON for programs."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dl_inference.commands.words import plain, standing
from dl_inference.registry.releases.change import Outcome
from dl_inference.registry.releases.checks import ready, ready_when_asked
from dl_inference.registry.releases.differences import changes, differences
from dl_inference.registry.schema import EndpointDocument, ReleaseDocument, SchemaError

COMMANDS = ("deploy", "set", "show", "history", "rollback", "clear")
"""Of `dl-inference release`: a model that is called like one of them needs `release deploy`."""


ROLLBACK = "rollback to revision"
"""How the reason of a return begins where its author gives none."""


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
    table = columns(f"History of {model}", ("revision", "time", "author", "reason", "change"))
    for document, did in reversed(list(changes(documents))):
        if isinstance(document, SchemaError):
            table.add_row("?", "", "", "", Text(f"cannot be read: {plain(document)}", style="red"))
            continue
        cells = (document.time, document.author, document.reason, "; ".join(did))
        table.add_row(str(document.revision), *(Text(plain(cell)) for cell in cells))
    return table


def history_as_json(documents: Sequence[ReleaseDocument | SchemaError]) -> list[dict[str, Any]]:
    """Return the revisions, the oldest first."""
    return [
        {"problem": str(document)}
        if isinstance(document, SchemaError)
        else {"document": as_json(document), "changes": did}
        for document, did in changes(documents)
    ]


def _table(
    before: ReleaseDocument | None, after: ReleaseDocument, endpoints: Sequence[EndpointDocument] | None
) -> Table:
    table = columns("", ("version", "before", "after", "labels", "ready endpoints"))
    for version in sorted({*(before.releases if before else ()), *after.releases}, key=int):
        old, new = standing(before, version), standing(after, version)
        labels = ", ".join(label for label, target in after.labels.items() if target == version)
        style = "" if old == new else "bold"
        table.add_row(version, old or "-", Text(new or "-", style=style), labels, ready_endpoints(version, endpoints))
    return table


def _next(before: ReleaseDocument | None, after: ReleaseDocument) -> Iterator[Text]:
    """Yield the commands that usually come next."""
    command = f"dl-inference release {'deploy ' if after.model in COMMANDS else ''}{after.model}"
    for version, release in after.releases.items():
        if release.phase == "canary":
            yield Text(f"to give version {version} every call: {command} {version} --phase production")
            yield Text(f"to end it: {command} {version} --remove")
    undo = f"release rollback {after.model}" if before else f"release clear {after.model}"
    if before and after.reason.startswith(ROLLBACK):  # without --to it would be refused
        undo += f" --to {before.revision}"
    yield Text(f"to undo this change: dl-inference {undo}", style="dim")


def ready_endpoints(version: str, endpoints: Sequence[EndpointDocument] | None) -> Text:
    """Return the cell of a table that tells who serves a version."""
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


def as_json(document: ReleaseDocument) -> dict[str, Any]:
    """Return a release document for programs."""
    return document.model_dump(mode="json", by_alias=True, exclude_none=True)


def columns(title: str, names: Sequence[str]) -> Table:
    """Return a table without rows."""
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name, overflow="fold")
    return table
