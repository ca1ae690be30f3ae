"""What a simulation came to, as a table."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from dl_inference.commands.fitted_table import Column, FittedTable, Row
from dl_inference.simulation.outcome import Outcome, Span, missed
from dl_inference.simulation.scenario import load, names

# Figure of a report -> head of its column, rank (the highest leaves a narrow terminal first), digits.
FIGURES = {
    "errors_percent": ("errors %", 0, 3),
    "p50_ms": ("p50 ms", 3, 1),
    "p99_ms": ("p99 ms", 0, 1),
    "p999_ms": ("p99.9 ms", 1, 1),
    "max_ms": ("max ms", 6, 0),
    "errors_after_percent": ("after %", 2, 3),
    "eject_s": ("eject s", 4, 1),
    "restore_s": ("restore s", 4, 1),
    "first_call_s": ("first call s", 7, 2),
    "bad_share_percent": ("bad %", 5, 2),
    "amplification": ("attempts", 5, 3),
}


def show_names(console: Console) -> None:
    """Print the scenarios that come with the program."""
    rows = [Row((Text(name), Text(load(name)["about"]))) for name in names()]
    console.print(FittedTable([Column("scenario"), Column("what happens")], rows))


def show(console: Console, name: str, scenario: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Print a row for each policy, and the goals that come with the scenario."""
    console.print(Text(f"{title(name, scenario)}\n{counted(outcomes)}"), soft_wrap=True)
    figures = _figures(scenario)
    columns = [Column("policy"), *(Column(head, rank, is_number=True) for head, rank, _ in figures.values())]
    rows = [_row(outcome, figures, scenario) for outcome in outcomes]
    console.print(FittedTable(columns, rows))
    if goals := ", ".join(f"{figure} {value:g}" for figure, value in scenario.get("goals", {}).items()):
        console.print(Text(f"goals of dwrr: {goals}; * marks what misses one"), soft_wrap=True)


def title(name: str, scenario: dict[str, Any]) -> str:
    """Return what the scenario is, in a line."""
    return f"{name}: {scenario.get('about', '')}"


def counted(outcomes: Sequence[Outcome]) -> str:
    """Return how many calls and seeds the figures are of."""
    reports = outcomes[0].reports
    return f"{reports[0]['calls']} calls, median of {len(reports)} seed{'s' if len(reports) > 1 else ''}"


def cells(scenario: dict[str, Any], outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Return the table as text: the heads, and the cells of each row."""
    figures = _figures(scenario)
    rows = [[cell.plain for cell in _row(outcome, figures, scenario).cells] for outcome in outcomes]
    return ["policy", *(head for head, *_ in figures.values())], rows


def _figures(scenario: dict[str, Any]) -> dict[str, tuple[str, int, int]]:
    classes = [f"{each['name']}_p99_ms" for each in scenario.get("classes", ())]
    return {**FIGURES, **{each: (f"{each.removesuffix('_ms').replace('_', ' ')} ms", 2, 1) for each in classes}}


def _row(outcome: Outcome, figures: dict[str, tuple[str, int, int]], scenario: dict[str, Any]) -> Row:
    beside = missed(scenario, outcome)
    cells = [_cell(outcome.span(figure), digits, figure in beside) for figure, (_, _, digits) in figures.items()]
    return Row((Text(outcome.policy), *cells))


def _cell(span: Span | None, digits: int, is_missed: bool) -> Text:
    mark = "*" if is_missed else ""
    if span is None:
        return Text(f"never{mark}" if is_missed else "")
    spread = f" ({span.least:.{digits}f}-{span.most:.{digits}f})" if span.most > span.least else ""
    return Text(f"{span.median:.{digits}f}{mark}{spread if digits else ''}", "red" if is_missed else "")
