"""Processes that are replaced although they run: the rules, with processes that only pretend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dl_inference.local import upkeep
from dl_inference.local.layout import Layout
from dl_inference.local.models import Model
from dl_inference.local.processes import State
from dl_inference.local.replica import FIRST_DELAY_S
from dl_inference.local.upkeep import NO_LIMITS, Limits, memory_of
from dl_inference.serving.report import Report


class Pretend:
    """Stands in for a ModelProcess."""

    def __init__(self, number: int) -> None:
        self.pid, self.label, self.address = number, f"m@1/{number}", f"unix:/{number}"
        self.state, self.reason, self.sickness = State.STARTING, "", ""
        self.started_at = self.ready_at = 0.0
        self.report = Report()

    @property
    def is_healthy(self) -> bool:
        return self.state is State.READY and not self.sickness

    def step(self) -> State:
        return self.state

    def ran_well(self) -> bool:
        return True


class Clock:
    now = 1000.0


class Stage:
    """One version of a model, in as many processes as asked for."""

    def __init__(self, instances: int, limits: Limits = NO_LIMITS) -> None:
        self.started: list[Pretend] = []
        self.model = Model("m")
        layout = Layout(
            name="m",
            path=Path("/m"),
            kind="PyTorch",
            places={},
            keys={1: "key"},
            served=(1,),
            default=1,
            labels={},
            aliases=(),
            timeout_ms=1000,
            upkeep=limits,
        )
        self.model.want(layout, instances, self._start)
        self.step()
        for process in self.started:
            self.ready(process)

    def _start(self, *_: object) -> Pretend:
        self.started.append(Pretend(len(self.started)))
        return self.started[-1]

    def ready(self, process: Pretend) -> list[Pretend]:
        process.state, process.ready_at = State.READY, Clock.now
        return self.step()

    def step(self, seconds: float = 0.0) -> list[Pretend]:
        """Let time pass and step; return the processes that may go."""
        Clock.now += seconds
        self.model.step(lambda: True)
        return self.model.retire()

    @property
    def routed(self) -> list[str]:
        return self.model.serving()[1].addresses

    @property
    def status(self) -> dict[str, object]:
        return self.model.status()["versions"][0]


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: Clock.now)


def test_the_successor_of_a_sick_process_is_warm_before_that_one_goes():
    stage = Stage(1)
    (old,) = stage.started
    old.sickness = "it hangs"
    assert stage.step() == []
    new = stage.started[1]
    assert (stage.routed, stage.status["ready"], stage.status["healthy"]) == ([old.address], 1, 0)
    assert stage.step(100) == []
    assert len(stage.started) == 2
    assert stage.ready(new) == [old]
    assert stage.routed == [new.address]
    assert (stage.status["restarts"], stage.status["last_reason"], stage.status["healthy"]) == (1, "it hangs", 1)
    assert stage.status["pids"] == [new.pid]


def test_calls_go_to_the_healthy_ones_while_a_sick_one_is_replaced():
    stage = Stage(2)
    stage.started[0].sickness = "it hangs"
    stage.step()
    assert stage.routed == [stage.started[1].address]
    stage.started[1].sickness = "it hangs, too"
    stage.step()
    assert stage.routed == [each.address for each in stage.started[:2]]  # one of them may come round


def test_of_processes_that_are_too_old_one_after_the_other_is_replaced():
    stage = Stage(3, Limits(max_age_s=60))
    assert stage.step(59.9) == []
    assert len(stage.started) == 3
    for number in range(3):
        stage.step(0.2)
        assert len(stage.started) == 4 + number
        assert stage.ready(stage.started[-1]) == [stage.started[number]]
    assert stage.step() == []
    assert (len(stage.started), stage.status["restarts"]) == (6, 3)
    assert stage.status["last_reason"] == "it is older than 60 s (max_age_s)"


def test_a_process_that_grows_past_its_limit_is_replaced(monkeypatch):
    sizes = {0: 90 * 2**20, 1: 2**20}
    monkeypatch.setattr(upkeep, "memory_of", sizes.__getitem__)
    stage = Stage(1, Limits(max_memory=100 * 2**20))
    stage.step(10)
    assert len(stage.started) == 1
    sizes[0] = 120 * 2**20
    stage.step(10)
    assert stage.ready(stage.started[1]) == [stage.started[0]]
    assert stage.status["last_reason"] == "it takes 120 MiB of memory, more than 100 MiB (max_memory)"


def test_a_successor_that_fails_leaves_the_old_one_and_is_tried_again_later():
    stage = Stage(1, Limits(max_age_s=60))
    stage.step(61)
    stage.started[1].state, stage.started[1].reason = State.ENDED, "no memory left"
    assert stage.step() == []
    assert (stage.routed, len(stage.started)) == ([stage.started[0].address], 2)
    assert "no memory left" in stage.model.reason
    stage.step(FIRST_DELAY_S)
    assert len(stage.started) == 3
    assert stage.ready(stage.started[2]) == [stage.started[0]]
    assert (stage.model.reason, stage.status["restarts"]) == ("", 1)


def test_a_successor_takes_the_place_of_a_process_that_dies_meanwhile():
    stage = Stage(1, Limits(max_age_s=60))
    stage.step(61)
    old, new = stage.started
    old.state, old.reason = State.ENDED, "killed by SIGKILL"
    assert stage.step(100) == []
    assert (len(stage.started), stage.status["pids"], stage.status["ready"]) == (2, [new.pid], 0)
    assert stage.ready(new) == []
    assert (stage.routed, stage.status["restarts"]) == ([new.address], 1)
    assert stage.status["last_reason"] == "killed by SIGKILL"


def test_no_successor_is_made_of_other_files():
    stage = Stage(1, Limits(max_age_s=60))
    stage.model.groups[0].may_start = False
    stage.step(61)
    assert len(stage.started) == 1


def test_the_memory_of_a_process_is_that_of_its_children_too():
    hold = "x = bytearray(b'x') * (50 << 20)"
    child = f"{hold}; print(flush=True); input()"
    code = f"import subprocess, sys; {hold}; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # of the child, which has its own by then
        size = memory_of(process.pid)
        process.communicate("")
    assert 100 << 20 < size < 200 << 20
    assert memory_of(process.pid) == 0
