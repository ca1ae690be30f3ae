"""A scenario on real processes: the calls of the file reach the endpoints through a proxy, and its faults strike."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.balancers import BALANCERS, Fleet, find
from bench.contenders import Contender
from bench.measure import TARGET
from bench.replay import replay
from bench.scenario import Scenario
from fixtures.lacking import lacking

CLASSES = [{"name": "light"}, {"name": "wrong", "code": "INVALID_ARGUMENT"}]
FACTS = {
    "duration_s": 1,
    "deadline_ms": 20_000,
    "endpoints": {"count": 2, "slots": 4},
    "service": {"law": "constant", "mean_ms": 1},
    "load": {"rate": 100},
    "classes": CLASSES,
    "faults": [{"kind": "refuse", "endpoints": [0], "from_s": 0, "to_s": 1}],
}


@pytest.fixture(autouse=True)
def programs() -> None:
    if not (TARGET / "endpoint").exists():
        lacking("endpoint is not built: cargo build --release -p dl-inference-bench")


def test_each_call_of_a_scenario_is_made_and_told(tmp_path: Path) -> None:
    scenario = Scenario("made", FACTS)
    run = replay(scenario, "ours", 1, tmp_path)
    due = [int(line.split()[0]) / 1e6 for line in scenario.arrivals(1).splitlines()]
    assert run.calls["due_s"] == pytest.approx(due)
    wrong = run.calls["class"] == "wrong"
    assert set(run.calls["code"][wrong]) == {3}
    assert set(run.calls["code"][~wrong]) == {0}
    assert set(run.calls["endpoint"][10:]) == {1}
    assert run.calls["latency_ms"].min() >= 1


def test_a_contender_that_never_answers_is_named_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BALANCERS, "nobody", lambda address, fleet, folder: Contender("nobody", "", address))
    monkeypatch.setattr("bench.replay.START_S", 0.2)
    with pytest.raises(AssertionError, match=r"nobody: no OK in 0\.2 s"):
        replay(Scenario("made", FACTS), "nobody", 1, tmp_path)


def test_a_contender_is_a_name_or_this_product_with_settings() -> None:
    assert find("envoy") is BALANCERS["envoy"]
    with pytest.raises(ValueError, match="no contender apache; there are ours, ours:hedge=true, nginx"):
        find("apache")


def test_settings_of_a_contender_reach_its_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []
    monkeypatch.setattr("bench.balancers.ours", lambda *_, settings: seen.append(settings))
    find('ours:policy=p2c+max_attempts=1+retry_codes=["INTERNAL"]')("", Fleet([], [], 1000), tmp_path)
    limit = {"attempt_timeout_ms": 500}  # half of the deadline, as of the others
    assert seen == [limit | {"policy": "p2c", "max_attempts": 1, "retry_codes": ["INTERNAL"]}]
