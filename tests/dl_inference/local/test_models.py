"""Which processes serve a model folder, and which may go: the rules alone, with processes that only pretend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from access.config.sections import AccessConfig
from dl_inference.local.announce import served
from dl_inference.local.layout import FolderError, Layout
from dl_inference.local.models import Model
from dl_inference.local.processes import State
from dl_inference.local.quarantine import Quarantine
from dl_inference.local.replica import MAX_DELAY_S
from dl_inference.local.routes import routing
from dl_inference.serving.report import Report

BROKEN = Quarantine(None, "find", "broken", "", 0.0)


class Pretend:
    """Stands in for a ModelProcess."""

    pids = iter(range(1, 1000))

    def __init__(self, version: int, index: int) -> None:
        self.pid = next(Pretend.pids)
        self.version = version
        self.label = f"m@{version}/{index}"
        self.address = f"unix:/{version}-{self.pid}"
        self.state = State.STARTING
        self.reason = self.sickness = ""
        self.started_at = self.ready_at = 0.0
        self.well = False
        self.report = Report()
        self.was_killed = False

    def step(self) -> State:
        return self.state

    @property
    def is_healthy(self) -> bool:
        return self.state is State.READY and not self.sickness

    def ran_well(self) -> bool:
        return self.well

    def kill(self) -> None:
        self.was_killed, self.state = True, State.ENDED

    def ready(self) -> None:
        self.state, self.ready_at = State.READY, 1.0

    def end(self, reason: str) -> None:
        self.state, self.reason = State.ENDED, reason


def layout(*served: int, keys: dict[int, str] | None = None, **more: object) -> Layout:
    given = {
        "labels": {},
        "aliases": (),
        "timeout_ms": 1000,
        "priority": "low",
        "name": "m",
        "default": max(served),
        **more,
    }
    keys = keys or {version: f"key of {version}" for version in served}
    return Layout(path=Path("/m"), kind="PyTorch", places={}, keys=keys, served=served, **given)  # type: ignore[arg-type]


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr("time.monotonic", lambda: Clock.now)
    return Clock


class Stage:
    """A model whose processes are pretended."""

    def __init__(self, replicas: int = 1, hands: Path | None = None) -> None:
        self.model = Model("m")
        self.started: list[Pretend] = []
        self._replicas = replicas
        self._hands = hands

    def want(self, wanted: Layout) -> None:
        self.model.want(wanted, self._replicas, self._start, lambda *_: self._hands)
        self.step()

    def step(self) -> list[Pretend]:
        """Step; return the processes that may go."""
        self.model.step(lambda: True)
        return [replica.process for group in self.model.release() for replica in group.replicas if replica.process]

    def _start(self, layout: Layout, version: int, index: int) -> Pretend:
        self.started.append(Pretend(version, index))
        return self.started[-1]

    @property
    def state(self) -> str:
        return self.model.status()["state"]

    def serves(self) -> dict[int, list[str]]:
        return {version: group.addresses for version, group in self.model.serving().items()}


@pytest.fixture
def stage(clock):
    return Stage()


def test_a_model_serves_once_its_process_is_warm(stage):
    stage.want(layout(1))
    assert (stage.state, stage.serves(), stage.model.is_decided) == ("loading", {}, False)
    stage.started[0].ready()
    assert stage.step() == []
    assert (stage.state, stage.model.is_decided) == ("serving", True)
    assert stage.serves() == {1: [stage.started[0].address]}


def test_the_old_process_goes_when_the_new_one_is_warm_and_not_before(stage):
    stage.want(layout(1))
    stage.started[0].ready()
    stage.step()
    stage.want(layout(1, keys={1: "changed"}))
    old, new = stage.started
    assert stage.step() == []
    assert (stage.state, stage.serves()) == ("replacing", {1: [old.address]})
    new.ready()
    assert stage.step() == [old]
    assert (stage.state, stage.serves()) == ("serving", {1: [new.address]})


def test_a_folder_that_says_how_many_instances_gets_so_many_and_may_change_its_mind(stage):
    stage.want(layout(1, instances=3))
    assert len(stage.started) == 3
    for process in stage.started:
        process.ready()
    stage.step()
    assert len(stage.serves()[1]) == 3
    stage.want(layout(1, keys={1: "one only"}, instances=1))
    old, new = stage.started[:3], stage.started[3:]
    assert (len(new), stage.step()) == (1, [])
    new[0].ready()
    assert stage.step() == old
    assert stage.serves() == {1: [new[0].address]}


def test_all_replicas_are_warm_before_they_take_over(clock):
    stage = Stage(2)
    stage.want(layout(1))
    stage.started[0].ready()
    stage.step()
    assert len(stage.serves()[1]) == 1  # nobody else answers: the first one is welcome
    stage.started[1].ready()
    stage.step()
    stage.want(layout(1, keys={1: "changed"}))
    stage.started[2].ready()
    assert stage.step() == []
    stage.started[3].ready()
    assert stage.step() == stage.started[:2]


def test_a_new_content_that_fails_leaves_the_old_one_and_says_why(stage, clock):
    stage.want(layout(1))
    stage.started[0].ready()
    stage.step()
    stage.want(layout(1, keys={1: "broken"}))
    stage.started[1].end("no weights")
    assert stage.step() == []
    assert stage.state == "serving the former"
    assert stage.model.reason == "version 1: no weights; see the log of the process"
    assert stage.serves() == {1: [stage.started[0].address]}
    # it is tried again, but the old one, whose files are gone, is not when it ends
    stage.started[0].end("killed")
    stage.step()
    clock.now += 1
    stage.step()
    assert len(stage.started) == 3
    assert stage.state == "failed"
    stage.want(layout(1, keys={1: "mended"}))
    stage.started[3].ready()
    stage.step()
    assert (stage.state, stage.model.reason) == ("serving", "")


def test_a_version_whose_files_stay_is_started_again_while_a_newer_one_fails(stage, clock):
    stage.want(layout(1))
    stage.started[0].ready()
    stage.step()
    stage.want(layout(2, keys={1: "key of 1", 2: "broken"}))
    stage.started[1].end("no weights")
    stage.step()
    stage.started[0].end("killed")
    stage.step()
    stage.step()
    assert [process.version for process in stage.started] == [1, 2, 1]
    assert stage.model.default.version == 1


def test_a_folder_that_cannot_be_served_leaves_what_runs(stage):
    stage.want(layout(1))
    stage.started[0].ready()
    stage.step()
    stage.model.reject(FolderError("two models"))
    assert stage.step() == []
    assert (stage.state, stage.model.reason) == ("serving the former", "two models")
    stage.want(layout(1))
    assert (stage.state, len(stage.started)) == ("serving", 1)


def test_a_deleted_folder_lets_everything_go(stage):
    stage.want(layout(1))
    stage.started[0].ready()
    stage.step()
    stage.model.drop()
    assert stage.step() == stage.started
    assert stage.model.groups == []


def test_a_newer_version_takes_over_calls_without_a_version(stage):
    stage.want(layout(1))
    stage.started[0].ready()
    stage.step()
    stage.want(layout(2, keys={1: "key of 1", 2: "key of 2"}))
    assert stage.model.default.version == 1
    stage.started[1].ready()
    assert stage.step() == [stage.started[0]]
    assert stage.model.default.version == 2


def test_of_several_versions_the_latest_is_the_default_as_soon_as_it_can_be(stage):
    stage.want(layout(1, 2))
    stage.started[0].ready()
    stage.step()
    assert stage.model.default is None  # rather than the wrong one for a moment
    stage.started[1].end("no weights")
    stage.step()
    assert stage.model.default.version == 1


def test_processes_of_a_content_that_never_served_go_when_it_changes_again(stage):
    stage.want(layout(1, keys={1: "a"}))
    stage.model.want(layout(1, keys={1: "b"}), 1, stage._start)
    assert stage.step() == stage.started[:1]


def test_a_process_that_dies_is_started_at_once_then_ever_later_up_to_a_limit(stage, clock):
    stage.want(layout(1))
    delays = []
    for _ in range(10):
        stage.started[-1].ready()
        stage.step()
        stage.started[-1].end("killed")
        died, count = clock.now, len(stage.started)
        while len(stage.started) == count:
            stage.step()
            clock.now += 0.5
        delays.append(round(clock.now - 0.5 - died))
    assert delays == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    stage.started[-1].ready()
    stage.started[-1].well = True
    stage.step()
    stage.started[-1].end("killed")
    stage.step()
    count = len(stage.started)
    stage.step()
    assert len(stage.started) - count <= 1
    assert stage.started[-1].state is State.STARTING  # it had run well, so it is the first time again


def test_a_process_that_the_system_has_no_room_for_is_tried_again(stage, clock):
    def no_room(*_):
        raise OSError(12, "Cannot allocate memory")

    stage.model.want(layout(1), 1, no_room)
    for _ in range(2000):  # more failures than a float has doublings
        stage.step()
        clock.now += MAX_DELAY_S
    assert stage.model.reason.startswith("version 1: cannot be started: Cannot allocate memory; the system has no room")
    assert stage.state == "failed"


# --- routes


def names(routes):
    return {model["name"]: model["split"][0]["cluster"] for model in routes.state["models"]}


def test_versions_labels_and_aliases_lead_to_clusters(clock):
    stage = Stage()
    stage.want(layout(1, 3, labels={"stable": 1}, aliases=("39", "39", "n")))
    for process in stage.started:
        process.ready()
    stage.step()
    other = Model("n", problem=BROKEN)
    routes = routing(AccessConfig(), [stage.model, other])
    assert names(routes) == {"m": "m@3", "39": "m@3"}
    assert routes.warnings == ("m: the alias n is left out: n has that name",)
    for model in routes.state["models"]:
        assert {version: split[0]["cluster"] for version, split in model["versions"].items()} == {
            "1": "m@1",
            "3": "m@3",
        }
        assert model["labels"] == {"stable": "1"}
    first = next(cluster for cluster in routes.state["clusters"] if cluster["name"] == "m@1")
    assert [endpoint["address"] for endpoint in first["endpoints"]] == [stage.started[0].address]
    assert (first["timeout_ms"], first["priority"]) == (1000, "low")
    assert routes.state["default_cluster"] is None


def test_labels_that_the_processes_know_are_routes_of_their_own(clock):
    stage = Stage()
    stage.want(replace(layout(1, 2, labels={"stable": 1, "next": 2}, default=1), kind="TensorFlow"))
    stage.started[0].ready()
    stage.step()
    (model,) = routing(AccessConfig(), [stage.model]).state["models"]
    assert {version: split[0]["cluster"] for version, split in model["versions"].items()} == {
        "1": "m@1",
        "2": "m@2",
        "stable": "m@1",
        "next": "m@1",
    }
    assert model["labels"] == {}


def test_a_version_that_loads_has_no_endpoint_and_its_label_goes_to_the_default(stage):
    stage.want(layout(1))
    stage.started[0].ready()
    stage.step()
    stage.want(layout(1, 2, labels={"next": 2}, default=1))
    routes = routing(AccessConfig(), [stage.model])
    (model,) = routes.state["models"]
    assert {version: split[0]["cluster"] for version, split in model["versions"].items()} == {
        "1": "m@1",
        "2": "m@2",
    }
    assert model["labels"] == {"next": "1"}
    endpoints = {cluster["name"]: len(cluster["endpoints"]) for cluster in routes.state["clusters"]}
    assert endpoints == {"m@1": 1, "m@2": 0}
    assert model["pass_through"] is False


def test_the_only_model_is_the_default_and_one_that_loads_has_no_endpoint(stage):
    stage.want(layout(1))
    routes = routing(AccessConfig(), [stage.model])
    assert routes.state["default_cluster"] == "m@1"
    assert routes.state["clusters"][0]["endpoints"] == []
    assert routing(AccessConfig(), []).state == {"clusters": [], "models": [], "default_cluster": None}


def test_of_two_models_with_one_alias_the_first_has_it(clock):
    models = [Model(name, layout(1, name=name, aliases=("39",))) for name in ("a", "b")]
    routes = routing(AccessConfig(), models)
    assert names(routes)["39"] == "a@1"
    assert routes.warnings == ("b: the alias 39 is left out: a has that name",)


def test_an_alias_is_routed_from_when_on_the_process_knows_it_until_it_does_not(stage):
    def routed() -> dict[str, str]:
        return names(routing(AccessConfig(), [stage.model]))

    stage.want(layout(1, aliases=("old",)))
    assert set(routed()) == {"m", "old"}
    stage.started[0].ready()
    stage.step()
    stage.want(layout(1, keys={1: "new"}, aliases=("new",)))
    assert set(routed()) == {"m", "old"}
    stage.started[1].ready()
    stage.step()
    assert set(routed()) == {"m", "new"}


def test_an_alias_leads_to_no_version_whose_process_does_not_know_it(stage):
    stage.want(layout(1, 2, labels={"stable": 1, "next": 2}))
    for process in stage.started:
        process.ready()
    stage.step()
    keys = {1: "new", 2: "newer"}
    stage.want(layout(1, 2, keys=keys, labels={"stable": 1, "next": 2}, aliases=("39",)))
    stage.started[3].ready()
    stage.step()
    own, alias = routing(AccessConfig(), [stage.model]).state["models"]
    assert (alias["name"], alias["alias_of"], own["alias_of"]) == ("39", "m", None)
    assert (set(own["versions"]), set(alias["versions"])) == ({"1", "2"}, {"2"})
    assert alias["labels"] == {"next": "2"}
    stage.started[2].ready()
    stage.step()
    own, alias = routing(AccessConfig(), [stage.model]).state["models"]
    assert {**alias, "name": "m", "alias_of": None} == own


# --- what is announced


def announced(*models: Model, withdrawn: tuple[str, ...] = ()) -> dict[str, tuple]:
    found = served(models, routing(AccessConfig(), models), withdrawn)
    return {name: (each.protocol, each.version, each.versions, each.labels) for each in found for name in each.names}


def test_what_answers_is_announced_under_every_name(stage):
    stage.want(layout(1, 2, 3, labels={"stable": 1, "next": 3}, aliases=("39", "n"), default=2))
    assert announced(stage.model) == {}
    for process in stage.started[:2]:
        process.ready()
    stage.step()
    expected = ("seldon", "2", ("1",), ("stable",))
    assert announced(stage.model, Model("n", problem=BROKEN)) == {"m": expected, "39": expected}
    stage.started[2].ready()
    stage.step()
    assert announced(stage.model)["m"] == ("seldon", "2", ("1", "3"), ("stable", "next"))
    assert announced(stage.model, withdrawn=("m",)) == {}


def test_a_model_is_not_announced_while_its_process_is_dead(stage, clock):
    stage.want(layout(1))
    stage.started[0].ready()
    stage.step()
    assert list(announced(stage.model)) == ["m"]
    stage.started[0].end("killed")
    stage.step()
    assert announced(stage.model) == {}
    clock.now += 100
    stage.step()
    stage.started[1].ready()
    stage.step()
    assert list(announced(stage.model)) == ["m"]


def test_calls_wait_for_the_successor_of_a_process_that_was_ready_and_for_no_other(clock, tmp_path):
    hands = tmp_path / "hands"
    stage = Stage(hands=hands)

    def wait_ms() -> int:
        (cluster,) = routing(AccessConfig(), [stage.model]).state["clusters"]
        assert cluster["max_attempts"] == (6 if cluster["restart_wait_ms"] else 2)
        return cluster["restart_wait_ms"]

    stage.want(layout(1))
    assert wait_ms() == 0  # it may never be ready
    stage.started[-1].ready()
    stage.step()
    assert wait_ms() == 0  # a request that kills processes would not be found
    hands.write_bytes(b"as a process makes it")
    assert wait_ms() == 1000
    stage.started[-1].end("killed by SIGABRT")
    stage.step()
    assert wait_ms() == 1000
    stage.step()
    stage.started[-1].end("cannot be loaded")
    stage.step()
    assert wait_ms() == 0


def test_no_call_waits_where_nobody_finds_the_request_that_kills_processes(stage):
    stage.want(layout(1))
    stage.started[-1].ready()
    stage.step()
    (cluster,) = routing(AccessConfig(), [stage.model]).state["clusters"]
    assert (cluster["restart_wait_ms"], cluster["max_attempts"]) == (0, 2)
