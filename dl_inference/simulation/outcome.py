"""What a simulation came to: the reports of several seeds as medians with their spans."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dl_inference import _native

DEFAULT_POLICIES = ("dwrr", "envoy-least-request", "nginx-least-conn")
ALL = (*_native.POLICIES, *_native.OTHER_POLICIES)


@dataclass(frozen=True, slots=True)
class Span:
    """A figure over several seeds."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one policy made of a scenario.

    Attributes:
        policy: its name.
        reports: one for each seed, as _native.simulate gives them.
    """

    policy: str
    reports: Sequence[dict[str, Any]]

    def span(self, figure: str) -> Span | None:
        """Return a figure over the seeds; None where a report has none. ``CLASS_p99_ms`` is that of a class."""
        values = [value for report in self.reports if (value := _figure(report, figure)) is not None]
        if len(values) < len(self.reports):
            return None
        return Span(statistics.median(values), min(values), max(values))


def simulate(scenario: dict[str, Any], policies: Iterable[str], seeds: Iterable[int]) -> list[Outcome]:
    """Run a scenario by each policy with each seed.

    Args:
        scenario: as docs/simulate.md describes it.
        policies: names of _native.POLICIES and _native.OTHER_POLICIES.
        seeds: non-negative numbers; the same one gives the same result, and all policies the same calls.

    Raises:
        NativeError: the scenario or a name is wrong; names the key.
    """
    names = list(dict.fromkeys(policies))
    order = {"scenario": scenario, "policies": names, "seeds": list(seeds)}
    reports = json.loads(_native.simulate(json.dumps(order)))
    return [Outcome(name, [report for report in reports if report["policy"] == name]) for name in names]


def missed(scenario: dict[str, Any], outcome: Outcome) -> dict[str, float]:
    """Return the goals that a policy's medians miss: figure -> what it is. A figure that never came is infinite."""
    spans = {figure: outcome.span(figure) for figure in scenario.get("goals", {})}
    found = {figure: span.median if span else float("inf") for figure, span in spans.items()}
    return {figure: value for figure, value in found.items() if value > scenario["goals"][figure]}


def _figure(report: dict[str, Any], figure: str) -> float | None:
    if figure in report:
        value = report[figure]
    else:
        name, _, rest = figure.partition("_")
        value = report["classes"].get(name, {}).get(rest)
    return None if value is None else float(value)
