"""Which models are loaded, within which memory: the rules alone, with processes that only pretend."""

from __future__ import annotations

from pathlib import Path

import pytest

from dl_inference.local.layout import FolderError, Layout
from dl_inference.local.loads import Loads, Rules
from dl_inference.local.memory import FILE_FACTOR, PROCESS_BYTES, Memory
from dl_inference.local.models import Model
from dl_inference.local.orders import Order, Orders
from dl_inference.local.processes import State
from dl_inference.serving.report import Report

GIB = 2**30


class Pretend:
    """Stands in for a ModelProcess, which takes 1 GiB."""

    pids = iter(range(10**6, 10**7))

    def __init__(self) -> None:
        self.pid = next(self.pids)
        self.label, self.address = f"m/{self.pid}", f"unix:/{self.pid}"
        self.state, self.report = State.STARTING, Report()
        self.reason = self.sickness = ""
        self.started_at = self.ready_at = 0.0
        self.is_healthy = True

    def step(self) -> State:
        return self.state

    def ran_well(self) -> bool:
        return False


class Source:
    """Takes the answers to orders."""

    def __init__(self) -> None:
        self.answers: dict[int, tuple[str, str]] = {}

    def next_order(self, limit_ms: int) -> None:
        return None

    def answer_order(self, number: int, code: str, text: str) -> None:
        self.answers[number] = (code, text)


class Room:
    """Models and the decisions about them. Time is told; what is in flight, too."""

    def __init__(self, rules: Rules, clock: list[float]) -> None:
        self.clock = clock
        self.orders = Orders(lambda: None)
        self.source = Source()
        self.orders.follow(self.source)  # type: ignore[arg-type]
        self.orders.stop()
        self.loads = Loads(rules, Memory(1), self.orders)
        self.models: dict[str, Model] = {}
        self.leaving: list[Pretend] = []
        self.called: dict[str, float] = {}
        self.in_flight: dict[str, int] = {}
        self._number = 0

    def put(self, name: str, **more: object) -> None:
        """Find a folder, new or changed."""
        layout = Layout(
            **{  # type: ignore[arg-type]
                "name": name,
                "path": Path("/none"),
                "kind": "PyTorch",
                "places": {},
                "keys": {1: "key"},
                "served": (1,),
                "default": 1,
                "labels": {},
                "aliases": (),
                "timeout_ms": 1000,
                **more,
            }
        )
        model = self.models.setdefault(name, Model(name))
        self.loads.meet(model, layout, self.models.values())
        model.want(layout, 1, lambda *_: Pretend())  # type: ignore[arg-type, return-value]
        self.step()

    def order(self, action: str, name: str) -> int:
        """Give an order; return its number."""
        self._number += 1
        number = 0 if action == "call" else self._number
        self.orders._heard.put(Order(number, action, name))
        if action == "call":
            self.called[name] = self.clock[0]
        for order in self.orders.taken():
            self.loads.take(order, self.models)
        self.step()
        self.step()  # what is to be loaded starts now
        return number

    def step(self) -> None:
        """One turn of the control loop; what leaves ends only by `end`."""
        for model in self.models.values():
            model.step(lambda: True)
        self.loads.step(self.models, self.usage, self.leaving)  # type: ignore[arg-type]
        for model in self.models.values():
            for group in model.release():
                self.leaving += [each for replica in group.replicas for each in replica.processes]
        self.loads.settle(self.models, self.usage)

    def end(self) -> None:
        """Let the processes end that leave."""
        for process in self.leaving:
            process.state = State.ENDED
        self.leaving.clear()
        self.step()

    def ready(self, *names: str) -> None:
        """Let the processes of models be ready, and each be called, a second after the other."""
        for name in names:
            for process in self.processes(name):
                process.state, process.ready_at = State.READY, 1.0
            self.clock[0] += 1
            self.called[name] = self.clock[0]
            self.step()

    def processes(self, name: str) -> list[Pretend]:
        return [each for group in self.models[name].groups for replica in group.replicas for each in replica.processes]

    @property
    def usage(self) -> list[tuple[str, float | None, int, bool]]:
        return [
            (
                f"{name}@1",
                self.clock[0] - self.called[name] if name in self.called else None,
                self.in_flight.get(name, 0),
                model.is_ready,
            )
            for name, model in self.models.items()
        ]

    @property
    def loaded(self) -> set[str]:
        return {name for name, model in self.models.items() if model.wanted.is_loaded}


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("dl_inference.local.memory.memory_of", lambda pid: GIB)
    return now


@pytest.fixture
def room(clock):
    return lambda **rules: Room(Rules(**rules), clock)


def test_a_load_waits_until_the_memory_that_it_needs_was_given_back(room):
    found = room(on_demand=True, memory_budget=2 * GIB)
    for name in ("a", "b", "c"):
        found.put(name)
        found.order("call", name)
        if name != "c":
            found.ready(name)
    assert found.loaded == {"b"}
    assert found.processes("c") == []
    assert len(found.leaving) == 1
    found.step()
    assert found.loaded == {"b"}
    found.end()
    assert found.loaded == {"b", "c"}


def test_a_model_with_a_call_in_it_stays_and_the_next_idle_one_goes(room):
    found = room(on_demand=True, memory_budget=2 * GIB)
    for name in ("a", "b"):
        found.put(name)
        found.order("call", name)
        found.ready(name)
    found.in_flight["a"] = 1
    found.put("c")
    found.order("call", "c")
    assert found.loaded == {"a"}


