"""What the simulator says of a scenario, to be compared with the real processes."""

from __future__ import annotations

from typing import Any

from bench.scenario import Scenario

from dl_inference._native import NativeError
from dl_inference.simulation.outcome import ALL, simulate

# Contender -> the policy that stands for it there. Its configuration is that of the simulator, not of bench.balancers.
POLICIES = {
    "ours": "dwrr",
    "nginx": "nginx-least-conn",
    "nginx-wrr": "nginx",
    "envoy": "envoy-least-request",
    "envoy-rr": "envoy",
    "grpc-go": "grpc",
}
FIGURES = ("errors_percent", "p99_ms")
# How far its p99 may be from the real one.
BAR = 0.15


def simulated(scenario: Scenario, contenders: list[str], seeds: int) -> dict[str, dict[str, float]]:
    """Return errors and p99, the medians over the seeds, of each contender that it knows; nothing where it knows a
    scenario's faults not.
    """
    named = {POLICIES.get(who, who.removeprefix("ours:policy=")): who for who in contenders}
    named = {policy: who for policy, who in named.items() if policy in ALL}
    try:
        outcomes = simulate(scenario.facts, named, range(1, seeds + 1))
    except NativeError:
        return {}
    spans = {named[one.policy]: {name: one.span(name) for name in FIGURES} for one in outcomes}
    return {who: {name: span.median for name, span in each.items() if span} for who, each in spans.items()}


def verdict(result: dict[str, Any]) -> str:
    """Return in how many scenarios the simulated p99 of this product is near the real one, and where it is not."""
    ratios = {}
    for name, scenario in result["scenarios"].items():
        each = scenario["contenders"].get("ours", {})
        if "p99_ms" in each.get("simulated", {}):
            ratios[name] = each["simulated"]["p99_ms"] / each["p99_ms"]["median"]
    if not ratios:
        return "nothing to compare with the simulator"
    near = [name for name, ratio in ratios.items() if abs(ratio - 1) <= BAR]
    far = ", ".join(f"{name} x{ratio:.2f}" for name, ratio in ratios.items() if name not in near)
    text = f"simulated p99 of dl-inference within {BAR:.0%} of the real one in {len(near)} of {len(ratios)} scenarios"
    return f"{text}; not in {far}" if far else text
