"""What `dl-inference check` says of access.yaml: every problem, then what would be in force and where it comes from."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from access import document, state
from access.config.load import Loaded, load
from access.discovery import RESOLVERS
from access.discovery.base import Snapshot
from access.errors import AccessError, ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` found in an access configuration.

    Attributes:
        problems: what keeps it from being used.
        warnings: what would be skipped.
        loaded: the configuration; None when there are problems in it.
        routing: the routing state that it leads to now; None when there are any problems.
    """

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    loaded: Loaded | None = None
    routing: state.Routing | None = None


def config(path: Path) -> Report:
    """Check an access configuration and the sources that it names; nothing goes on when it returns."""
    try:
        loaded = load(path)
    except ConfigError as error:
        return Report(error.problems)
    snapshots: dict[str, Snapshot] = {}
    problems: list[Problem] = []
    for key, source in state.sources(loaded.config).items():
        resolver = RESOLVERS[source.kind].resolver.create(source, loaded.folder)
        resolver.start(lambda: None)
        try:
            snapshots[key] = resolver.read()
        except AccessError as error:
            problems.append(Problem(resolver.name, str(error), "the access service would have nothing from it"))
        finally:
            resolver.stop()
    if problems:
        return Report(tuple(problems), loaded=loaded)
    routing = state.routing(loaded.config, snapshots)
    warnings = [warning for snapshot in snapshots.values() for warning in snapshot.warnings]
    return Report((), tuple([*warnings, *routing.warnings]), loaded, routing)


def show(console: Console, report: Report) -> None:
    """Print a report on an access configuration."""
    show_problems(console, report.problems, "red")
    show_problems(console, report.warnings, "yellow")
    if report.problems or report.loaded is None or report.routing is None:
        return
    table = _table("In force", "key", "value", "from")
    for path, value in _values((), report.loaded.config):
        table.add_row(Text(document.place_of(path)), Text(_text(value)), Text(report.loaded.origin(path)))
    console.print(table)
    routes = _table("Routes", "model", "version", "cluster", "share", "endpoints", "timeout ms")
    for row in _routes(report.routing.state):
        routes.add_row(*map(Text, row))
    console.print(routes)


def show_problems(console: Console, problems: Iterable[Any], style: str) -> None:
    """Print problems: `place`, `message` and `remedy` of each, whatever their class."""
    for problem in problems:
        console.print(Text.assemble((problem.place, "bold"), ": ", (problem.message, style)), soft_wrap=True)
        if problem.remedy:
            console.print(Text(f"    {problem.remedy}"), soft_wrap=True)


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for column in others:
        table.add_column(column, overflow="fold")
    return table


def _values(path: document.Path, value: Any) -> Iterator[tuple[document.Path, Any]]:
    """Yield the leaves of the configuration; of clusters and models only what was given."""
    for name in type(value).model_fields:
        item = getattr(value, name)
        place = (*path, name)
        if isinstance(item, BaseModel):
            if name == "discovery":
                yield place, item.model_dump()
            else:
                yield from _values(place, item)
        elif isinstance(item, dict) and item and all(isinstance(each, BaseModel) for each in item.values()):
            for key, each in item.items():
                for given in sorted(each.model_fields_set):
                    yield (*place, key, given), _plain(getattr(each, given))
        else:
            yield place, _plain(item)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset=True)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _routes(routing: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    clusters = {cluster["name"]: cluster for cluster in routing["clusters"]}
    for model in routing["models"]:
        for version, split in {"": model["split"], **model["versions"]}.items():
            for part in split:
                yield model["name"], version, *_goes_to(clusters[part["cluster"]], part["weight"], split)
    if routing["default_cluster"]:
        yield "(any other)", "", *_goes_to(clusters[routing["default_cluster"]], 1, [{"weight": 1}])


def _goes_to(cluster: dict[str, Any], weight: int, split: list[dict[str, Any]]) -> tuple[str, ...]:
    whole = sum(part["weight"] for part in split)
    endpoints = (
        each["address"] + (f"*{each['weight']}" if each["weight"] != 1 else "") for each in cluster["endpoints"]
    )
    return cluster["name"], f"{weight / whole:.0%}", ", ".join(endpoints) or "none", str(cluster["timeout_ms"])
