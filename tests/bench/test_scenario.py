"""A scenario file becomes calls and faults at their times."""

from __future__ import annotations

import math

import pytest
from bench.scenario import Event, Scenario, known, load

FACTS = {
    "duration_s": 10,
    "endpoints": {"count": 3, "speeds": [1, 2]},
    "service": {"law": "lognormal", "mean_ms": 10, "sigma": 0.3},
    "load": {"rate": 1000},
}


def scenario(*faults: dict[str, object], **facts: object) -> Scenario:
    return Scenario("made", {**FACTS, **facts, "faults": list(faults)})


@pytest.mark.parametrize("name", known())
def test_every_scenario_that_comes_with_the_program_can_be_replayed(name: str) -> None:
    one = load(name)
    assert all(0 <= event.endpoint < one.endpoints for event in one.events())
    assert one.endpoint_options(0, 1)
    assert one.classes


def test_a_moving_fault_leaves_one_endpoint_before_it_takes_the_next() -> None:
    fault = {"kind": "slow", "factor": 6, "every_s": 3, "active_s": 3, "moves": True, "from_s": 1, "to_s": 7}
    assert scenario(fault).events() == [
        Event(1, True, 0, "pace 6 0"),
        Event(4, False, 0, "pace 1 0"),
        Event(4, True, 1, "pace 6 0"),
        Event(7, False, 1, "pace 1 0"),
    ]
    assert scenario(fault).faults_end_s == 7


def test_a_fault_of_one_class_is_told_to_the_endpoint_before_it_begins() -> None:
    fault = {
        "kind": "fail",
        "class": "heavy",
        "share": 0.5,
        "code": "INTERNAL",
        "endpoints": [2],
        "from_s": 2,
        "to_s": 3,
    }
    commands = [event.command for event in scenario(fault).events()]
    assert commands == ["only heavy 0.5", "status 13 1", "ok", "only * 1"]


def test_an_endpoint_that_joins_is_not_there_when_the_calls_begin() -> None:
    events = scenario({"kind": "join", "endpoints": [2], "from_s": 5}).events()
    assert events == [Event(-1, True, 2, "unlisten"), Event(5, False, 2, "ok")]


def test_an_unknown_kind_of_fault_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'melt' is none of fail, slow"):
        scenario({"kind": "melt"}).events()


def test_the_same_seed_gives_the_same_arrivals() -> None:
    assert scenario().arrivals(1) == scenario().arrivals(1) != scenario().arrivals(2)


def test_an_overload_is_more_calls_while_it_lasts() -> None:
    one = scenario({"kind": "overload", "factor": 2, "from_s": 4, "to_s": 6}, classes=CLASSES)
    rows = [line.split() for line in one.arrivals(1).splitlines()]
    due = [int(at) / 1e6 for at, _ in rows]
    assert due == sorted(due)
    for begin, end, expected in ((0, 4, 4000), (4, 6, 4000), (6, 10, 4000)):
        # Six standard deviations of a Poisson count.
        assert abs(sum(begin <= at < end for at in due) - expected) < 6 * math.sqrt(expected)
    assert sum(each == "1" for _, each in rows) == pytest.approx(0.25 * len(rows), rel=0.15)


CLASSES = [{"name": "light", "share": 3}, {"name": "heavy", "share": 1, "cost": 40, "deadline_ms": 50}]


def test_a_class_with_a_deadline_of_its_own_is_not_counted() -> None:
    light, heavy = scenario(classes=CLASSES).classes
    assert (light.is_counted, heavy.is_counted) == (True, False)
    assert heavy.options == "heavy,bench-cost=40,deadline-ms=50"


def test_a_faster_endpoint_takes_less_time() -> None:
    assert [scenario().endpoint_options(number, 0)[1] for number in range(3)] == [
        "lognormal:10.0:0.3",
        "lognormal:5.0:0.3",
        "lognormal:10.0:0.3",
    ]


def test_a_long_scenario_is_shortened_but_not_one_whose_faults_come_again() -> None:
    short = load("fast-fail", 12)
    assert (short.duration_s, short.warmup_s) == pytest.approx((12, 1.2))
    assert [event.at_s for event in short.events()][::2] == pytest.approx([3.2, 7.2])
    assert load("flap", 12).duration_s == load("flap").duration_s
