"""What every control loop does with its data plane, with a stand-in for that."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from fixtures.fake_plane import LIMIT_S, FakePlane

from access.errors import StartError
from access.plane import Control, Event, Events, signals
from dl_inference._native import NativeError

LOG = logging.getLogger("program")
PROCESS = {"listen": ["127.0.0.1:8500"]}


def routing_state(*models: str) -> dict:
    clusters = [{"name": name, "endpoints": []} for name in models]
    return {"clusters": clusters, "models": [{"name": name} for name in models], "default_cluster": None}


@pytest.fixture
def plane() -> FakePlane:
    return FakePlane("{}")


@pytest.fixture
def control(plane: FakePlane, caplog: pytest.LogCaptureFixture) -> Iterator[Control]:
    """A control whose data plane runs."""
    caplog.set_level(logging.INFO, "program")
    plane.config = PROCESS
    control = Control(lambda document: plane, LOG)
    control.start(PROCESS)
    return control


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]


def test_constructing_starts_nothing():
    control = Control(lambda document: pytest.fail("made"), LOG)
    assert not control.is_started
    control.count("access.yaml", True)
    control.stop()


def test_the_start_makes_the_data_plane_of_the_document_and_returns_its_addresses():
    made = []
    control = Control(lambda document: made.append(FakePlane(document)) or made[0], LOG)
    assert control.start(PROCESS) == PROCESS["listen"]
    assert made[0].config == PROCESS
    assert control.is_started


@pytest.mark.parametrize("step", ["make", "start"])
def test_a_data_plane_that_cannot_start_is_a_start_error(plane, step):
    def refuse(*_: object) -> None:
        raise NativeError("address in use")

    plane.start = refuse
    control = Control(refuse if step == "make" else lambda document: plane, LOG)
    with pytest.raises(StartError, match="address in use"):
        control.start(PROCESS)


def test_what_the_data_plane_notices_is_logged_at_its_level_and_asked_for_now_and_then(plane, control, caplog):
    plane.noticed = [("WARNING", "endpoint a:1 is down: %s"), ("INFO", "endpoint b:1 is up again")]
    control.listen()
    plane.noticed = [("INFO", "too early")]
    control.listen()
    said = [(each.levelname, each.getMessage()) for each in caplog.records if "point" in each.getMessage()]
    assert said == [("WARNING", "endpoint a:1 is down: %s"), ("INFO", "endpoint b:1 is up again")]
    assert plane.noticed == [("INFO", "too early")]


def test_a_state_is_applied_once_and_said(plane, control, caplog):
    assert control.apply(routing_state("a", "b"))
    assert control.apply(routing_state("a", "b"))
    assert plane.states == [routing_state("a", "b")]
    assert caplog.messages.count("routing 2 models to 2 clusters") == 1


def test_the_first_state_refused_is_a_start_error(plane, control):
    plane.refuse = "clusters[0]: no"
    with pytest.raises(StartError, match=r"clusters\[0\]: no"):
        control.apply(routing_state("a"))


def test_a_refused_state_is_said_once_and_the_old_one_stays(plane, control, caplog):
    control.apply(routing_state("a"))
    plane.refuse = "clusters[0]: no"
    assert not control.apply(routing_state("b"))
    assert not control.apply(routing_state("b"))
    since = control.refused_since
    assert abs(since - time.time()) < 60
    assert control.refused == "clusters[0]: no"
    assert errors(caplog) == ["the data plane refused the new state, the old one stays: clusters[0]: no"]
    assert plane.states == [routing_state("a")]


@pytest.mark.parametrize("then", ["a", "c"])
def test_after_a_refused_state_the_next_one_holds_also_where_it_is_the_old_one(plane, control, then):
    control.apply(routing_state("a"))
    plane.refuse = "no"
    control.apply(routing_state("b"))
    plane.refuse = None
    assert control.apply(routing_state(then))
    assert (control.refused, control.refused_since) == (None, None)
    assert plane.states[-1] == routing_state(then)


def test_a_warning_is_said_when_it_begins_to_hold(control, caplog):
    for warnings in (["one"], ["one", "two"], ["two"], ["one"]):
        control.warn(warnings)
        assert list(control.warnings) == warnings
    said = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert said == ["one", "two", "one"]


def test_a_status_is_shown_when_it_is_new(plane, control):
    shown = []
    plane.set_control_status = shown.append
    for status in ({"refused": None}, {"refused": None}, {"refused": "no"}):
        control.show(status)
    assert shown == ['{"refused": null}', '{"refused": "no"}']


def test_readings_are_counted_by_the_data_plane(plane, control):
    control.count("access.yaml", False)
    assert plane.reloads == [("access.yaml", False)]


@pytest.mark.parametrize("event", [None, Event.RELOAD, Event.CHANGED])
def test_a_drain_ends_with_the_last_call(plane, control, caplog, event):
    events = Events()
    plane.drain_ends.clear()
    ender = threading.Thread(target=lambda: plane.draining.wait(LIMIT_S) and plane.drain_ends.set())
    ender.start()
    if event is not None:
        events.post(event)
    assert control.drain(30_000, events)
    ender.join()
    assert "stopping: every call has ended" in caplog.messages


def test_calls_that_do_not_end_are_cut_off_when_the_drain_time_is_over(plane, control, caplog):
    plane.drain_ends.clear()
    assert not control.drain(300, Events())
    assert "stopping: time is up, calls are cut off" in caplog.messages


def test_a_second_signal_stops_at_once(plane, control, caplog):
    events = Events()
    events.post(Event.CHANGED)
    events.post(Event.TERMINATE)
    plane.drain_ends.clear()
    assert not control.drain(3_600_000, events)
    assert caplog.messages[-1] == "second signal: stopping at once"


def test_a_burst_of_events_is_its_most_important_one():
    events = Events()
    for event in (Event.CHANGED, Event.RELOAD, Event.TERMINATE, Event.CHANGED):
        events.post(event)
    assert events.next(LIMIT_S) is Event.TERMINATE
    assert events.next(0.0) is None


@pytest.mark.parametrize(
    ("number", "event"),
    [(signal.SIGTERM, Event.TERMINATE), (signal.SIGINT, Event.TERMINATE), (signal.SIGHUP, Event.RELOAD)],
)
def test_a_signal_becomes_an_event_and_the_former_handlers_come_back(number, event):
    former = signal.getsignal(number)
    events = Events()
    with signals(events.post):
        os.kill(os.getpid(), number)
        assert events.next(LIMIT_S) is event
    assert signal.getsignal(number) is former
