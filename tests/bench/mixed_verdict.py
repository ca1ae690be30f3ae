"""What a run of mixed calls found out: wrong answers, errors that no fault explains, and what is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# How a call may end that has a short deadline: out of time, also within an answer that its caller reads slowly, or
# turned away at once as no endpoint would answer in time (docs/balancing.md, admission).
OUT_OF_TIME = {"code 4 deadline_exceeded", "code 4 reset within the answer", "code 8 shed"}
# How a call may end while endpoints fail, by the kind of error that the access service gives: it could not be repeated.
# Without a kind the status is the endpoint's own.
FAILED = {
    "code 14",
    "code 14 connect_failed",
    "code 14 refused_stream",
    "code 14 connection_lost",
    "code 14 stream_reset",
    "code 13 bad_upstream_response",
    "code 4 deadline_exceeded",
}
CALLERS_OWN = {"cancelled", "connection left"}
# Of calls that end by their answer, with three of four endpoints failing half of the time.
LEAST_ANSWERED = 0.9
# Memory after all calls, over that after the first of them.
GROWTH_BAR = 0.25


def verdict(part: str, found: dict[str, Any]) -> list[str]:
    """Return what was not as it must be; empty: all is well. ``part`` is mixed or cancels."""
    wrong = []
    if left := {name: number for name, number in found["held_at_the_end"].items() if number}:
        wrong.append(f"{part}: the service has left over {left}")
    if found["connections_ended_by"]:
        wrong.append(f"{part}: the service ended connections: {found['connections_ended_by']}")
    if found["errors"]["internal"]:
        wrong.append(f"{part}: {found['errors']['internal']:g} internal errors")
    wrong += _mixed(found) if part == "mixed" else _cancels(found)
    return wrong


def _mixed(found: dict[str, Any]) -> Iterator[str]:
    parts: list[tuple[dict[str, Any], set[str]]] = [(found, FAILED), *((it, set()) for it in found["without_faults"])]
    for report, failed in parts:
        if report["wrong"]:
            yield f"mixed: {report['wrong']} calls were wrong: {report['wrong_calls'][:3]}"
        for kind, outcomes in report["outcomes"].items():
            may = failed | (OUT_OF_TIME if "short deadline" in kind else set())
            if beyond := set(outcomes) - may - CALLERS_OWN - {"answered", "wrong"}:
                yield f"mixed: {kind}: no fault explains {sorted(beyond)}"
    ended = [outcomes for kind, outcomes in found["outcomes"].items() if "," not in kind]
    answered = sum(each.get("answered", 0) for each in ended)
    calls = sum(sum(each.values()) for each in ended)
    if answered < LEAST_ANSWERED * calls:
        yield f"mixed: only {answered} of {calls} calls were answered"
    memory = found["resident_bytes"]
    if memory["end"] > (1 + GROWTH_BAR) * memory["warm"]:
        yield f"mixed: memory grew from {memory['warm']} to {memory['end']} bytes"


def _cancels(found: dict[str, Any]) -> Iterator[str]:
    beyond = {
        f"{kind}: {outcome}"
        for kind, outcomes in found["outcomes"].items()
        for outcome in outcomes
        if outcome not in ("answered", "cancelled")
    }
    if found["wrong"]:
        yield f"cancels: {found['wrong']} calls were wrong: {found['wrong_calls'][:3]}"
    if beyond:
        yield f"cancels: calls ended otherwise: {sorted(beyond)}"
    if found["connections"] != found["lines"]:
        yield f"cancels: {found['connections']} connections where {found['lines']} were asked for"
    if any(found["connections_to_endpoints"]):
        yield f"cancels: new connections to endpoints: {found['connections_to_endpoints']}"
    if closed := {reason: number for reason, number in found["connections_closed_by_service"].items() if number}:
        yield f"cancels: the service closed connections: {closed}"
    memory = found["resident_bytes"]
    if memory["end"] > (1 + GROWTH_BAR) * memory["half"]:
        yield f"cancels: memory grew from {memory['half']} to {memory['end']} bytes"
