"""Draws the proxy table as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no screen
import matplotlib.pyplot as plt  # noqa: E402  # after the choice of how to draw
from matplotlib.axes import Axes  # noqa: E402

LABELS = {"ours": "dl-inference", "envoy": "Envoy", "nginx": "nginx", "grpc.aio": "grpc.aio", "none": "no proxy"}
# Readable by people who do not tell red from green (Okabe and Ito), the subject in the strongest.
COLORS = {"ours": "#d55e00", "envoy": "#0072b2", "nginx": "#009e73", "grpc.aio": "#cc79a7", "none": "#999999"}


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the four panels: CPU of small calls, CPU of large ones, throughput, latency."""
    figure, panels = plt.subplots(2, 2, figsize=(13, 9), layout="constrained")
    shapes = ["4 x 16", "64 x 1", "1 stream"]
    small = [("small", shape, shape) for shape in shapes]
    large = [(payload, "4 x 16", payload) for payload in ("150 KB", "1 MB")]
    size = result["payload_bytes"]["small"]
    _bars(panels[0][0], result, "cpu_us", small, f"CPU per request, {size} bytes", "µs (log scale), lower is better")
    _bars(
        panels[0][1],
        result,
        "cpu_us",
        large,
        "CPU per request, large bodies, 4 x 16",
        "µs (log scale), lower is better",
    )
    _bars(panels[1][0], result, "rps", [*small, *large], "Requests per second", "1/s (log scale), higher is better")
    latency = [("small", "1 stream", "1 stream, closed loop"), *_fixed(result)]
    _bars(
        panels[1][1],
        result,
        "p50_ms",
        latency,
        "Latency, 179 bytes: p50, line up to p99",
        "ms (log scale), lower is better",
        "p99_ms",
    )
    handles, labels = panels[1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(
        f"Proxy in front of two endpoints, 1 worker; {result['date'][:10]}, commit {result['commit'][:9]}\n"
        f"{result['cpu']}, {result['cores']} cores for load, proxy and endpoints; "
        f"median of {result['rounds']} rounds, lines: minimum to maximum",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _fixed(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    names = {row["shape"] for row in result["results"] if row["shape"].endswith("/s")}
    return [("small", name, f"{name}, open loop") for name in sorted(names)]


def _bars(
    axes: Axes,
    result: dict[str, Any],
    figure: str,
    groups: list[tuple[str, str, str]],
    title: str,
    unit: str,
    upper: str | None = None,
) -> None:
    """One group of bars for each (payload, shape, label), one bar for each contender.

    Args:
        axes: where.
        result: the run.
        figure: which measured figure.
        groups: what is compared.
        title: of the panel.
        unit: of the vertical axis.
        upper: the figure whose median ends the line above the bar; without it the line shows min to max.
    """
    rows = {(row["contender"], row["payload"], row["shape"]): row for row in result["results"]}
    names = [name for name in COLORS if name in result["contenders"] and not (name == "none" and figure == "cpu_us")]
    width = 0.84 / max(len(names), 1)
    for place, name in enumerate(names):
        for group, (payload, shape, _) in enumerate(groups):
            row = rows.get((name, payload, shape))
            if row is None or figure not in row:
                continue
            middle = row[figure]["median"]
            top = row[upper]["median"] if upper else row[figure]["max"]
            low = middle if upper else row[figure]["min"]
            x = group - 0.42 + (place + 0.5) * width
            error = [[max(middle - low, 0)], [max(top - middle, 0)]]
            label = LABELS[name] if group == 0 else None
            axes.bar(x, middle, width * 0.92, color=COLORS[name], yerr=error, ecolor="#444444", capsize=2, label=label)
            axes.annotate(_short(middle), (x, top), (0, 3), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.5, high * 1.6)
    axes.set_xticks(range(len(groups)), [label for _, _, label in groups])
    axes.set_title(title, fontsize=11)
    axes.set_ylabel(unit, fontsize=9)
    axes.grid(axis="y", which="major", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _short(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    if value >= 1000:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
