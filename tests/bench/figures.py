"""What the calls of one run say: errors, latencies, and how soon an endpoint gets its share again.

Latency counts from when a call was due. It is that of all calls, failed ones too: a call that ran into its deadline is
in the percentiles with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bench.scenario import CODES, Scenario

Calls = dict[str, np.ndarray]
PERCENTILES = {"p50_ms": 50, "p99_ms": 99, "p999_ms": 99.9, "max_ms": 100}
# An endpoint is back when it answers this part of its fair share in a second.
FULL_SHARE = 0.8


def chosen(calls: Calls, mask: np.ndarray) -> Calls:
    """Return some of the calls."""
    return {name: values[mask] for name, values in calls.items()}


def figures(scenario: Scenario, calls: Calls) -> dict[str, float]:
    """Return the figures of one run, by name; a unit ends each name."""
    names = [each.name for each in scenario.classes if each.is_counted]
    counted = chosen(calls, (calls["due_s"] >= scenario.warmup_s) & np.isin(calls["class"], names))
    found = _errors("errors_percent", counted)
    found |= _percentiles("", counted)
    if len(names) > 1:
        for name in names:
            of_class = chosen(counted, counted["class"] == name)
            found |= _errors(f"{name}_errors_percent", of_class) | _percentiles(f"{name}_", of_class)
    end = scenario.faults_end_s
    if end < scenario.duration_s:
        found |= _errors("errors_after_percent", chosen(counted, counted["due_s"] >= end))
    return found | _healing(scenario, counted)


def codes(calls: Calls) -> dict[str, int]:
    """Return how often each code came, by name."""
    values, counts = np.unique(calls["code"], return_counts=True)
    return {CODES[value]: int(count) for value, count in zip(values, counts, strict=True)}


def _errors(name: str, calls: Calls) -> dict[str, float]:
    return {name: 100 * float((calls["code"] != 0).mean())} if len(calls["code"]) else {}


def _percentiles(prefix: str, calls: Calls) -> dict[str, float]:
    if not len(calls["code"]):
        return {}
    return {
        prefix + name: float(np.percentile(calls["latency_ms"], level, method="inverted_cdf"))
        for name, level in PERCENTILES.items()
    }


def _healing(scenario: Scenario, calls: Calls) -> dict[str, float]:
    """Return when one endpoint that was out answered its first call after its fault, and when its full share."""
    faults = [one for one in scenario.facts.get("faults", []) if one["kind"] not in ("overload", "loss")]
    if len(faults) != 1 or len(faults[0].get("endpoints", [])) != 1 or "every_s" in faults[0]:
        return {}
    number, end = faults[0]["endpoints"][0], scenario.faults_end_s
    done = calls["due_s"] + calls["latency_ms"] / 1000
    own = np.sort(done[(calls["endpoint"] == number) & (calls["code"] == 0) & (calls["due_s"] >= end)])
    if end >= scenario.duration_s:
        return {}
    found = {"first_call_s": float(own[0] - end) if len(own) else float("inf")}
    speeds = np.array(scenario.facts["endpoints"].get("speeds", [1.0]))
    part = speeds[number % len(speeds)] / np.sum(np.resize(speeds, scenario.endpoints))
    for begin in np.arange(end, scenario.duration_s - 1, 0.1):
        in_second = (calls["due_s"] >= begin) & (calls["due_s"] < begin + 1)
        if (calls["endpoint"][in_second] == number).mean() >= FULL_SHARE * part:
            return {**found, "full_share_s": float(begin - end)}
    return {**found, "full_share_s": float("inf")}


def over_time(calls: Calls, step_s: float, figure: Callable[[Calls], float]) -> tuple[list[float], list[float]]:
    """Return the middle of each step of time, and a figure of the calls that were due in it."""
    steps = (calls["due_s"] // step_s).astype(int)
    present = np.unique(steps)
    return [(step + 0.5) * step_s for step in present], [figure(chosen(calls, steps == step)) for step in present]


def summary(values: list[float]) -> dict[str, Any]:
    """Return median, minimum and maximum over the seeds; a time that never came is null."""
    finite = [value for value in values if np.isfinite(value)]
    if len(finite) < len(values):
        return {"median": None, "min": min(finite, default=None), "max": None}
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}
