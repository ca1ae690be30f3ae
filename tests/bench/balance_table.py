"""Prints what ``bench.balance`` found: a block for each scenario, a line for each contender."""

from __future__ import annotations

from typing import Any

# Figure -> its column. Figures that a scenario has besides follow, under their own names.
COLUMNS = {"errors_percent": "errors %", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "p999_ms": "p99.9 ms"}
LAST = {"errors_after_percent": "after %", "first_call_s": "first call s", "full_share_s": "full share s"}
HIDDEN = ("_p50_ms", "_p999_ms", "max_ms", "cpu_us", "_errors_percent")


def table(result: dict[str, Any]) -> str:
    """Return the results as text: medians, and minimum to maximum where there were several seeds."""
    lines = []
    for name, scenario in result["scenarios"].items():
        found = scenario["contenders"]
        columns = COLUMNS | _own(next(iter(found.values()))) | LAST
        columns = {key: title for key, title in columns.items() if any(key in each for each in found.values())}
        simulated = any(each.get("simulated") for each in found.values())
        lines += [f"\n{name}: {scenario['about']}", f"{'':12}" + "".join(f"{title:>18}" for title in columns.values())]
        lines[-1] += f"{'simulated p99 ms':>18}" if simulated else ""
        for who, each in found.items():
            cells = "".join(f"{_cell(each[key]) if key in each else '':>18}" for key in columns)
            if simulated:
                p99 = each["simulated"].get("p99_ms")
                cells += f"{'' if p99 is None else _short(p99):>18}"
            lines.append(f"{who:12}{cells}{'' if each['is_trusted'] else '  (load was late: busy machine)'}")
    return "\n".join(lines)


def _own(each: dict[str, Any]) -> dict[str, str]:
    """Return the columns of classes."""
    named = [key for key in each if key.endswith("_ms") and isinstance(each[key], dict)]
    shown = [key for key in named if key not in COLUMNS and not key.endswith(HIDDEN)]
    return {key: key.removesuffix("_ms").replace("_", " ") + " ms" for key in shown}


def _cell(values: dict[str, Any]) -> str:
    if values["median"] is None:
        return "never"
    text = _short(values["median"])
    spread = [_short(values["min"]), _short(values["max"])]
    return text if spread[0] == spread[1] else f"{text} ({spread[0]}-{spread[1]})"


def _short(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.1f}"
