"""The end of a model server's process, whatever its model's own code has left running.

Threads that nobody joins, pools with work in them, child processes: none of them may keep a server from ending, and
none may outlive it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from dl_inference.serving import log_json

LEFT_S = 2.0
"""How long what the model's code has left may take to end by itself."""

_LOGGER = logging.getLogger(__name__)


def exit_now(status: int) -> NoReturn:
    """Kill the child processes and end this one, without waiting for threads."""
    kill_children()
    logging.shutdown()
    os._exit(status)


def bound_exit(status: int) -> None:
    """Call this last: the process ends within LEFT_S, also where the interpreter does not end by itself.

    The interpreter waits for threads that are no daemons, for pools, and for what the model's code registered to run
    at exit.
    """

    def watch() -> None:
        threading.Event().wait(LEFT_S)  # nobody sets it; a daemon ends with the interpreter
        names = [f"thread {each.name}" for each in threading.enumerate() if not each.daemon and each.is_alive()]
        what = ", ".join(names) or "a function that runs at exit"
        _LOGGER.warning("still running %g s after the end: %s; stopping without it", LEFT_S, what)
        exit_now(status)

    for stream in (sys.stdout, sys.stderr):  # first, as a reader may take its time
        with suppress(OSError, ValueError):
            stream.flush()
    threading.Thread(target=watch, name="end", daemon=True).start()


def kill_children() -> None:
    """Kill the processes that this one has started and that still run; but not the one that writes its last words."""
    helpers = log_json.helpers()
    for pid in (each for each in _children() if each not in helpers):
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    children: list[int] = []
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError), open(f"/proc/self/task/{task}/children") as stream:  # the thread ended, or no such file
            children += map(int, stream.read().split())
    return children
