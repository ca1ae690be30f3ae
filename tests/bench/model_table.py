"""Prints what ``bench.models`` found: a block for each workload, a line for each contender, and the goals."""

from __future__ import annotations

from typing import Any

from bench.model_goals import FULL, LONE, PART

COLUMNS = [
    ("CPU us/request", FULL, "cpu_us"),
    ("req/s", FULL, "rps"),
    ("p50 ms", LONE, "p50_ms"),
    ("p99 ms", LONE, "p99_ms"),
    ("p50 ms at 80 %", PART, "p50_ms"),
    ("p99 ms at 80 %", PART, "p99_ms"),
    ("failed of 80 %", PART, "failed"),
]


def table(result: dict[str, Any]) -> str:
    """Return the results as text: medians, and minimum to maximum where the rounds differ."""
    rows = {(each["contender"], each["workload"], each["shape"]): each for each in result["results"]}
    lines = []
    for workload in dict.fromkeys(key[1] for key in rows):
        lines += ["", f"{workload:12}" + "".join(f"{title:>24}" for title, _, _ in COLUMNS)]
        for who in dict.fromkeys(key[0] for key in rows if key[1] == workload):
            cells = [_cell(rows.get((who, workload, shape), {}).get(figure)) for _, shape, figure in COLUMNS]
            lines.append(f"{who:12}" + "".join(f"{cell:>24}" for cell in cells))
        lines += _batches(rows, workload)
    lines.append("")
    for goal in result["goals"]:
        word = "reached" if goal["reached"] else "NOT reached"
        lines.append(f"{word}: {goal['goal']}: {_cell(goal['value'])}")
    return "\n".join(lines)


def _batches(rows: dict[tuple[str, str, str], Any], workload: str) -> list[str]:
    """Return a line of t(b) for each contender that was asked for it."""
    lines = []
    for who in dict.fromkeys(key[0] for key in rows if key[1] == workload and key[2].endswith(" rows")):
        times = ", ".join(f"{size}: {_short(ms)}" for size, ms in times_of(rows, who, workload))
        lines.append(f"  {who}, p50 ms of a call with so many rows: {times}")
    return lines


def times_of(rows: dict[tuple[str, str, str], Any], who: str, workload: str) -> list[tuple[int, float]]:
    """Return the median time in ms of a call with each number of rows."""
    found = []
    for (name, of, shape), each in rows.items():
        if (name, of) == (who, workload) and shape.endswith(" rows"):
            found.append((int(shape.removesuffix(" rows")), each["p50_ms"]["median"]))
    return found


def _cell(values: dict[str, float] | None) -> str:
    if values is None:
        return ""
    middle, low, high = (_short(values[name]) for name in ("median", "min", "max"))
    return middle if low == high else f"{middle} ({low}-{high})"


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
