"""Processes that hang, stand still, grow or get old under `serve`: replaced, and no call fails that need not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from fixtures.access_process import wait_until
from fixtures.serve_process import STAND_IN, Caller, Serve, Traffic, is_running, outcome, write_model

pytestmark = pytest.mark.timeout(240)

IN_A_HURRY = f"""
import functools, sys
from dl_inference import cli
from dl_inference.commands import serve_run
from dl_inference.local import pulse
pulse.ANSWER_S = 1.0
serve_run.run = functools.partial(serve_run.run, program=(sys.executable, {str(STAND_IN)!r}))
cli.app(["serve", *sys.argv[1:]])
"""
LIMIT_S = 60


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An empty MODELS_DIR."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def serve(run, models, tmp_path: Path, monkeypatch):
    """Start `serve` on the folder `models`."""
    monkeypatch.setattr("fixtures.serve_process.WITH_STAND_INS", IN_A_HURRY)
    return lambda *options: Serve(run, models, *options, env={"TMPDIR": str(tmp_path)})


def replaced(serve: Serve, name: str, times: int = 1) -> str:
    """Wait until processes of a model have been replaced and all is well again; return the last reason."""

    def is_over() -> str:
        (version,) = serve.folder(name)["versions"]  # type: ignore[index]
        is_well = version["healthy"] == version["replicas"] and version["restarts"] >= times
        return version["last_reason"] if is_well else ""  # type: ignore[no-any-return]

    reason: str = wait_until(is_over, f"{name} is replaced; {serve.folder(name)}\n{serve.process.log}", LIMIT_S)
    return reason


def test_a_process_whose_code_hangs_is_replaced_and_its_neighbour_goes_on(serve, models, tmp_path):
    write_model(models / "m", "A", instances=2, hang_timeout_ms=1000)
    started = serve()
    before = started.pids("m")
    caller = Caller(started.address)
    never = tmp_path / "never"
    hung = caller.future("m", f"wait for {never}", timeout_s=2)
    wait_until(never.with_suffix(".waiting").exists, "the call hangs", LIMIT_S)
    assert replaced(started, "m") == "its model's code is stuck (hang_timeout_ms)"
    assert hung.code().name == "DEADLINE_EXCEEDED"
    assert len(set(before) & set(started.pids("m"))) == 1
    with Traffic(started.address, "m") as traffic:
        traffic.wait_for("A")
    assert traffic.failures == {}
    (gone,) = set(before) - set(started.pids("m"))
    wait_until(lambda: not is_running(gone), "the hung one is gone", LIMIT_S)


def test_a_process_that_answers_nothing_is_replaced(serve, models):
    write_model(models / "m", "A")
    started = serve()
    (stopped,) = started.pids("m")
    os.kill(stopped, signal.SIGSTOP)
    waiting = Caller(started.address).future("m", timeout_s=LIMIT_S)
    assert replaced(started, "m") == "it has not answered for 2 s"
    assert Caller(started.address).ask("m") == "A"
    assert outcome(waiting) == "A"  # it had gone to the one that was stopped, which was killed, not asked to end
    wait_until(lambda: not is_running(stopped), "the one that was stopped is gone", LIMIT_S)
    assert "did not end in time" not in started.process.log


def test_processes_that_grow_or_get_old_are_replaced_and_no_call_fails(serve, models):
    write_model(models / "growing", "G", max_memory="300MiB")
    write_model(models / "old", "O", max_age_s=2)
    started = serve()
    with Traffic(started.address, "growing") as growing, Traffic(started.address, "old") as old:
        growing.wait_for("G")
        caller = Caller(started.address)
        for _ in range(40):  # at once, the calls behind it would wait too long
            assert caller.ask("growing", "hold 10") == "G"
        reason = replaced(started, "growing")
        assert reason.startswith("it takes ")
        assert reason.endswith("more than 300 MiB (max_memory)")
        assert replaced(started, "old", times=2) == "it is older than 2 s (max_age_s)"
        for traffic in (growing, old):
            traffic.wait_for(traffic.model[0].upper())
    assert (growing.failures, old.failures) == ({}, {})
