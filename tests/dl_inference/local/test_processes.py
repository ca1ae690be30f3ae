"""One model process: that it dies with its parent, and what is told of how it ended."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.access_process import wait_until
from fixtures.serve_process import is_running

from dl_inference.local import child as local_child
from dl_inference.local.child import spawn
from dl_inference.local.processes import ModelProcess, State, last_metrics, metrics_file


@pytest.fixture
def start(tmp_path: Path):
    """Start a Python program as a model process."""
    processes: list[ModelProcess] = []

    def begin(code: str, ready_s: float = 30) -> ModelProcess:
        def launch(output: int) -> int:
            with open(os.devnull) as nothing:
                return spawn([sys.executable, "-c", code], os.environ, nothing.fileno(), output)

        process = ModelProcess("m@1/0", launch, tmp_path / "socket", ready_s)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()


def end_of(process: ModelProcess) -> str:
    wait_until(lambda: process.step() is State.ENDED, "the process ends", 30)
    return process.reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('x.ERROR cannot serve m:\\na is wrong\\nb too'); exit(1)", "a is wrong\nb too"),
        ("print('a'); print('last words'); exit(3)", "ended with exit status 3\nlast words"),
        ("exit(0)", "ended with exit status 0"),
        ("raise KeyError('x')", "ended with exit status 1\nKeyError: 'x'"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("import os; print('ouch', flush=True); os.abort()", "killed by SIGABRT\nouch"),
    ],
)
def test_how_a_process_ended_is_told(start, code, reason):
    assert end_of(start(code)) == reason


def test_a_process_that_is_never_ready_is_ended(start):
    process = start("import time; time.sleep(100)", ready_s=0.2)
    assert end_of(process) == "not ready within 0.2 s"
    assert not is_running(process.pid)


def test_a_process_that_was_killed_has_ended_and_may_be_looked_at(start):
    process = start("import time; time.sleep(100)")
    process.kill()
    assert (process.state, process.step(), process.reason) == (State.ENDED, State.ENDED, "killed by SIGKILL")


@pytest.mark.parametrize("has_served", [False, True])
def test_only_a_process_that_was_ready_leaves_its_last_metrics(start, has_served):
    process = start("import time; time.sleep(100)")
    process.ready_at = 1.0 if has_served else 0.0
    file = metrics_file(process.address)
    file.write_text("[]")
    process.kill()
    assert (file.exists(), last_metrics(file).exists()) == (False, has_served)


def test_a_process_that_somebody_else_reaped_has_ended(start):
    process = start("exit(3)")
    os.waitpid(process.pid, 0)
    assert end_of(process) == "it has ended, and its exit status is not known"


def test_where_there_is_no_room_for_a_thread_no_process_is_left(start, monkeypatch):
    def refuse(thread: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    with pytest.raises(OSError, match="can't start new thread"):
        start("import time; time.sleep(100)")


def test_what_a_process_has_started_ends_with_it(start, tmp_path):
    file = tmp_path / "grandchild"
    process = start(
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])\n"
        f"open({str(file)!r}, 'w').write(str(child.pid))\n"
        "os.kill(os.getpid(), 9)"
    )
    end_of(process)
    grandchild = int(file.read_text())
    wait_until(lambda: not is_running(grandchild), "the grandchild is gone")


def test_its_lines_are_logged_at_their_own_level(start, caplog):
    caplog.set_level(logging.INFO)
    end_of(start("print('2026-11-21 15:51:37,976 WARNING torch_predict: slow'); print('plain')"))
    lines = [(record.levelname, record.name, record.message) for record in caplog.records]
    assert ("WARNING", "serve.m@1/0", "torch_predict: slow") in lines
    assert ("INFO", "serve.m@1/0", "plain") in lines


def test_a_program_dies_with_the_one_that_started_it(tmp_path: Path):
    child = f"[sys.executable, '-I', '-S', {local_child.__file__!r}, str(os.getpid()), 'sleep', '100']"
    code = f"import os, subprocess, sys, time\nprint(subprocess.Popen({child}).pid, flush=True)\ntime.sleep(100)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent, parent.stdout:
        pid = int(parent.stdout.readline())
        wait_until(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"), "it is the program")
        parent.kill()
    wait_until(lambda: not is_running(pid), "the program is gone")


def test_a_program_whose_starter_died_already_does_not_start():
    done = subprocess.run(
        [sys.executable, "-I", "-S", local_child.__file__, "1", "echo", "started"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"")
