"""The figures of a run of ``bench.balance`` say what happened to its calls."""

from __future__ import annotations

import numpy as np
import pytest
from bench.figures import Calls, figures, summary
from bench.scenario import Scenario


def scenario(**facts: object) -> Scenario:
    fault = {"kind": "fail", "endpoints": [0], "from_s": 2, "to_s": 4}
    return Scenario("made", {"duration_s": 10, "warmup_s": 1, "endpoints": {"count": 2}, "faults": [fault], **facts})


def calls(seconds: float = 10, rate: int = 100, name: str = "all") -> Calls:
    """Return calls that all take 5 ms and go to endpoint 0 and 1 in turn."""
    count = int(seconds * rate)
    return {
        "due_s": np.arange(count) / rate,
        "latency_ms": np.full(count, 5.0),
        "code": np.zeros(count, int),
        "class": np.array([name] * count),
        "endpoint": np.arange(count) % 2,
    }


def test_calls_of_the_warm_up_are_not_counted() -> None:
    made = calls()
    made["code"][:100] = 14
    made["latency_ms"][:100] = 1000
    found = figures(scenario(), made)
    assert (found["errors_percent"], found["max_ms"]) == (0, 5)


def test_errors_after_the_fault_are_told_apart() -> None:
    made = calls()
    made["code"][300:309] = 14  # 3.0 s: while it lasts
    made["code"][900:906] = 4
    found = figures(scenario(), made)
    assert found["errors_percent"] == pytest.approx(100 * 15 / 900)
    assert found["errors_after_percent"] == pytest.approx(100 * 6 / 600)


def test_an_endpoint_that_comes_back_late_is_seen_to() -> None:
    made = calls()
    made["endpoint"][(made["due_s"] >= 2) & (made["due_s"] < 6)] = 1
    found = figures(scenario(), made)
    assert found["first_call_s"] == pytest.approx(2.005)
    assert found["full_share_s"] == pytest.approx(1.8, abs=0.15)


def test_an_endpoint_that_never_comes_back_has_no_time() -> None:
    made = calls()
    made["endpoint"][made["due_s"] >= 2] = 1
    found = figures(scenario(), made)
    assert summary([found["full_share_s"], 1.0]) == {"median": None, "min": 1.0, "max": None}


def test_classes_are_told_apart_and_the_callers_own_doing_is_left_out() -> None:
    classes = [{"name": "light"}, {"name": "heavy"}, {"name": "wrong", "code": "INVALID_ARGUMENT"}]
    made = calls()
    made["class"] = np.array(["light", "heavy", "wrong", "light"] * 250)
    made["code"][made["class"] == "wrong"] = 3
    made["latency_ms"][made["class"] == "heavy"] = 200
    found = figures(scenario(classes=classes), made)
    assert found["errors_percent"] == 0
    assert (found["light_p99_ms"], found["heavy_p99_ms"]) == (5, 200)
    assert "wrong_p99_ms" not in found
