"""When a process that answers is replaced all the same, and how much memory one takes."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass

from dl_inference.local.processes import ModelProcess

_LOOK_S = 2.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Limits:
    """What a model folder says of its processes.

    Attributes:
        max_memory: bytes of a process and its children.
        max_age_s: since it was ready.
    """

    max_memory: int | None = None
    max_age_s: int | None = None


NO_LIMITS = Limits()


class Upkeep:
    """Looks at the processes of one place, one after the other. Waits for nothing.

    Args:
        limits: of the model.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._looked_at = float("-inf")

    def due(self, process: ModelProcess) -> str:
        """Return why a process that is ready should be replaced; empty where it should not."""
        if process.sickness:
            return process.sickness
        now = time.monotonic()
        age, memory = self._limits.max_age_s, self._limits.max_memory
        if age is not None and now - process.ready_at >= age:
            return f"it is older than {age} s (max_age_s)"
        if memory is not None and now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            size = memory_of(process.pid)
            if size > memory:
                return f"it takes {size / 2**20:,.0f} MiB of memory, more than {memory / 2**20:,.0f} MiB (max_memory)"
        return ""


def memory_of(pid: int) -> int:
    """Return the resident memory of a process and its children, bytes; pages that they share count for each."""
    size = 0
    left, seen = [pid], {pid}
    while left:
        each = left.pop()
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended
            with open(f"/proc/{each}/statm") as stream:
                size += int(stream.read().split()[1]) * _PAGE
            for task in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{task}/children") as stream:
                    children = {*map(int, stream.read().split())} - seen
                seen |= children
                left += children
    return size
