"""What a run of mixed calls must show: no wrong answer, no error that no fault explains, nothing left."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench.mixed import EVENTS, MODES, SERVICE, SETTINGS, Faults, Scene, cancels
from bench.mixed_verdict import verdict
from fixtures.lacking import built
from fixtures.processes import Process

NOTHING = {"in_flight": 0, "connections": 0, "attempts": 0.0, "held_bytes": 0.0}
REPORT: dict[str, Any] = {
    "calls": 10,
    "wrong": 0,
    "wrong_calls": [],
    "connections": 8,
    "lines": 8,
    "connections_ended_by": {},
    "outcomes": {
        "unary quick": {"answered": 95, "code 14 connection_lost": 5},
        "unary quick, cancelled": {"answered": 1, "cancelled": 9},
        "turns quick, short deadline": {"code 4 deadline_exceeded": 3, "code 8 shed": 2},
    },
    "held_at_the_end": NOTHING,
    "errors": {"internal": 0.0},
}
WELL = {
    "mixed": {**REPORT, "without_faults": [], "resident_bytes": {"fresh": 50, "warm": 100, "end": 120}},
    "cancels": {
        **REPORT,
        "outcomes": {"unary quick, cancelled": {"answered": 1, "cancelled": 9}},
        "resident_bytes": {"fresh": 50, "half": 100, "end": 120},
        "connections_to_endpoints": [0, 0],
        "connections_closed_by_service": {"flood": 0.0},
    },
}


@pytest.mark.parametrize(
    ("part", "more", "text"),
    [
        ("mixed", {"wrong": 1, "wrong_calls": ["other bytes"]}, "1 calls were wrong: ['other bytes']"),
        (
            "mixed",
            {"outcomes": {"unary quick": {"answered": 99, "code 8 shed": 1}}},
            "no fault explains ['code 8 shed']",
        ),
        ("mixed", {"outcomes": {"unary quick": {"answered": 8, "code 14 stream_reset": 2}}}, "only 8 of 10 calls"),
        (
            "mixed",
            {"without_faults": [{**REPORT, "outcomes": {"unary quick": {"code 14": 1}}}]},
            "explains ['code 14']",
        ),
        ("mixed", {"resident_bytes": {"fresh": 50, "warm": 100, "end": 126}}, "memory grew from 100 to 126"),
        ("mixed", {"held_at_the_end": {**NOTHING, "held_bytes": 5.0}}, "left over {'held_bytes': 5.0}"),
        ("mixed", {"connections_ended_by": {"GOAWAY ENHANCE_YOUR_CALM": 1}}, "ended connections"),
        ("mixed", {"errors": {"internal": 1.0}}, "1 internal errors"),
        ("cancels", {"wrong": 2, "wrong_calls": ["a", "b"]}, "2 calls were wrong"),
        ("cancels", {"outcomes": {"unary quick": {"code 14": 1}}}, "ended otherwise: ['unary quick: code 14']"),
        ("cancels", {"connections": 9}, "9 connections where 8 were asked for"),
        ("cancels", {"connections_to_endpoints": [0, 1]}, "new connections to endpoints: [0, 1]"),
        ("cancels", {"connections_closed_by_service": {"flood": 1.0}}, "closed connections: {'flood': 1.0}"),
        ("cancels", {"resident_bytes": {"fresh": 50, "half": 100, "end": 126}}, "memory grew from 100 to 126"),
    ],
)
def test_what_is_wrong_is_said(part: str, more: dict[str, Any], text: str) -> None:
    found: dict[str, Any] = copy.deepcopy(WELL[part])
    assert verdict(part, found) == []
    assert text in "\n".join(verdict(part, {**found, **more}))


@pytest.fixture
def scene(run: Callable[..., Process], tmp_path: Path) -> Callable[..., Scene]:
    for program in ("endpoint", "mixed"):
        built(program)
    return lambda *options, **settings: Scene(tmp_path, run, *options, **settings)


def test_calls_of_every_kind_are_answered_while_endpoints_fail_and_nothing_is_left(scene: Callable[..., Scene]) -> None:
    it = scene(**SETTINGS)
    faults = Faults(it.endpoints)
    with faults.going_on():
        report = it.calls("--calls", "3000")
    assert report["calls"] == 3000
    assert faults.done
    assert set(faults.done) <= {*MODES, *EVENTS, "kill", "freeze"}
    found = {**WELL["mixed"], **report, "held_at_the_end": it.held()}
    assert verdict("mixed", found) == []


def test_thousands_of_cancels_among_calls_end_no_connection(scene: Callable[..., Scene]) -> None:
    found = cancels(scene(*SERVICE), cancels=10_000, seed=1)
    assert verdict("cancels", found) == []
    assert sum(each.get("cancelled", 0) for each in found["outcomes"].values()) >= 10_000


def test_connections_that_the_service_ends_are_told(scene: Callable[..., Scene]) -> None:
    found = cancels(scene(*SERVICE, limits={"max_connection_age_ms": 100}), cancels=3000, seed=1)
    assert [text for text in verdict("cancels", found) if "connections where 8 were asked for" in text]
    assert not found["wrong"], found["wrong_calls"]
