"""Models of `serve` that are loaded and unloaded: by order, by calls, within a memory budget."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from fixtures.access_process import wait_until
from fixtures.command_line import command as command_line
from fixtures.serve_process import (
    LIGHT_STAND_IN,
    STAND_IN,
    Caller,
    Serve,
    Traffic,
    is_running,
    kill,
    outcome,
    write_model,
)

from dl_inference import messages
from dl_inference.local.processes import resident_bytes

pytestmark = pytest.mark.timeout(400)

ModelRepositoryParameter = messages.message_class("inference.ModelRepositoryParameter")
METHODS = {
    method: tuple(messages.message_class(f"inference.{method}{end}") for end in ("Request", "Response"))
    for method in ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "ModelReady", "ModelMetadata")
}

END_S = 60


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An empty MODELS_DIR."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def serve(run, models, tmp_path: Path):
    """Start `serve` on the folder `models`."""
    return lambda *options, stand_in=STAND_IN, folder=models, **env: Serve(
        run, folder, *options, env={"TMPDIR": str(tmp_path), **env}, stand_in=stand_in
    )


def command(started: Serve, *words: str) -> tuple[int, str]:
    """Return status and output of `dl-inference models`."""
    done = command_line("models", *words, "--admin", started.admin)
    return done.exit_code, done.output


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def ended(pids: list[int]) -> None:
    """Wait until processes have ended."""
    wait_until(lambda: not any(map(is_running, pids)), f"{pids} end", END_S)


def test_the_command_unloads_loads_and_lists_models(serve, models):
    write_model(models / "one", "A")
    write_model(models / "two", "B")
    started = serve()
    caller = Caller(started.address)
    assert caller.ask("one") == "A"
    (pid,) = started.pids("one")
    assert command(started, "unload", "one")[0] == 0
    assert not is_running(pid)
    assert "is not loaded (" not in caller.ask("one")
    assert caller.ask("one").startswith("NOT_FOUND: model one is not loaded: load it by `dl-inference models load`")
    assert caller.ask("two") == "B"
    assert command(started, "unload", "one")[0] == 0  # it is
    status, text = command(started, "ls")
    assert (status, "unloaded" in text, "ready" in text) == (0, True, True), text
    status, text = command(started, "load", "one")
    assert (status, caller.ask("one")) == (0, "A"), text
    assert command(started, "load", "one")[0] == 0  # it is
    assert len(started.pids("one")) == 1
    status, text = command(started, "load", "onne")
    assert status == 1
    assert "nearest known: one" in text


def repository(started: Serve, method: str, model: str | None = None, timeout_s: float = 60, **more: object):
    """Call a method of Open Inference; return the answer, or the code and text of the error."""
    request_type, answer_type = METHODS[method]
    request = request_type(**({"model_name": model} if model else {}), **more)
    with grpc.insecure_channel(started.address) as channel:
        call = channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=request_type.SerializeToString,
            response_deserializer=answer_type.FromString,
        )
        try:
            return call(request, timeout=timeout_s)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"


def index(started: Serve, **more: object) -> dict[str, tuple[str, str]]:
    """Return state and reason of each model in the index."""
    found = repository(started, "RepositoryIndex", **more)
    return {f"{each.name}@{each.version}": (each.state, each.reason) for each in found.models}


def test_a_reload_under_load_loses_no_call_and_takes_new_processes(serve, models):
    write_model(models / "one", "A", instances=2)
    started = serve()
    with Traffic(started.address, "one") as traffic:
        traffic.wait_for("A")
        before = started.pids("one")
        status, text = command(started, "reload", "one")
        assert status == 0, text
        traffic.wait_for("A")
        ended(before)
        assert len(started.pids("one")) == 2
    assert traffic.failures == {}
    assert not {*before} & {*started.pids("one")}


def test_calls_in_flight_end_before_their_model_is_unloaded(serve, models, tmp_path: Path):
    write_model(models / "one", "A")
    started = serve(DL_INFERENCE_ADMIN_METHODS="true")
    caller = Caller(started.address)
    (pid,) = started.pids("one")
    call = caller.future("one", f"wait for {tmp_path / 'go'}", timeout_s=60)
    wait_until((tmp_path / "go.waiting").exists, "the call is in the model", END_S)
    with ThreadPoolExecutor(1) as pool:
        unload = pool.submit(repository, started, "RepositoryModelUnload", "one")
        started.wait_state("one", "unloaded")
        assert caller.ask("one").startswith("NOT_FOUND")
        assert is_running(pid)
        (tmp_path / "go").touch()
        assert outcome(call) == "A"
        assert not isinstance(unload.result(), str)
    assert not is_running(pid)


def test_a_load_fails_with_what_the_quarantine_says_and_is_tried_again_by_order(serve, models):
    write_model(models / "one", "broken")
    write_model(models / "two", "B")
    started = serve(DL_INFERENCE_ADMIN_METHODS="true")
    assert started.folder("one")["state"] == "failed"
    status, text = command(started, "load", "one")
    assert status == 1
    assert "quarantined at the step load" in text
    assert "holds no weights; save it again" in text
    failed = repository(started, "RepositoryModelLoad", "one")
    assert failed.startswith("FAILED_PRECONDITION: version 1 is quarantined at the step load")
    # It is tried again after a second, too, and loads meanwhile.
    wait_until(lambda: index(started)["one@1"][1].startswith("load: "), "why it failed is in the index")
    assert index(started)["one@1"][0] == "UNAVAILABLE"
    write_model(models / "one", "A")  # taken at once: no second passes until a load may look
    assert command(started, "load", "one")[0] == 0
    assert Caller(started.address).ask("one") == "A"


def test_an_unload_ends_a_load_and_the_loader_is_told(serve, models, tmp_path: Path):
    write_model(models / "two", "B")
    started = serve(DL_INFERENCE_ADMIN_METHODS="true")
    write_model(models / "one", f"gate {tmp_path / 'go'}", load="on_demand")
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(repository, started, "RepositoryModelLoad", "one")
        wait_until((tmp_path / "go.waiting").exists, "one loads", END_S)
        pids = started.pids("one")
        assert command(started, "unload", "one")[0] == 0
        assert loading.result() == "ABORTED: model one was unloaded meanwhile"
    ended(pids)
    assert started.folder("one")["state"] == "unloaded"


def test_a_process_that_is_killed_while_it_loads_fails_the_load_and_the_next_one_is_tried(
    serve, models, tmp_path: Path
):
    write_model(models / "two", "B")
    started = serve(DL_INFERENCE_ADMIN_METHODS="true")
    write_model(models / "one", f"gate {tmp_path / 'go'}", load="on_demand")
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(repository, started, "RepositoryModelLoad", "one")
        wait_until((tmp_path / "go.waiting").exists, "one loads", END_S)
        kill(started.pids("one")[0])
        failed = loading.result()
    assert failed.startswith("FAILED_PRECONDITION: version 1 is quarantined at the step load: killed by SIGKILL")
    (tmp_path / "go").touch()
    assert command(started, "load", "one")[0] == 0
    assert started.folder("one")["state"] == "serving"


def test_repository_methods_load_and_unload_where_admin_methods_are_allowed(serve, models):
    write_model(models / "one", "A")
    write_model(models / "two", "B")
    started = serve(DL_INFERENCE_ADMIN_METHODS="true")
    assert index(started) == {"one@1": ("READY", ""), "two@1": ("READY", "")}
    pids = started.pids("one")
    assert not isinstance(repository(started, "RepositoryModelUnload", "one"), str)
    assert not any(map(is_running, pids))
    assert index(started)["one@1"] == ("UNAVAILABLE", "not loaded: somebody unloaded it")
    assert [*index(started, ready=True)] == ["two@1"]
    assert not isinstance(repository(started, "RepositoryModelLoad", "one"), str)
    assert Caller(started.address).ask("one") == "A"
    assert repository(started, "RepositoryModelLoad", "nobody").startswith("NOT_FOUND: no model nobody")
    with_parameters = repository(
        started, "RepositoryModelLoad", "one", parameters={"config": ModelRepositoryParameter(string_param="{}")}
    )
    assert with_parameters.startswith("INVALID_ARGUMENT: parameter config of a load is not known")


def test_repository_methods_are_denied_unless_admin_methods_allow_them(serve, models):
    write_model(models / "one", "A")
    started = serve()
    for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
        assert repository(started, method, "one").startswith("PERMISSION_DENIED")
    assert index(started) == {"one@1": ("READY", "")}


def test_an_admin_port_that_other_machines_reach_takes_orders_only_with_admin_methods(serve, models):
    write_model(models / "one", "A")
    started = serve("--admin", "0.0.0.0:0")
    status, text = command(started, "unload", "one")
    assert status == 1
    assert "the admin port can be reached from other machines: set admin_methods" in text
    assert started.folder("one")["state"] == "serving"
    allowed = serve(
        "--admin", "0.0.0.0:0", DL_INFERENCE_ADMIN_METHODS="true", folder=write_model(models.parent / "two", "B")
    )
    assert command(allowed, "unload", "two")[0] == 0


def test_many_cold_calls_start_one_load_and_all_are_answered(serve, models, tmp_path: Path):
    write_model(models / "one", f"gate {tmp_path / 'go'}", load="on_demand")
    write_model(models / "two", "B")
    started = serve()
    caller = Caller(started.address)
    assert started.folder("one")["state"] == "unloaded"
    calls = [caller.future("one", timeout_s=60) for _ in range(20)]
    wait_until((tmp_path / "go.waiting").exists, "one loads", END_S)
    (tmp_path / "go").touch()
    assert {outcome(call) for call in calls} == {f"gate {tmp_path / 'go'}"}
    assert len((tmp_path / "go.waiting").read_text().splitlines()) == 1
    assert started.folder("one")["loads"] == 1


def test_a_cold_call_keeps_its_deadline_and_the_load_goes_on_for_the_next(serve, models, tmp_path: Path):
    write_model(models / "one", f"gate {tmp_path / 'go'}", load="on_demand", timeout_ms=500)
    started = serve()
    caller = Caller(started.address)
    late = caller.future("one", timeout_s=60)
    assert outcome(late).startswith(
        "DEADLINE_EXCEEDED: model one is loading, which takes longer than the call has time"
    )
    assert caller.ask("one").startswith("DEADLINE_EXCEEDED")
    (tmp_path / "go").touch()
    started.wait_state("one", "serving")
    assert caller.ask("one").startswith("gate ")
    assert len((tmp_path / "go.waiting").read_text().splitlines()) == 1


def test_who_asks_whether_a_model_is_ready_does_not_load_it_and_who_asks_for_its_inputs_does(serve, models):
    write_model(models / "one", "A", load="on_demand")
    started = serve()
    ready = repository(started, "ModelReady", name="one")
    assert ready.startswith("NOT_FOUND: model one is not loaded: a call that needs it loads it")
    assert index(started)["one@1"] == ("UNAVAILABLE", "not loaded: it is loaded on demand")
    assert started.pids("one") == []
    assert repository(started, "ModelMetadata", name="one").name == "one"
    assert repository(started, "ModelReady", name="one").ready


def test_a_cold_call_is_told_why_its_model_cannot_be_loaded(serve, models):
    write_model(models / "one", "broken", load="on_demand")
    started = serve()
    caller = Caller(started.address)
    for _ in range(2):
        answer = caller.ask("one")
        assert answer.startswith("UNAVAILABLE: model one cannot be loaded")
        assert "holds no weights" in answer
    write_model(models / "one", "A", load="on_demand")
    wait_until(lambda: caller.ask("one") == "A", "the mended folder is loaded", END_S)


def test_a_model_that_no_call_needs_is_unloaded_and_loaded_again_by_the_next(serve, models):
    write_model(models / "one", "A", idle_unload_s=1)
    started = serve("--load", "on_demand")
    caller = Caller(started.address)
    assert caller.ask("one") == "A"
    (pid,) = started.pids("one")
    ended([pid])
    started.wait_state("one", "unloaded")
    assert caller.ask("one") == "A"
    # The call is answered as soon as the server is there, which may be before the status is told of it.
    wait_until(lambda: started.folder("one")["loads"] == 2, "the second load is counted")


def test_within_the_budget_the_least_recently_called_model_makes_room(serve, models, tmp_path: Path):
    for name in ("one", "two", "three"):
        write_model(models / name, name)
    started = serve("--load", "on_demand", "--memory-budget", "780MiB")  # each is estimated at 448 MiB
    caller = Caller(started.address)
    assert caller.ask("one") == "one"
    (pid,) = started.pids("one")
    hold = f"hold {280 - resident_bytes(pid) // 2**20}"  # so that two have room, and three have not
    for name in ("one", "two", "three"):
        assert caller.ask(name, hold) == name
        assert caller.ask("one") == "one"
    states = {name: started.folder(name)["wanted"] for name in ("one", "two", "three")}
    assert states == {"one": "loaded", "two": "unloaded", "three": "loaded"}
    # Calls are in both of them: neither may go.
    gates = {name: tmp_path / name for name in ("one", "three")}
    calls = {name: caller.future(name, f"wait for {gate}", timeout_s=60) for name, gate in gates.items()}
    for gate in gates.values():
        wait_until(gate.with_suffix(".waiting").exists, "the calls are in their models", END_S)
    refused = caller.ask("two")
    assert refused.startswith("RESOURCE_EXHAUSTED: no room for model two")
    assert "memory budget of 780 MiB" in refused
    for name, gate in gates.items():
        gate.touch()
        assert outcome(calls[name]) == name
    assert caller.ask("two") == "two"


def test_memory_and_descriptors_are_given_back_by_fifty_loads_and_unloads(serve, models):
    for name in ("one", "two"):
        write_model(models / name, name)
    started = serve(DL_INFERENCE_ADMIN_METHODS="true", stand_in=LIGHT_STAND_IN)
    pid = started.process.pid
    for turn in range(50):
        assert not isinstance(repository(started, "RepositoryModelUnload", "one"), str)
        assert not isinstance(repository(started, "RepositoryModelLoad", "one"), str)
        if turn == 9:  # what is allocated once is there by now
            before = (descriptors(pid), resident_bytes(pid))
    after = (descriptors(pid), resident_bytes(pid))
    assert after[0] <= before[0] + 3
    assert after[1] <= before[1] + 16 * 2**20
    assert len(started.pids("one")) == 1
