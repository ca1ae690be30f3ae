"""What `dl-inference check` prints: the problems of a configuration or a model folder; else what would be in force."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from access import document
from access.check import Report
from dl_inference.commands.console import out
from dl_inference.problem import Problem
from dl_inference.serving.folder import kind_of
from dl_inference.serving.given import Given


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


def show_problems(console: Console, problems: Iterable[Problem], style: str) -> None:
    """Print problems: place, message and remedy of each."""
    for problem in problems:
        console.print(Text.assemble((problem.place, "bold"), ": ", (problem.message, style)), soft_wrap=True)
        if problem.remedy:
            console.print(Text(f"    {problem.remedy}"), soft_wrap=True)


def model(folder: Path, allow_pickle: bool) -> None:
    """Print every problem of a model folder; exit status 1 when there is one."""
    # numpy, which the servers' formats need, doubles the start of every other command
    from tf_predict import repository as saved_models  # noqa: PLC0415
    from torch_predict import repository  # noqa: PLC0415

    given = Given(os.environ)
    if kind_of(folder) == "TensorFlow":
        problems = saved_models.check(folder, given)
    else:
        problems = repository.check(folder, given, allow_pickle=allow_pickle)
    show_problems(out, problems, "red")
    if problems:
        raise typer.Exit(1)
    out.print(f"{folder}: no problem found", markup=False, soft_wrap=True)


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
