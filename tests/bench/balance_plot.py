"""Draws what ``bench.balance`` found: errors and p99 of every scenario, and both over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

LABELS = {
    "ours": "dl-inference",
    "nginx": "nginx least_conn",
    "nginx-wrr": "nginx wrr",
    "envoy": "Envoy least_request",
    "envoy-rr": "Envoy round_robin",
    "haproxy": "HAProxy leastconn",
    "grpc-go": "grpc-go round_robin",
}
# Readable by people who do not tell red from green (Okabe and Ito), the subject in the strongest.
COLORS = dict(zip(LABELS, ["#d55e00", "#009e73", "#9ad8c0", "#0072b2", "#56b4e9", "#cc79a7", "#e6b800"], strict=True))
# Of this product with other settings.
MORE_COLORS = ["#000000", "#8b5a2b", "#7f7f7f", "#7b3294"]
# Errors of 0 have no place on a log scale; they stand at its left end.
NO_ERRORS = 0.005


def draw(result: dict[str, Any], path: Path) -> None:
    """Write ``path``, with a dot for each contender and scenario, and ``-time`` beside it, with lines over time."""
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 10}):
        _overview(result).savefig(path, dpi=110)
        _timelines(result).savefig(path.with_stem(f"{path.stem}-time"), dpi=100)


def _color(result: dict[str, Any], who: str) -> str:
    others = [one for one in result["contenders"] if one not in COLORS]
    return COLORS.get(who) or MORE_COLORS[others.index(who) % len(MORE_COLORS)]


def _title(result: dict[str, Any]) -> str:
    return (
        f"{result['date'][:10]}, commit {result['commit'][:9]}, {result['cpu']}, {result['cores']} cores for all; "
        f"median of {result['seeds']} seed(s), lines from minimum to maximum"
    )


def _overview(result: dict[str, Any]) -> Figure:
    names = list(result["scenarios"])
    figure = Figure(figsize=(13, 1.6 + 0.5 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, figure_name, title in ((left, "errors_percent", "client errors, %"), (right, "p99_ms", "p99, ms")):
        for row, name in enumerate(names):
            found = result["scenarios"][name]["contenders"]
            for place, (who, each) in enumerate(found.items()):
                y = row + 0.7 * ((place + 0.5) / len(found) - 0.5)
                color = _color(result, who)
                low, middle, high = (max(each[figure_name][key] or 0, NO_ERRORS) for key in ("min", "median", "max"))
                axes.plot([low, high], [y, y], color=color, linewidth=1.5)
                label = LABELS.get(who, who) if row == 0 else None
                size = 7 if who == "ours" else 5
                axes.plot(middle, y, "o", color=color, markersize=size, label=label)
            axes.axhline(row + 0.5, color="#eeeeee", linewidth=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title(f"{title} (log scale, left is better)")
        axes.grid(axis="x", color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
    left.set_yticks(range(len(names)), names)
    left.axvline(NO_ERRORS, color="#bbbbbb", linewidth=1)
    left.set_xlabel("the line at the left end is 0")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=len(COLORS), frameon=False)
    figure.suptitle(_title(result), fontsize=10)
    return figure


def _timelines(result: dict[str, Any]) -> Figure:
    names = list(result["scenarios"])
    figure = Figure(figsize=(14, 0.8 + 2.3 * len(names)), layout="constrained")
    titles = {"p99_ms": "p99 of each 0.5 s, ms", "errors_percent": "errors, %"}
    for row, (name, places) in enumerate(zip(names, figure.subplots(len(names), 2, squeeze=False), strict=True)):
        scenario = result["scenarios"][name]
        for axes, (key, title) in zip(places, titles.items(), strict=True):
            _lines(axes, result, scenario, key)
            axes.set_title(f"{name}: {title}", loc="left")
        places[0].set_yscale("log")
        places[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        places[0].yaxis.set_minor_formatter(NullFormatter())
        places[0].grid(axis="y", which="both", color="#eeeeee")
        places[1].set_ylim(0, max(1, places[1].get_ylim()[1]))
        if row == 0:
            figure.legend(*places[0].get_legend_handles_labels(), loc="outside upper center", ncols=7, frameon=False)
    return figure


def _lines(axes: Axes, result: dict[str, Any], scenario: dict[str, Any], key: str) -> None:
    for begin, end in scenario["windows_s"]:
        axes.axvspan(begin, end, color="#f3f3f3")
    for who, each in scenario["contenders"].items():
        over_time = each["over_time"]
        width = 2 if who == "ours" else 1
        axes.plot(
            over_time["t_s"], over_time[key], color=_color(result, who), linewidth=width, label=LABELS.get(who, who)
        )
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=scenario["warmup_s"] / 2)
