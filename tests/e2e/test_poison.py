"""Requests that kill the process that runs them, under `serve`, beside calls that do no harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from fixtures.access_process import wait_until
from fixtures.command_line import command
from fixtures.serve_process import Caller, Serve, Traffic, kill, outcome

from dl_inference.messages import SeldonMessage

pytestmark = pytest.mark.timeout(400)

LOAD_S = 150
# A process dies, waits for a second and loads torch, on a machine that is busy.
CALL_S = 120

# What a request does is in its text; every other one is answered with the process's id.
PROCESSOR = """
import os, time

def preprocess(x, **kwargs):
    what, _, where = x.partition(" at ")
    if what == "abort":
        os.abort()
    if what == "exit once":
        try:
            open(where, "x").close()
        except FileExistsError:
            return x
        os._exit(3)
    if what == "hang":
        with open(where, "a") as file:
            file.write(f"{os.getpid()}\\\\n")
        time.sleep(600)
    if what == "wait":
        open(where + ".waiting", "a").close()  # again, where an answer was lost with the process
        while not os.path.exists(where):
            time.sleep(0.01)
    return x

def run_model(model, x, **kwargs):
    return x

def postprocess(x, **kwargs):
    return f"fine by {os.getpid()}"
""".replace("\\\\", "\\")


@pytest.fixture
def serve(run, tmp_path: Path):
    """Start `serve` on a real PyTorch model `m` that requests can kill, with so many processes."""

    def start(replicas: int) -> Serve:
        import torch

        folder = tmp_path / "models" / "m"
        folder.mkdir(parents=True)
        (folder / "processor.py").write_text(PROCESSOR)
        (folder / "model.py").write_text("import torch\ndef Model(): return torch.nn.Linear(1, 1)\n")
        torch.save({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}, folder / "model.pt")
        (folder / "model.yaml").write_text(json.dumps({"timeout_ms": CALL_S * 1000}))
        started = Serve(run, folder.parent, "--replicas", str(replicas), real=True, env={"TMPDIR": str(tmp_path)})
        wait_until(lambda: version_of(started)["ready"] == replicas, "all processes are ready", LOAD_S)
        return started

    return start


def version_of(started: Serve) -> dict[str, Any]:
    """Return what /status says of the version."""
    found = started.folder("m")
    assert found is not None
    return found["versions"][0]


def whole_outcome(call: Any) -> tuple[grpc.StatusCode, str, str | None]:
    """Return code, text and kind of error of a call."""
    text = outcome(call)
    return call.code(), text, dict(call.trailing_metadata()).get("access-error")


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_request_that_kills_its_process_kills_two_and_fails_alone(serve, tmp_path, replicas):
    started = serve(replicas)
    caller = Caller(started.address)
    with Traffic(started.address, "m", differ=True, timeout_s=CALL_S) as traffic:
        traffic.wait_for("fine")
        # All of these wait in the processes, and are taken with what kills.
        gates = [caller.future("m", f"wait at {tmp_path / f'gate{number}'}", CALL_S) for number in range(replicas)]
        for number in range(replicas):
            wait_until((tmp_path / f"gate{number}.waiting").exists, "a process is busy", LOAD_S)
        neighbours = [caller.future("m", f"neighbour {number}", CALL_S) for number in range(50)]
        poison = caller.future("m", "abort", CALL_S)
        neighbours += [caller.future("m", f"neighbour {number}", CALL_S) for number in range(50, 100)]
        for number in range(replicas):
            (tmp_path / f"gate{number}").touch()
        code, text, kind = whole_outcome(poison)
        assert (code, kind) == (grpc.StatusCode.FAILED_PRECONDITION, "poison"), text
        assert {outcome(call) for call in [*gates, *neighbours]} == {"fine"}
        wait_until(lambda: version_of(started)["ready"] == replicas, "all processes are ready again", LOAD_S)
        traffic.wait_for("fine")
        # Nobody runs it again, whoever sends it.
        for _ in range(4 * replicas):
            assert whole_outcome(caller.future("m", "abort"))[2] == "poison"
        pids = started.pids("m")
        again = SeldonMessage(strData="abort", meta={"puid": "another"})
        assert whole_outcome(caller._predict.future(again, metadata=[("x-model", "m")], timeout=CALL_S))[2] == "poison"
        assert started.pids("m") == pids
        assert {caller.ask("m", f"neighbour {number}") for number in range(100)} == {"fine"}
    assert traffic.failures == {}
    assert version_of(started)["restarts"] == 2
    assert started.process.log.count("killed by SIGABRT") == 2
    # Beside it those that were answered already when their batch killed the process, and have not come again.
    suspects = wait_until(lambda: version_of(started)["suspects"], "the poison is in /status", 10)
    (found,) = (each for each in suspects if each["is_refused"])
    assert 0 < found["for_s"] <= 600
    assert f"request {found['fingerprint']} is refused for another" in text
    told = [line for line in started.process.log.splitlines() if f"request {found['fingerprint']}" in line]
    assert [line.partition("m@1: ")[2].partition(" for ")[0] for line in told if "m@1: " in line] == [
        f"two processes died with request {found['fingerprint']}, alone in the second: it is refused"
    ]
    shown = command("status", "--admin", started.admin).output
    assert f"m@1: request {found['fingerprint']} killed two processes: refused for" in shown


def test_a_request_that_was_in_a_dying_process_by_chance_is_answered_and_cleared(serve, tmp_path):
    started = serve(1)
    caller = Caller(started.address)
    file = tmp_path / "exited"
    assert outcome(caller.future("m", f"exit once at {file}", CALL_S)) == "fine"
    assert "a process died with 1 requests, each of which runs alone" in started.process.log
    wait_until(lambda: version_of(started)["suspects"] == [], "it is no suspect any more", 30)
    assert caller.ask("m", f"exit once at {file}") == "fine"
    assert version_of(started)["restarts"] == 1


def test_a_request_that_hangs_until_its_process_is_killed_is_poison_too(serve, tmp_path):
    started = serve(2)
    caller = Caller(started.address)
    file = tmp_path / "hung"
    hangs = caller.future("m", f"hang at {file}", CALL_S)
    for count in (1, 2):
        pids = wait_until(
            lambda count=count: file.exists() and len(lines := file.read_text().split()) == count and lines,
            f"process {count} hangs",
            LOAD_S,
        )
        kill(int(pids[-1]))
    assert whole_outcome(hangs)[2] == "poison"
    assert outcome(caller.future("m", "hello", CALL_S)) == "fine"
    assert len(file.read_text().split()) == 2
