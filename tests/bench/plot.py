"""Draws the proxy table as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

LABELS = {
    "ours": "dl-inference",
    "envoy": "Envoy",
    "nginx": "nginx",
    "haproxy": "HAProxy",
    "grpc.aio": "grpc.aio",
    "none": "no proxy",
}
LABELS |= {"ours-batch": "dl-inference, batch hooks", "seldon": "seldon-core", "mosec": "mosec", "litserve": "LitServe"}
LABELS |= {"mlserver": "MLServer", "torch": "torch in process"}
# Readable by people who do not tell red from green (Okabe and Ito), the subject in the strongest.
COLORS = {
    "ours": "#d55e00",
    "envoy": "#0072b2",
    "nginx": "#009e73",
    "haproxy": "#56b4e9",
    "grpc.aio": "#cc79a7",
    "none": "#999999",
}
COLORS |= {"ours-batch": "#e69f00", "seldon": "#0072b2", "mosec": "#009e73", "litserve": "#56b4e9"}
COLORS |= {"mlserver": "#f0e442", "torch": "#999999"}
GROUP_WIDTH = 0.84


@dataclass(frozen=True)
class Panel:
    """One diagram: a figure for some (payload, shape, label), a bar for each contender."""

    title: str
    unit: str
    figure: str
    groups: list[tuple[str, str, str]]
    upper: str | None = None
    """The figure whose median ends the line on a bar; without it the line shows minimum to maximum."""


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the four panels: CPU of small calls, CPU of large ones, throughput, latency."""
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 11}):
        figure = Figure(figsize=(13, 9), layout="constrained")
        axes = figure.subplots(2, 2).flatten()
        for place, panel in zip(axes, _panels(result), strict=True):
            bars(place, result, panel)
        handles = {label: bar for one in axes for bar, label in zip(*one.get_legend_handles_labels(), strict=True)}
        order = [label for label in LABELS.values() if label in handles]
        figure.legend([handles[one] for one in order], order, loc="outside lower center", ncols=6, frameon=False)
        figure.suptitle(
            f"A proxy with one worker in front of two endpoints, {result['date'][:10]}, commit {result['commit'][:9]}\n"
            f"{result['cpu']}, {result['cores']} cores for load, proxy and endpoints; "
            f"median of {result['rounds']} round(s), lines from minimum to maximum",
            fontsize=11,
        )
        figure.savefig(path, dpi=110)


def _panels(result: dict[str, Any]) -> list[Panel]:
    measured = {(row["payload"], row["shape"]) for row in result["results"]}
    rates = sorted(shape for _, shape in measured if shape.endswith("/s"))
    wanted = [("small", shape, shape) for shape in ("4 x 16", "64 x 1", "1 stream")]
    small = [one for one in wanted if one[:2] in measured]
    large = [(size, "4 x 16", size) for size in ("150 KB", "1 MB") if (size, "4 x 16") in measured]
    closed = [(payload, shape, f"small\n{label}") for payload, shape, label in small]
    closed += [(payload, shape, f"{label}\n{shape}") for payload, shape, label in large]
    slow = [("small", "1 stream", "1 stream, closed loop")] if ("small", "1 stream") in measured else []
    slow += [("small", rate, f"{rate}, open loop") for rate in rates]
    size = result["payload_bytes"]["small"]
    lower = "log scale, lower is better"
    return [
        Panel(f"CPU per request of {size} bytes", f"µs ({lower})", "cpu_us", small),
        Panel("CPU per request with a large body, 4 x 16", f"µs ({lower})", "cpu_us", large),
        Panel("Requests per second", "1/s (log scale, higher is better)", "rps", closed),
        Panel(f"Latency of {size} bytes: bar p50, line to p99", f"ms ({lower})", "p50_ms", slow, upper="p99_ms"),
    ]


def bars(axes: Axes, result: dict[str, Any], panel: Panel) -> None:
    """Draw one diagram."""
    rows = {(row["contender"], row["payload"], row["shape"]): row for row in result["results"]}
    # Without a proxy there is no proxy's CPU; a bar of 0 has no place on a log scale.
    names = [one for one in LABELS if one in result["contenders"] and (one != "none" or panel.figure != "cpu_us")]
    width = GROUP_WIDTH / max(len(names), 1)
    for number, name in enumerate(names):
        for group, (payload, shape, _) in enumerate(panel.groups):
            if row := rows.get((name, payload, shape)):
                _bar(axes, (group + (number + 0.5) * width - GROUP_WIDTH / 2, width), row, panel)
    axes.set_title(panel.title)
    axes.set_ylabel(panel.unit)
    axes.set_xticks(range(len(panel.groups)), [label for _, _, label in panel.groups])
    axes.spines[["top", "right"]].set_visible(False)
    if not panel.groups:
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.3, high * 1.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value).replace(".0k", "k")))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", which="major", color="#dddddd")
    axes.set_axisbelow(True)


def _bar(axes: Axes, at: tuple[float, float], row: dict[str, Any], panel: Panel) -> None:
    x, width = at
    name = row["contender"]
    middle = row[panel.figure]["median"]
    low, top = row[panel.figure]["min"], row[panel.figure]["max"]
    if panel.upper:
        low, top = middle, row[panel.upper]["median"]
    error = [[max(middle - low, 0)], [max(top - middle, 0)]]
    axes.bar(x, middle, width * 0.92, color=COLORS[name], yerr=error, ecolor="#444444", capsize=2, label=LABELS[name])
    text = _short(middle) if panel.upper is None else f"{_short(middle)}\n({_short(top)})"
    axes.annotate(text, (x, top), (0, 3), textcoords="offset points", ha="center", fontsize=8 if width > 0.2 else 7)


def _short(value: float) -> str:
    """Three figures at most, two from 1,000 to 10,000: 123k, 12k, 1.2k, 123, 1.23."""
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.3g}"
