"""Processes that are asked to end, and those that do not."""

import pytest

from dl_inference.local import leaving
from dl_inference.local.leaving import Leaving
from dl_inference.local.processes import State


class Pretend:
    label, pid = "m@1/0", 7

    def __init__(self) -> None:
        self.state = State.READY
        self.steps: list[str] = []

    def terminate(self) -> None:
        self.steps.append("terminate")

    def kill(self) -> None:
        self.steps.append("kill")
        self.state = State.ENDED

    def step(self) -> State:
        return self.state


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr(leaving.time, "monotonic", lambda: Clock.now)
    return Clock


def test_a_process_that_ends_in_time_is_not_killed(clock):
    those, process = Leaving(5.0), Pretend()
    those.add(process)
    those.step()
    assert those.processes == [process]
    process.state = State.ENDED
    those.step()
    clock.now += 5
    those.step()
    assert those.processes == []
    assert process.steps == ["terminate"]


def test_one_that_does_not_is_killed_and_said(clock, caplog):
    those, process = Leaving(5.0), Pretend()
    those.add(process)
    clock.now += 4.9
    those.step()
    assert process.steps == ["terminate"]
    clock.now += 0.1
    those.step()
    assert process.steps == ["terminate", "kill"]
    assert those.processes == []
    assert caplog.messages == ["m@1/0: process 7 did not end in time and is killed"]
