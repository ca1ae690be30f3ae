"""Draws what `bench.batcher` has measured: for each model and trace a bar for each way to make batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

OURS, OTHERS = "#d55e00", "#0072b2"


def draw(result: dict[str, Any], path: Path) -> None:
    """Write one panel for each model and trace."""
    rows = result["results"]
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 11}):
        figure = Figure(figsize=(11, 2 + 2.4 * ((len(rows) + 1) // 2)), layout="constrained")
        axes = figure.subplots((len(rows) + 1) // 2, 2, squeeze=False).flatten()
        for place in axes[len(rows) :]:
            place.set_visible(False)
        for place, row in zip(axes, rows, strict=False):
            names = [*row["shares"]]
            place.barh(names, row["shares"].values(), color=[OURS, *[OTHERS] * (len(names) - 1)])
            place.invert_yaxis()
            place.set_xlim(0, 1)
            place.set_xlabel("share of the calls in time (higher is better)")
            place.set_title(f"{row['workload']}, {row['trace']}, {row['deadline_ms']:.0f} ms to answer")
            place.spines[["top", "right"]].set_visible(False)
        figure.suptitle(
            f"Batches that tune themselves, and fixed ones; {result['date'][:10]}, commit {result['commit'][:9]}\n"
            f"{result['cpu']}, {result['cores']} cores for load and server; mean of {result['rounds']} round(s)",
            fontsize=11,
        )
        figure.savefig(path, dpi=110)
