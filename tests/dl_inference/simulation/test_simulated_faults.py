"""What the simulated endpoints do: they queue as theory says, and each fault does what docs/simulate.md says of it."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest

from dl_inference.simulation.outcome import simulate

CONSTANT = {"law": "constant", "mean_ms": 10}


def report(policy: str = "grpc", seed: int = 1, **keys: Any) -> dict[str, Any]:
    """Return what comes of 5 s of 100 calls/s to two endpoints, but for the keys that are given."""
    plain = {"duration_s": 5, "endpoints": {"count": 2}, "service": CONSTANT, "load": {"rate": 100}}
    (outcome,) = simulate({**plain, **keys}, [policy], [seed])
    return outcome.reports[0]


def sent(found: dict[str, Any], endpoint: int, begin: float, end: float) -> int:
    """Return the attempts at an endpoint from begin to end, in s."""
    bin_s = found["course"]["bin_s"]
    bins = enumerate(found["course"]["attempts"][endpoint])
    return sum(count for number, count in bins if begin <= number * bin_s and (number + 1) * bin_s <= end)


def test_a_queue_is_as_long_as_theory_says():
    # One server, exponential service of 10 ms, 50 calls/s: times are exponential with a mean of 1 / (100 - 50) s.
    service = {"law": "exponential", "mean_ms": 10}
    one = {"endpoints": {"count": 1, "slots": 1}, "service": service, "load": {"rate": 50}, "network_ms": 0}
    runs = [report(duration_s=400, deadline_ms=10_000, seed=seed, **one) for seed in range(5)]
    assert statistics.mean(run["p50_ms"] for run in runs) == pytest.approx(20 * math.log(2), rel=0.04)
    assert statistics.mean(run["p99_ms"] for run in runs) == pytest.approx(20 * math.log(100), rel=0.08)


def test_calls_come_at_the_rate_and_more_of_them_in_an_overload():
    overload = {"kind": "overload", "factor": 3, "from_s": 20, "to_s": 30}
    calls = report(duration_s=40, faults=[overload])["course"]["calls"]
    quarter = len(calls) // 4
    rates = [sum(calls[number * quarter : (number + 1) * quarter]) / 10 for number in range(4)]
    assert rates == pytest.approx([100, 100, 300, 100], rel=0.1)


def test_what_fails_is_answered_at_once_with_its_code():
    fail = {"kind": "fail", "code": "INTERNAL", "from_s": 0, "after_ms": 3}
    found = report(faults=[fail])
    assert found["errors"] == {"INTERNAL": found["calls"]}
    assert found["max_ms"] == pytest.approx(3.2)


def test_a_share_of_the_calls_fails():
    found = report(duration_s=50, faults=[{"kind": "fail", "share": 0.3, "from_s": 0}])
    assert found["errors_percent"] == pytest.approx(30, abs=2)


@pytest.mark.parametrize("kind", ["hang", "headers"])
def test_what_hangs_takes_the_deadline(kind):
    found = report(faults=[{"kind": kind, "endpoints": [0], "from_s": 0}], deadline_ms=250)
    assert found["errors_percent"] == pytest.approx(50, abs=1)
    assert found["p99_ms"] == 250


def test_what_sends_its_headers_is_not_tried_elsewhere():
    hang, headers = (
        report("envoy", faults=[{"kind": kind, "endpoints": [0], "from_s": 0, "to_s": 0.2}])
        for kind in ("hang", "headers")
    )
    assert hang["errors_percent"] == 0
    assert headers["errors_percent"] > 0


def test_a_crash_loses_the_calls_in_flight_and_refuses_others():
    crash = {"kind": "refuse", "endpoints": [0], "from_s": 2, "to_s": 4}
    found = report(faults=[crash], service={"law": "constant", "mean_ms": 50})
    assert 0 < found["errors"]["UNAVAILABLE"] < 10
    assert sent(found, 0, 2.1, 4) == 0


def test_a_restart_loses_no_call():
    restart = {"kind": "restart", "every_s": 2, "active_s": 1, "moves": True, "from_s": 0.5, "to_s": 4.5}
    found = report(faults=[restart], service={"law": "constant", "mean_ms": 50})
    assert found["errors"] == {}
    assert sent(found, 0, 0.6, 1.5) == sent(found, 1, 2.6, 3.5) == 0


def test_what_is_frozen_answers_when_it_goes_on():
    found = report(faults=[{"kind": "freeze", "endpoints": [0], "from_s": 1, "to_s": 1.4}])
    assert found["errors"] == {}
    assert 350 < found["max_ms"] < 500


def test_what_is_slow_takes_times_as_long_and_longer():
    slow = {"kind": "slow", "factor": 2, "add_ms": 5, "endpoints": [0], "from_s": 0}
    found = report(faults=[slow], load={"rate": 20})
    assert found["p99_ms"] == pytest.approx(2 * 10 + 5 + 0.2)


def test_speed_divides_the_time_of_a_call():
    found = report(endpoints={"count": 2, "speeds": [1, 4]}, load={"rate": 20})
    assert found["p50_ms"] in (pytest.approx(10.2), pytest.approx(2.7))
    assert found["p99_ms"] == pytest.approx(10.2)


def test_what_joins_gets_no_call_before():
    found = report(faults=[{"kind": "join", "endpoints": [1], "from_s": 2.5}])
    assert sent(found, 1, 0, 2.4) == 0
    assert sent(found, 1, 2.6, 5) == pytest.approx(120, abs=30)


def test_a_full_queue_is_resource_exhausted():
    found = report(endpoints={"count": 1, "slots": 1, "queue": 2}, load={"rate": 200})
    assert found["errors"].keys() == {"RESOURCE_EXHAUSTED"}
    assert found["errors_percent"] == pytest.approx(50, abs=10)
    assert found["max_ms"] == pytest.approx(30.2, abs=0.5)


def test_a_fault_that_moves_comes_to_each_endpoint_in_turn():
    fault = {"kind": "freeze", "every_s": 1, "active_s": 0.25, "moves": True, "from_s": 1, "to_s": 4}
    assert report(faults=[fault])["course"]["faults"] == [[1, 1.25, [0]], [2, 2.25, [1]], [3, 3.25, [0]]]


def test_a_fault_of_a_class_leaves_the_others_alone():
    classes = [{"name": "good", "share": 1}, {"name": "bad", "share": 1}]
    found = report(classes=classes, faults=[{"kind": "fail", "class": "bad", "from_s": 0}])
    assert found["classes"]["good"]["errors_percent"] == 0
    assert found["classes"]["bad"]["errors_percent"] == 100


def test_what_is_the_callers_own_fault_is_no_error():
    classes = [
        {"name": "good", "share": 2},
        {"name": "wrong", "share": 1, "code": "INVALID_ARGUMENT"},
        {"name": "hasty", "share": 1, "deadline_ms": 1},
    ]
    found = report(classes=classes)
    assert found["errors_percent"] == 0
    assert found["calls"] == pytest.approx(250, abs=60)
    assert found["classes"]["wrong"]["errors_percent"] == found["classes"]["hasty"]["errors_percent"] == 100
    assert found["classes"]["hasty"]["max_ms"] == 1
