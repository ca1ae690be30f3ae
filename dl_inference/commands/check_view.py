"""What `dl-inference check` prints: a verdict, then the problems; else what was found, or the effective values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from access import document
from access.check import CheckResult
from access.config import effective
from dl_inference.commands.stages_view import show_stages
from dl_inference.commands.words import plain
from dl_inference.problem import Problem

if TYPE_CHECKING:
    from dl_inference.local.check import Checked


def show(console: Console, path: Path, report: CheckResult, *, has_all: bool) -> None:
    """Print a report on an access configuration; with `has_all` every effective value, too."""
    _verdict(console, str(path), report.problems, report.warnings)
    show_problems(console, report.problems, "red")
    show_problems(console, report.warnings, "yellow")
    if report.problems or report.loaded is None or report.routing is None:
        return
    routes = _table("Routes", "model", "version", "cluster", "share", "endpoints", "timeout ms")
    for row in _routes(report.routing.state):
        routes.add_row(*map(Text, row))
    console.print(routes)
    if has_all:
        table = _table("Effective values", "key", "value", "from")
        for path_in, value in effective.values(report.loaded.config):
            table.add_row(Text(document.place_of(path_in)), Text(_text(value)), Text(report.loaded.origin(path_in)))
        console.print(table)


def show_folder(console: Console, checked: Checked, *, has_all: bool) -> None:
    """Print what was found out about one model folder."""
    _verdict(console, str(checked.folder), checked.problems)
    show_problems(console, checked.problems, "red")
    if has_all or not checked.problems:
        _show_found(console, checked, has_all=has_all)
    show_stages(console, checked)


def show_folders(
    console: Console, every: Sequence[Checked], others: Sequence[Problem], *, has_all: bool, has_found: bool
) -> None:
    """Print what was found out about model folders: a verdict on each, then what is wrong with each.

    Args:
        console: where to.
        every: of the model folders.
        others: what lies beside them.
        has_all: also what is in them, and every effective value.
        has_found: also what is in them.
    """
    for each in every:
        _verdict(console, each.folder.name, each.problems, about=each.found.get("format", ""))
    for each in every:
        show_problems(console, each.problems, "red")
    show_problems(console, others, "red")
    for each in every if has_all or has_found else ():
        console.print(Text(f"\n{each.folder.name}", style="bold"))
        _show_found(console, each, has_all=has_all)
        show_stages(console, each)


def _show_found(console: Console, checked: Checked, *, has_all: bool) -> None:
    rows = dict(checked.found)
    if has_all:
        rows |= {name: _text(value) for name, value in checked.settings.items()}
    width = max(map(len, rows), default=0)
    for name, text in rows.items():
        console.print(Text(f"    {name:{width}}  {plain(text)}"), soft_wrap=True)


def _verdict(
    console: Console, what: str, problems: Sequence[Problem], warnings: Sequence[Problem] = (), about: str = ""
) -> None:
    """Print in one line whether something is as it should be."""
    words = [_count(problems, "problem") if problems else "no problem found"]
    words += [_count(warnings, "warning")] if warnings else []
    words += [about] if about and not problems else []
    style = "red" if problems else "yellow" if warnings else "green"
    console.print(Text.assemble((what, "bold"), ": ", ("; ".join(words), style)), soft_wrap=True)


def _count(things: Sequence[Problem], name: str) -> str:
    return f"{len(things)} {name}" + ("s" if len(things) > 1 else "")


def show_problems(console: Console, problems: Iterable[Problem], style: str) -> None:
    """Print problems: place, message and remedy of each."""
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
