"""The program's first moment: signals that come while the command line is still being imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

STUCK = "import signal; print('importing', flush=True); signal.pause()"
PROGRAM = [sys.executable, "-m", "dl_inference", "version"]
AS_PROCESS_1 = ["unshare", "--pid", "--fork", "--kill-child", *PROGRAM]


@pytest.fixture
def importing(run, tmp_path):
    """Start the program with a library that is never imported to the end."""
    (tmp_path / "typer.py").write_text(STUCK)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    def start(command):
        process = run(command, env={"PYTHONPATH": path})
        process.wait_line("importing")
        return process

    return start


def test_ctrl_c_while_importing_ends_the_program_without_a_traceback(importing):
    process = importing(PROGRAM)
    process.signal(signal.SIGINT)
    assert process.wait(5) == -signal.SIGINT
    assert process.log == "importing\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="a process namespace needs root")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_process_1_while_importing_is_not_lost(importing, number):
    process = importing(AS_PROCESS_1)
    first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    os.kill(int(first), number)
    assert process.wait(5) == 128 + number


def test_the_module_runs_as_the_program_does():
    assert subprocess.check_output(PROGRAM, text=True).startswith("dl-inference ")
