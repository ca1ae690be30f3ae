"""The process that is to go on with the listening sockets: ready, late, or gone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from access.sockets import READY
from access.successor import Successor

LIMIT_S = 30.0
TELL = f"import os, signal; os.write(int(os.environ[{READY!r}]), b'1'); signal.pause()"


def begin(program: str, limit_s: float = LIMIT_S) -> Successor:
    """Start a program in the place of the access service, and wait for what becomes of it."""
    ended = threading.Event()
    successor = Successor([], limit_s, ended.set, (sys.executable, "-c", program))
    assert ended.wait(LIMIT_S)
    return successor


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_that_says_that_it_is_ready_is_left_running():
    successor = begin(TELL)
    assert successor.outcome == ""
    successor.stop()
    assert is_running(successor.pid)
    successor.outcome = "the test is over"
    successor.stop()
    assert not is_running(successor.pid)


def test_one_that_is_late_is_named_with_the_limit_and_ended():
    successor = begin("import signal; signal.pause()", 0.3)
    assert "not ready within 0.3 s" in str(successor.outcome)
    successor.stop()
    assert not is_running(successor.pid)


@pytest.mark.parametrize(
    ("program", "why"), [("raise SystemExit(3)", "exit status 3"), ("import os; os.kill(os.getpid(), 9)", "signal 9")]
)
def test_one_that_ends_says_how(program: str, why: str):
    assert why in str(begin(program).outcome)


def test_one_that_ends_after_a_wrong_word_is_not_ready():
    assert begin(TELL.replace("b'1'", "b'0'").replace("signal.pause()", "0")).outcome


def test_its_log_goes_where_that_of_this_process_goes_and_not_through_what_ends_with_this_one():
    place = "os.fstat(2).st_ino"
    code = f"""
import os, sys, threading
before = {place}
from dl_inference.serving import log
log.begin()
from access.successor import Successor
ended = threading.Event()
Successor([], 30, ended.set, (sys.executable, "-c", "import os; print({place})"))
ended.wait(30)
print(before, {place})
"""
    environment = {**os.environ, "DL_INFERENCE_LOG_FORMAT": "json"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    successors, before, own = done.stdout.split()
    assert successors == before != own
