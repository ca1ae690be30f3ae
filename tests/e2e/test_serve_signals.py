"""Signals in every phase of `dl-inference serve`: it ends in time, says why, and leaves nothing."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest
from fixtures.access_process import wait_until
from fixtures.serve_process import START_S, WITH_STAND_INS, Caller, is_running, outcome, replace, write_model

pytestmark = pytest.mark.timeout(200)

END_S = 10


@pytest.fixture
def start(run, tmp_path: Path):
    """Start `serve` on a folder with one model of this answer, without waiting until it is ready."""

    def begin(answer: str):
        write_model(tmp_path / "models" / "m", answer)
        listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        return run([sys.executable, "-c", WITH_STAND_INS, tmp_path / "models", *listen], env={"TMPDIR": str(tmp_path)})

    return begin


def a_model_loads(start, folder):
    process = start("never")
    process.wait_line("process [0-9]+ starts", timeout_s=START_S)
    return process


def a_model_cannot_be_loaded(start, folder):
    process = start("broken")
    process.wait_line("holds no weights", timeout_s=START_S)
    return process


def the_port_is_open(start, folder):
    process = start("A")
    process.wait_line("ready on", timeout_s=START_S)
    return process


def a_model_is_being_replaced(start, folder):
    process = the_port_is_open(start, folder)
    line = process.line_count()
    replace(folder, lambda new: write_model(new, "never"))
    process.wait_line("process [0-9]+ starts", after=line, timeout_s=START_S)
    return process


def a_replaced_model_answers_its_last_call(start, folder):
    process = start("A")
    address = process.wait_line(r"ready on (\S+),", timeout_s=START_S)[1]
    never = folder.parent.parent / "never"
    caller = Caller(address)
    process.last_call = caller, caller.future("m", f"wait for {never}", 60)  # kept, or it would be cancelled
    wait_until(never.with_suffix(".waiting").exists, "the call is in the model", START_S)
    replace(folder, lambda new: write_model(new, "B"))
    wait_until(lambda: outcome(caller.future("m", timeout_s=1)) == "B", "the new model answers", START_S)
    return process


PHASES = (
    a_model_loads,
    a_model_cannot_be_loaded,
    the_port_is_open,
    a_model_is_being_replaced,
    a_replaced_model_answers_its_last_call,
)


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
def test_a_second_signal_ends_everything_in_time(start, tmp_path, phase):
    process = phase(start, tmp_path / "models" / "m")
    pids = [int(pid) for pid in re.findall("process ([0-9]+) starts", process.log)]
    command_lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids if is_running(pid)]
    folders = {Path(path).parent for line in command_lines for path in re.findall(r"unix:([^\"]+)", line)}
    assert all(folder.is_dir() for folder in folders)
    process.signal(signal.SIGHUP)
    process.signal(signal.SIGTERM)
    if "ready on" in process.log:
        process.wait_line("serve: draining")
    process.signal(signal.SIGHUP)
    process.signal(signal.SIGINT)
    assert process.wait(END_S) in (0, 1)
    assert not any(map(is_running, pids))
    assert not any(folder.exists() for folder in folders)
    assert "Traceback" not in process.log
