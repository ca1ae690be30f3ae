"""The control loop of `serve` with stand-ins for the data plane and for model processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.fake_plane import LIMIT_S, FakePlane
from fixtures.serve_process import write_model

from access.config.sections import AccessConfig
from access.errors import StartError
from access.plane import Event
from dl_inference.local.layout import Layout
from dl_inference.local.one_folder import OneFolder, layout_of
from dl_inference.local.processes import State
from dl_inference.local.service import LocalService
from dl_inference.registry.announcing.registration import Announcement
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.report import Report


class PretendProcess:
    """A model process that is ready when it is first looked at, and ends when it is asked to."""

    pids = iter(range(1, 1000))

    def __init__(self, label: str) -> None:
        self.label, self.pid = label, next(self.pids)
        self.address = f"unix:/{self.pid}"
        self.state, self.reason, self.sickness = State.STARTING, "", ""
        self.started_at = self.ready_at = time.monotonic()
        self.steps: list[str] = []
        self.report = Report()

    def step(self) -> State:
        if self.state is State.STARTING:
            self.state = State.READY
        return self.state

    @property
    def is_healthy(self) -> bool:
        return self.state is State.READY and not self.sickness

    def ran_well(self) -> bool:
        return True

    def terminate(self) -> None:
        self.steps.append("terminate")
        self.state = State.ENDED

    def kill(self) -> None:
        self.steps.append("kill")
        self.state = State.ENDED


class PretendLauncher:
    replicas = 1

    def __init__(self) -> None:
        self.started: list[PretendProcess] = []
        self.wanted = 0
        self.wanted_at_start: set[int] = set()

    def step(self, kinds: object, processes: object) -> None:
        pass

    def wanted_by(self, layout: Layout) -> int:
        return 3 * len(layout.served)

    def may_start(self, kind: object, processes: object) -> bool:
        return True

    def start(self, layout: Layout, version: int, index: int) -> PretendProcess:
        self.wanted_at_start.add(self.wanted)
        self.started.append(PretendProcess(f"{layout.name}@{version}/{index}"))
        return self.started[-1]

    def hands(self, layout: Layout, version: int) -> None:
        return None

    def end(self) -> None:
        pass


class Served:
    """One service of a folder `digits`."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        write_model(folder / "digits", "1")
        self.plane = FakePlane("{}")
        self.plane.config["listen"] = ["127.0.0.1:8500"]
        self.launcher = PretendLauncher()
        self.service = LocalService(
            folder, AccessConfig(**settings), self.launcher, lambda document: self.plane, Announcement(None, "test")
        )

    def run(self, meanwhile: Callable[[], None]) -> bool:
        """Run in this thread, as signals demand, and something else beside it, which ends with TERMINATE."""

        def beside() -> None:
            try:
                meanwhile()
            finally:
                self.service.post(Event.TERMINATE)

        thread = threading.Thread(target=beside)
        thread.start()
        try:
            return self.service.run()
        finally:
            thread.join(LIMIT_S)


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def test_a_model_that_is_warm_is_routed_and_the_end_is_drain_then_its_process(served):
    assert served.run(lambda: served.plane.until(lambda: served.plane.states))
    (process,) = served.launcher.started
    assert served.plane.addresses == {"digits@1": [process.address]}
    assert served.plane.steps == ["start", "apply", "drain", "stop"]
    assert process.steps[0] == "terminate"
    assert served.plane.control["refused"] is None


def test_callers_are_known_before_the_port_opens_and_followed_from_then_on(tmp_path):
    path = tmp_path / "callers.yaml"
    path.write_text("callers: {a: {}}")
    served = Served(tmp_path / "models", callers=str(path))

    def meanwhile() -> None:
        served.plane.until(lambda: served.plane.states)
        path.write_text("callers: {a: {}, b: {}}")
        served.plane.until(lambda: served.plane.control["callers"]["callers"] == 2)

    assert served.run(meanwhile)
    assert served.plane.steps == ["start", "callers", "apply", "callers", "drain", "stop"]
    path.unlink()
    with pytest.raises(StartError, match=r"callers\.yaml.*cannot be read"):
        Served(tmp_path / "others", callers=str(path)).service.run()


