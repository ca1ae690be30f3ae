"""Draws the table of model servers as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from bench.model_goals import FULL, LONE, PART
from bench.model_table import times_of
from bench.plot import COLORS, LABELS, Panel, bars
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter


def draw(result: dict[str, Any], path: Path) -> None:
    """Write five panels of bars, and one of time against batch size."""
    named = [{**row, "payload": row["workload"]} for row in result["results"]]
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 11}):
        figure = Figure(figsize=(17, 9), layout="constrained")
        *places, last = figure.subplots(2, 3).flatten()
        for place, panel in zip(places, _panels(result), strict=True):
            bars(place, {**result, "results": named}, panel)
        _against_rows(last, result)
        handles = {label: bar for one in places for bar, label in zip(*one.get_legend_handles_labels(), strict=True)}
        order = [label for label in LABELS.values() if label in handles]
        figure.legend([handles[one] for one in order], order, loc="outside lower center", ncols=8, frameon=False)
        figure.suptitle(
            f"Model servers, one process that computes, one torch thread, {result['date'][:10]}, commit "
            f"{result['commit'][:9]}\n{result['cpu']}, {result['cores']} cores for load and server; median of "
            f"{result['rounds']} round(s), lines from minimum to maximum",
            fontsize=11,
        )
        figure.savefig(path, dpi=110)


def _panels(result: dict[str, Any]) -> list[Panel]:
    workloads = list(dict.fromkeys(row["workload"] for row in result["results"]))

    def groups(shape: str) -> list[tuple[str, str, str]]:
        return [(workload, shape, workload) for workload in workloads]

    lower, latency = "log scale, lower is better", "bar p50, line to p99"
    return [
        Panel("CPU per request, 64 calls at once", f"µs ({lower})", "cpu_us", groups(FULL)),
        Panel("Requests per second, 64 calls at once", "1/s (log scale, higher is better)", "rps", groups(FULL)),
        Panel("CPU per request, one call at a time", f"µs ({lower})", "cpu_us", groups(LONE)),
        Panel(f"Latency, one call at a time: {latency}", f"ms ({lower})", "p50_ms", groups(LONE), upper="p99_ms"),
        Panel(f"Latency at 80 % of own capacity: {latency}", f"ms ({lower})", "p50_ms", groups(PART), upper="p99_ms"),
    ]


def _against_rows(axes: Axes, result: dict[str, Any]) -> None:
    rows = {(each["contender"], each["workload"], each["shape"]): each for each in result["results"]}
    markers = {"echo": "x", "mlp": "o", "cnn": "s"}
    for who, workload in dict.fromkeys(key[:2] for key in rows if key[2].endswith(" rows")):
        sizes, times = zip(*times_of(rows, who, workload), strict=True)
        axes.plot(sizes, times, marker=markers[workload], color=COLORS[who], label=f"{workload}, {LABELS[who]}")
    axes.set_title("Time of a call against its rows, one call at a time")
    axes.set_xlabel("rows")
    axes.set_ylabel("p50, ms (log scale)")
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sorted({size for line in axes.lines for size in line.get_xdata()}))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.legend(frameon=False)
    axes.grid(color="#dddddd")
