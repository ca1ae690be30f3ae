"""Draws how a scenario went: latencies and errors over time, and each endpoint's share, by policy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dl_inference.simulation.outcome import Outcome

# Readable by people who do not tell red from green (Okabe and Ito).
COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
LINES = ("-", "--", ":")
SHADE = "#eeeeee"
MOST_BANDS = 16
"""More endpoints are drawn as two bands: those with the first fault, and the others."""


class NoPlotsError(Exception):
    """matplotlib is not installed."""


def draw(name: str, scenario: dict[str, Any], outcomes: Sequence[Outcome], folder: Path) -> list[Path]:
    """Write NAME.png and NAME.svg into a folder, which is made; return them.

    Raises:
        NoPlotsError: matplotlib is not installed.
        OSError: the folder cannot be written to.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415  (an extra, and a second of imports)
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise NoPlotsError("matplotlib is not installed: pip install 'dl-inference[simulate]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 10, "svg.hashsalt": name}):
        rows = (len(outcomes) + 2) // 3
        figure = Figure(figsize=(12, 6.2 + 2.2 * rows), layout="constrained")
        _fill(figure, name, scenario, outcomes)
        for path in paths:
            figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def _fill(figure: Figure, name: str, scenario: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415  (as above)

    rows = (len(outcomes) + 2) // 3
    grid = figure.add_gridspec(2 + rows, 3, height_ratios=[1.3, 0.8, *[1] * rows])
    times, errors = figure.add_subplot(grid[0, :]), figure.add_subplot(grid[1, :])
    for (line, color), outcome in zip(_styles(), outcomes, strict=False):
        starts, p99, failed = _over_time(outcome)
        times.step(starts, p99, line, where="post", color=color, label=outcome.policy)
        errors.step(starts, failed, line, where="post", color=color)
    times.set(ylabel="p99 of the calls, ms", yscale="log")
    errors.set(ylabel="failed calls, %", ylim=(0, max(1.0, errors.get_ylim()[1])))
    for axes in (times, errors):
        _dress(axes, scenario, outcomes[0])
    times.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(COLORS), fontsize=8, frameon=False)
    times.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    times.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    times.yaxis.set_minor_formatter(NullFormatter())
    for number, outcome in enumerate(outcomes):
        axes = figure.add_subplot(grid[2 + number // 3, number % 3])
        _bands(axes, outcome)
        _dress(axes, scenario, outcome, is_shaded=False)
        axes.set_title(f"{outcome.policy}: share of the attempts, %")
    seeds = len(outcomes[0].reports)
    what = f"median of {seeds} seed(s), shares of the first; grey: a fault; orange: who has the first one"
    figure.suptitle(f"{name}: {scenario.get('about', '')}\n{what}")


def _styles() -> Iterable[tuple[str, str]]:
    return ((line, color) for line in cycle(LINES) for color in COLORS)


def _over_time(outcome: Outcome) -> tuple[list[float], list[float], list[float]]:
    """Return, of each bin of time, its start, the p99 (NaN without calls) and the errors in percent."""
    courses = [report["course"] for report in outcome.reports]
    bins = range(len(courses[0]["calls"]))
    calls = [[course["calls"][each] for course in courses] for each in bins]
    p99 = [
        statistics.median(course["p99_ms"][each] for course in courses) if all(calls[each]) else math.nan
        for each in bins
    ]
    failed = [100 * sum(course["errors"][each] for course in courses) / max(1, sum(calls[each])) for each in bins]
    return [each * courses[0]["bin_s"] for each in bins], p99, failed


def _bands(axes: Axes, outcome: Outcome) -> None:
    """Stack each endpoint's share of the attempts; those with the first fault at the bottom, in the first color."""
    course = outcome.reports[0]["course"]
    struck: list[int] = next((endpoints for *_, endpoints in course["faults"]), [])
    sent: list[list[int]] = course["attempts"]
    order = sorted(range(len(sent)), key=lambda one: (one not in struck, one))
    if len(sent) > MOST_BANDS:
        groups = [[one for one in order if one in struck], [one for one in order if one not in struck]]
    else:
        groups = [[one] for one in order]
    totals = [max(1, sum(bins)) for bins in zip(*sent, strict=True)]
    starts = [each * course["bin_s"] for each in range(len(totals))]
    shares = [
        [100 * sum(sent[one][place] for one in group) / total for place, total in enumerate(totals)] for group in groups
    ]
    blues = ("#0072b2", "#56b4e9")
    is_struck = [bool(group) and group[0] in struck and len(struck) < len(sent) for group in groups]
    colors = [COLORS[0] if bad else blues[place % 2] for place, bad in enumerate(is_struck)]
    axes.stackplot(starts, shares, step="post", colors=colors, edgecolor="white", linewidth=0.3)
    axes.set_ylim(0, 100)


def _dress(axes: Axes, scenario: dict[str, Any], outcome: Outcome, *, is_shaded: bool = True) -> None:
    for begin, end, _ in outcome.reports[0]["course"]["faults"] if is_shaded else ():
        axes.axvspan(begin, end, color=SHADE, zorder=0, linewidth=0)
    axes.set(xlim=(0, scenario["duration_s"]), xlabel="s")
    axes.spines[["top", "right"]].set_visible(False)
