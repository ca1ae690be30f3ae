"""Model processes that no route leads to any more: each answers the calls that are in it and ends, or is killed."""

from __future__ import annotations

import logging
import time

from dl_inference.local.processes import ModelProcess, State

log = logging.getLogger("serve")


class Leaving:
    """The processes that are asked to end.

    Args:
        limit_s: how long one may take to end.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._until: dict[ModelProcess, float] = {}

    @property
    def processes(self) -> list[ModelProcess]:
        """Return those that have not ended yet."""
        return [*self._until]

    def add(self, process: ModelProcess) -> None:
        """Ask a process to end."""
        log.info("%s: process %d drains", process.label, process.pid)
        process.terminate()
        self._until[process] = time.monotonic() + self._limit_s

    def step(self) -> None:
        """Look at each once, without waiting but for one that is killed."""
        for process, until in self._until.items():
            if time.monotonic() >= until:
                log.error("%s: process %d did not end in time and is killed", process.label, process.pid)
                process.kill()
        self._until = {process: until for process, until in self._until.items() if not has_ended(process)}


def has_ended(process: ModelProcess) -> bool:
    """Look at a process; tell whether it has ended."""
    return process.step() is State.ENDED
