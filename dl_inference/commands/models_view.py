"""What `dl-inference models` prints of what `serve` says about its models."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from dl_inference.commands.fitted_table import Column, FittedTable, Row
from dl_inference.commands.words import ago, plain

_STYLES = {"ready": "green", "unloaded": "bright_black", "loading": "yellow", "unloading": "yellow"}


def state(folder: Mapping[str, Any]) -> str:
    """Return where a model stands: ready, loading, unloading, unloaded, quarantined."""
    versions = folder["versions"]
    if folder["wanted"] == "unloaded":
        return "unloading" if versions else "unloaded"
    if any(version["serves"] and version["ready"] for version in versions):
        return "ready"
    return "quarantined" if folder["quarantined"] else "loading"


def progress(control: Mapping[str, Any], name: str) -> str:
    """Return how far a model is, for somebody who waits."""
    folder = next((each for each in control.get("folders", ()) if each["name"] == name), None)
    if folder is None:
        return "not there"
    new = [each for each in folder["versions"] if not each["serves"]]
    if not new:
        return state(folder)
    return f"{sum(each['ready'] for each in new)} of {sum(each['replicas'] for each in new)} new processes are ready"


def table(control: Mapping[str, Any]) -> RenderableType:
    """Return the models as a table, with what there is to say below."""
    folders: Sequence[Mapping[str, Any]] = control.get("folders", ())
    columns = (
        *(Column("model"), Column("versions", 1), Column("state"), Column("memory", 2, is_number=True)),
        *(Column("last call", 3), Column("in flight", 5, is_number=True), Column("instances", 4, is_number=True)),
        *(Column("loaded", 6), Column("why", 2)),
    )
    rows = [Row(tuple(_cells(folder)), state(folder) == "quarantined") for folder in folders]
    used = sum(folder["memory_bytes"] for folder in folders)
    budget = control.get("memory_budget")
    total = f"memory {_size(used)}" + (f" of {_size(budget)}" if budget else "")
    return Group(FittedTable(columns, rows), Text(f"{len(folders)} models, {total}", style="bold"))


def _cells(folder: Mapping[str, Any]) -> list[Text]:
    now, versions = state(folder), folder["versions"]
    called = folder["last_call_unix_s"]
    instances = f"{sum(each['ready'] for each in versions)}/{sum(each['replicas'] for each in versions)}"
    return [
        Text(plain(folder["name"])),
        Text(", ".join(map(str, folder["served"]))),
        Text(now, _STYLES.get(now, "red")),
        Text(_size(folder["memory_bytes"]) if folder["memory_bytes"] else ""),
        Text("" if called is None else f"{ago(time.time() - called)} ago"),
        Text(str(folder["in_flight"] or "")),
        Text(instances if versions else ""),
        Text("on demand" if folder["on_demand"] else "at start"),
        Text(_why(folder)),
    ]


def _why(folder: Mapping[str, Any]) -> str:
    for each in folder["quarantined"]:
        what = "" if each["version"] is None else f"version {each['version']}, "
        return plain(f"{what}step {each['step']}: {each['reason']}; {each['remedy']}".replace("\n", "; "))
    return plain(folder["refusal"] or folder["away"] or folder["reason"].replace("\n", "; "))


def _size(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
