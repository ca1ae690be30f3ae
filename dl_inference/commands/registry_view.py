"""What `dl-inference registry` prints: tables and lines for people, JSON for programs."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dl_inference.commands.words import ago, plain
from dl_inference.registry.connection import Node
from dl_inference.registry.inventory import Listed, Step
from dl_inference.registry.schema import EndpointDocument

_DONE: dict[str, str] = {"add": "added", "change": "changed", "remove": "removed", "same": "as it was", "leave": "left"}


def endpoints(found: Sequence[Listed]) -> RenderableType:
    """Return the table of endpoints, and what is among them and cannot be used."""
    if not found:
        return Text("no endpoints")
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("model", "version", "address", "protocol", "weight", "state", "program", "age", "until"):
        table.add_column(name, overflow="fold")
    now = time.time()
    for each in found:
        if each.document is not None:
            table.add_row(*(Text(plain(cell)) for cell in _row(each.document, each.node, now)))
    faults = [each for each in found if each.document is None]
    lines = [Text(f"{plain(each.path)}: cannot be used: {plain(each.fault)}", style="red") for each in faults]
    return Group(table, *lines) if len(faults) < len(found) else Group(*lines)


def as_json(each: Listed) -> dict[str, Any]:
    """Return an endpoint for programs."""
    document = each.document.model_dump(mode="json", by_alias=True, exclude_none=True) if each.document else None
    created = datetime.fromtimestamp(each.node.created, UTC).isoformat(timespec="milliseconds")
    return {
        "model": each.model,
        "path": each.path,
        "ephemeral": each.node.ephemeral,
        "created": created,
        "document": document,
        "problem": each.fault or None,
    }


def steps(done: Sequence[Step], *, dry_run: bool) -> Iterator[Text]:
    """Yield what an import did, a line for each endpoint that it changed, and the counts."""
    for step in done:
        if step.action == "same":
            continue
        words = step.words
        if step.document is not None and step.action == "add":
            words = f"{step.document.protocol}, weight {step.document.weight}"
        style = "red" if step.is_refused else ""
        verb = f"would be {_DONE[step.action]}" if dry_run and step.action != "leave" else _DONE[step.action]
        yield Text(f"{verb}: {step.model} {plain(step.address)}" + (f" ({plain(words)})" if words else ""), style=style)
    counts = Counter[str](step.action for step in done)
    told = ", ".join(f"{counts[action]} {verb}" for action, verb in _DONE.items() if counts[action])
    yield Text(f"{'nothing is done; would be: ' if dry_run else ''}{told or 'nothing to do'}", style="bold")


def _row(document: EndpointDocument, node: Node, now: float) -> tuple[str, ...]:
    versions = ", ".join(filter(None, (document.version, *(f"({each})" for each in document.versions))))
    until = "its session ends" if node.ephemeral else "removed"
    age = ago(now - node.created)
    return (
        document.model,
        versions,
        document.address,
        document.protocol,
        str(document.weight),
        document.state,
        document.program,
        age,
        until,
    )
