"""How many processes a model has: what model.yaml says, under `serve` and under `predict` alike."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import grpc
import pytest
from fixtures.processes import Process
from fixtures.serve_process import STAND_IN, Caller, Serve, write_model

from dl_inference.messages import SeldonMessage

pytestmark = pytest.mark.timeout(120)

PREDICT_WITH_STAND_INS = f"""
import functools, sys
from dl_inference import cli
from dl_inference.commands import predict_run
predict_run.run = functools.partial(predict_run.run, program=(sys.executable, {str(STAND_IN)!r}))
cli.app(["predict", *sys.argv[1:]])
"""
END_S = 60


@pytest.fixture
def predict(run, tmp_path: Path):
    """Start `predict`; its model processes are stand-ins."""

    def start(folder: Path, *options: str) -> Process:
        command = [sys.executable, "-c", PREDICT_WITH_STAND_INS, folder, "--listen", "127.0.0.1:0", *options]
        return run(command, env={"TMPDIR": str(tmp_path)})

    return start


def wait_for_answers_of(caller: Caller, model: str | None, count: int) -> None:
    """Call until `count` processes have answered: a start is over when one is connected, and calls go to that one."""
    answered: set[str] = set()
    end = time.monotonic() + END_S
    while len(answered) < count and time.monotonic() < end:
        calls = [caller.future(model, timeout_s=30) for _ in range(50)]
        answered |= {call.result().strData.partition(" by ")[2] for call in calls}
    assert len(answered) == count


def test_serve_runs_as_many_processes_as_the_folder_says_and_else_the_command(run, tmp_path: Path):
    models = tmp_path / "models"
    write_model(models / "three", "A", instances=3)
    write_model(models / "as-told", "A")
    serve = Serve(run, models, "--replicas", "2", env={"TMPDIR": str(tmp_path)})
    assert {name: len(serve.pids(name)) for name in ("three", "as-told")} == {"three": 3, "as-told": 2}
    wait_for_answers_of(Caller(serve.address), "three", 3)


def test_predict_runs_as_many_processes_as_the_folder_says(predict, tmp_path: Path):
    folder = write_model(tmp_path / "m", "A", instances=2, aliases=["39"])
    process = predict(folder, "--model-name", "named", "--limit", "max_message_bytes=30000000")
    address = process.wait_line(r"ready on (127\S+)", timeout_s=END_S)[1]
    caller = Caller(address)
    wait_for_answers_of(caller, "named", 2)
    wait_for_answers_of(caller, None, 2)
    assert caller.ask("39") == "A"
    large = SeldonMessage(strData="x" * 20_000_000)  # more than the access service lets through by itself
    assert caller._predict(large, timeout=60).strData.startswith("A by ")
    with pytest.raises(grpc.RpcError) as refused:
        caller._predict(SeldonMessage(strData="x" * 30_000_001), timeout=60)
    assert "max_message_bytes" in refused.value.details()
    caller.channel.close()
    process.signal(signal.SIGTERM)
    assert process.wait(END_S) == 0


def test_predict_ends_where_a_process_cannot_be_loaded_and_says_why(predict, tmp_path: Path):
    process = predict(write_model(tmp_path / "m", "broken", instances=2))
    assert process.wait(END_S) == 1
    assert "holds no weights" in process.log.rpartition("cannot serve")[2]