def test_the_processes_of_all_models_are_counted_before_one_is_started(served):
    write_model(served.folder / "other" / "1", "1")
    write_model(served.folder / "other" / "2", "1").with_name("model.yaml").write_text("versions: [1, 2]")
    assert served.run(lambda: served.plane.until(lambda: served.plane.states))
    assert served.launcher.wanted_at_start == {9}


def test_a_process_that_is_slow_to_end_is_killed_and_costs_no_call(served, monkeypatch, caplog):
    monkeypatch.setattr("dl_inference.local.service.END_S", 0.2)
    monkeypatch.setattr(PretendProcess, "terminate", lambda process: process.steps.append("terminate"))
    assert served.run(lambda: served.plane.until(lambda: served.plane.states))
    (process,) = served.launcher.started
    assert process.steps == ["terminate", "kill"]
    assert "did not end in 0.2 s and is killed" in caplog.text


@pytest.mark.timeout(30)
def test_a_first_state_that_is_refused_ends_the_start_and_leaves_nothing(served):
    served.plane.refuse = "clusters[0]: no"
    with pytest.raises(StartError, match=r"clusters\[0\]: no"):
        served.service.run()
    assert served.plane.steps == ["start", "stop"]
    assert [each.steps for each in served.launcher.started] == [["kill"]]


def test_while_a_state_is_refused_the_processes_of_the_old_one_stay(served):
    def meanwhile() -> None:
        plane = served.plane
        plane.until(lambda: plane.states)
        plane.refuse = "no"
        write_model(served.folder / "digits", "2")
        plane.until(lambda: plane.control["refused"] == "no")
        assert served.launcher.started[0].steps == []
        plane.refuse = None
        plane.until(lambda: plane.control["refused"] is None and len(plane.states) > 1)

    assert served.run(meanwhile)
    first, second = served.launcher.started
    assert served.plane.addresses == {"digits@1": [second.address]}
    assert first.steps[0] == "terminate"


def test_a_second_signal_stops_at_once(served):
    def meanwhile() -> None:
        served.plane.until(lambda: served.plane.states)
        served.plane.drain_ends.clear()
        served.service.post(Event.TERMINATE)
        served.plane.draining.wait(LIMIT_S)

    assert not served.run(meanwhile)
    assert served.plane.steps[-1] == "stop"


def test_an_order_wakes_the_loop_and_is_answered_when_the_routes_are_those_that_follow(served, monkeypatch):
    plane = served.plane

    def order() -> None:
        plane.until(lambda: plane.states)
        monkeypatch.setattr("dl_inference.local.service.LOOK_S", 10 * LIMIT_S)
        plane.orders.put((7, "unload", "digits"))
        plane.until(lambda: 7 in plane.answers)
        assert plane.answers[7] == ("", "")
        assert plane.addresses == {"digits@1": []}
        assert plane.states[-1]["clusters"][0]["unloaded"]["on_demand"] is False
        plane.orders.put((8, "load", "digits"))
        plane.until(lambda: 8 in plane.answers)
        assert plane.addresses == {"digits@1": [served.launcher.started[-1].address]}

    assert served.run(order)
    assert len(served.launcher.started) == 2


def test_the_only_model_there_is_to_serve_is_loaded_at_the_start_whatever_it_says(served, tmp_path: Path):
    folder = write_model(tmp_path / "alone", "1", load="on_demand", idle_unload_s=1)
    layout, _ = layout_of(ServeOptions(model_dir=folder, listen=("127.0.0.1:8500",)))
    served.service = LocalService(
        OneFolder(layout), AccessConfig(), served.launcher, lambda document: served.plane, Announcement(None, "test")
    )
    assert served.run(lambda: served.plane.until(lambda: served.plane.states))
    assert [process.label for process in served.launcher.started] == ["alone@1/0"]
