"""Gives a server's model a core of its own, and this process with the server's other threads another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Fields of /proc/PID/task/TID/stat after the thread's name, from proc(5): utime, stime.
_UTIME, _STIME = 11, 12


@contextmanager
def pinned(pid: int, *, torch_core: int, others_core: int) -> Iterator[None]:
    """Pin threads inside the block, and let them run anywhere again after it.

    The thread that has used most CPU so far is the one that runs the model: call this after a load. What this process
    starts inside the block runs on ``others_core``.
    """
    everywhere = os.sched_getaffinity(0)
    ticks = {int(task.name): _ticks(task) for task in Path(f"/proc/{pid}/task").iterdir()}
    computing = max(ticks, key=ticks.__getitem__)
    try:
        for thread in (0, *ticks):
            os.sched_setaffinity(thread, {torch_core if thread == computing else others_core})
        yield
    finally:
        for thread in (0, *ticks):
            os.sched_setaffinity(thread, everywhere)


def _ticks(task: Path) -> int:
    fields = (task / "stat").read_text().rpartition(")")[2].split()
    return int(fields[_UTIME]) + int(fields[_STIME])