def test_nothing_is_unloaded_in_vain(room):
    found = room(on_demand=True, memory_budget=3 * GIB)
    found.put("a", on_demand=False)
    found.put("b")
    found.order("call", "b")
    found.ready("a", "b")
    found.put("huge", instances=12)
    number = found.order("load", "huge")
    code, text = found.source.answers[number]
    assert code == "RESOURCE_EXHAUSTED"
    assert f"needs about {12 * PROCESS_BYTES / 2**20:,.0f} MiB" in text
    assert "budget of 3,072 MiB" in text
    assert found.loaded == {"a", "b"}
    assert found.models["huge"].wanted.route("huge")["refusals"] == 1
    found.order("call", "huge")
    assert found.models["huge"].wanted.route("huge")["refusals"] == 2


def test_a_model_that_is_loaded_from_the_start_is_not_unloaded_for_another(room):
    found = room(memory_budget=2 * GIB)
    for name in ("a", "b"):
        found.put(name)
        found.ready(name)
    found.put("late")
    assert found.loaded == {"a", "b"}
    assert "no room for model late" in found.models["late"].wanted.refusal
    found.order("call", "late")  # it is not of those that a call loads
    assert found.loaded == {"a", "b"}
    found.order("unload", "a")
    found.end()
    found.order("load", "late")
    assert found.loaded == {"b", "late"}


def test_a_model_is_idle_by_its_last_call_and_not_while_one_is_in_it(room, clock):
    found = room(on_demand=True, idle_unload_s=10)
    found.put("a")
    found.put("b", idle_unload_s=100)
    for name in ("a", "b"):
        found.order("call", name)
        found.ready(name)
    found.in_flight["a"] = 1
    clock[0] += 50
    found.step()
    assert found.loaded == {"a", "b"}
    found.in_flight["a"] = 0
    clock[0] += 9
    found.step()
    assert found.loaded == {"a", "b"}
    clock[0] += 2
    found.step()
    assert found.loaded == {"b"}


def test_the_last_order_counts_and_the_others_are_told(room):
    found = room()
    found.put("a", on_demand=True)
    first, second = found.order("load", "a"), found.order("load", "a")
    assert len(found.processes("a")) == 1
    last = found.order("unload", "a")
    assert found.source.answers == {number: ("ABORTED", "model a was unloaded meanwhile") for number in (first, second)}
    found.end()
    assert found.source.answers[last] == ("", "")
    assert found.loaded == set()


def test_what_somebody_has_unloaded_no_call_loads(room):
    found = room(on_demand=True)
    found.put("a")
    found.order("call", "a")
    found.ready("a")
    found.order("unload", "a")
    found.end()
    found.order("call", "a")
    assert found.loaded == set()
    assert not found.models["a"].wanted.route("a")["on_demand"]
    found.order("load", "a")
    assert found.loaded == {"a"}


def test_a_folder_that_changes_while_it_is_unloaded_stays_so_until_it_is_to_be_loaded_at_the_start(room):
    found = room(on_demand=True)
    found.put("a")
    found.put("a", keys={1: "other"})
    assert (found.loaded, found.processes("a")) == (set(), [])
    found.put("a", on_demand=False)
    assert found.loaded == {"a"}
    assert len(found.processes("a")) == 1


def test_a_reload_takes_new_processes_and_lets_the_old_ones_go_when_these_are_ready(room):
    found = room()
    found.put("a")
    found.ready("a")
    (old,) = found.processes("a")
    number = found.order("reload", "a")
    assert found.leaving == []
    assert number not in found.source.answers
    found.ready("a")
    assert found.source.answers[number] == ("", "")
    assert found.leaving == [old]
    found.put("a")  # the folder is looked at again, and is what it was
    assert len(found.processes("a")) == 1


def test_a_folder_that_cannot_be_served_refuses_orders_and_calls_with_its_problem(room):
    found = room(on_demand=True)
    found.put("a")
    found.models["a"].reject(FolderError("model.yaml is broken", "mend it"))
    number = found.order("load", "a")
    assert found.source.answers[number][0] == "FAILED_PRECONDITION"
    assert "model.yaml is broken; mend it" in found.source.answers[number][1]
    found.order("call", "a")
    assert "model.yaml is broken" in found.models["a"].wanted.refusal


def test_a_model_needs_what_it_took_last_and_before_that_what_its_files_say(room, tmp_path: Path):
    (tmp_path / "model.pt2").write_bytes(b"x" * 1000)
    found = room()
    found.put("a", places={1: tmp_path}, instances=2)
    memory = found.loads._memory
    assert memory.estimate(found.models["a"]) == 2 * (PROCESS_BYTES + FILE_FACTOR * 1000)
    found.ready("a")
    found.clock[0] += 10
    found.step()
    assert memory.estimate(found.models["a"]) == 2 * GIB
    found.put("a", keys={1: "other"}, places={1: tmp_path}, instances=2)
    assert memory.estimate(found.models["a"]) == 2 * (PROCESS_BYTES + FILE_FACTOR * 1000)


def test_a_model_that_loads_counts_with_what_it_is_going_to_take(room, monkeypatch):
    monkeypatch.setattr("dl_inference.local.memory.memory_of", lambda pid: 0)
    found = room(on_demand=True, memory_budget=5 * PROCESS_BYTES)
    for name in ("a", "b"):
        found.put(name, instances=4)
        found.order("call", name)
    assert found.loaded == {"a"}
    assert found.models["b"].wanted.is_memory
