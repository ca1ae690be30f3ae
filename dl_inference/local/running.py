"""Run a program of ours that loads a model folder, in a process of its own, to its end, and read what it told.

The program gets one more argument, a file, into which it writes a line of JSON for each thing that it knows, the last
one with the key ``ended``. So what it told before a crash or a hang is known.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dl_inference.local.child import spawn
from dl_inference.local.launch import environment

STEP_S = 0.02
_LAST_LINES = 3


def run(command: Sequence[str], timeout_s: float) -> tuple[list[dict[str, Any]], str]:
    """Run a program; whatever it started ends with it.

    Args:
        command: program and arguments; the file comes after them.
        timeout_s: most time that it may take; it is killed then.

    Returns:
        The lines it told, and, where it ended too early, how.
    """
    with tempfile.TemporaryDirectory(prefix="dl-inference-") as place:
        lines, log = Path(place, "lines"), Path(place, "log")
        with log.open("wb") as output, open(os.devnull) as nothing:
            # What native code was doing when it crashed is all that a crash leaves.
            variables = {**environment(), "PYTHONFAULTHANDLER": "1"}
            pid = spawn([*command, str(lines)], variables, nothing.fileno(), output.fileno())
        status = _waited(pid, timeout_s)
        told = _read(lines)
        if told and "ended" in told[-1]:
            return told, ""
        if status is None:
            return told, f"did not end within {timeout_s:g} s: it hangs, or needs a longer --timeout-ms,"
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        words = " / ".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
        return told, f"{how} ({words})" if words else how


def _read(lines: Path) -> list[dict[str, Any]]:
    told = []
    for line in lines.read_text().splitlines() if lines.exists() else ():
        with contextlib.suppress(ValueError):  # the process was killed while it wrote this one
            told.append(json.loads(line))
    return told


def _waited(pid: int, timeout_s: float) -> int | None:
    """Wait for a process, and end all that it started; return its exit status, None where it took too long."""
    limit = time.monotonic() + timeout_s
    is_over = False
    while not is_over and time.monotonic() < limit:
        is_over = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if not is_over:
            time.sleep(STEP_S)
    os.killpg(pid, signal.SIGKILL)  # not reaped yet, so its group is its own
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if is_over else None
