"""One place for a model process of `serve`: whose process is started again as often as it ends, and replaced in time.

As in `processes`, everything is driven by the main thread's steps, and nothing waits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from dl_inference.local.processes import ModelProcess, State
from dl_inference.local.upkeep import NO_LIMITS, Limits, Upkeep
from dl_inference.serving.report import Report

FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0

log = logging.getLogger("serve")


class Replica:
    """One of the processes of a model version, started again as often as it ends.

    Args:
        label: for the log: ``digits@1/0``.
        start: starts a process.
        limits: what its process may need.
    """

    def __init__(self, label: str, start: Callable[[], ModelProcess], limits: Limits = NO_LIMITS) -> None:
        self._label = label
        self.process: ModelProcess | None = None
        self.address: str | None = None
        """Of the last process that was ready; None when none ever was."""
        self.successor: ModelProcess | None = None
        """What loads to take the process's place."""
        self.retired: list[ModelProcess] = []
        """Processes whose place is taken; they may go when no route leads to them."""
        self.restarts = 0
        self.failures = 0
        """Ends in a row without having run well."""
        self.was_ready = False
        """Whether the last process that ended had been ready."""
        self.reason = ""
        """Why the last process ended; empty once its successor is ready."""
        self.last_reason = ""
        """Why the last process ended or was replaced; empty when none ever was."""
        self.last_at = 0.0
        self.told: Report | None = None
        """What the last process that was ready had told."""
        self.failed: Report | None = None
        """What the last process that ended had told."""
        self._start = start
        self._not_before = 0.0
        self._upkeep = Upkeep(limits)

    @property
    def is_ready(self) -> bool:
        """Whether its process may be called now."""
        return self.process is not None and self.process.state is State.READY

    @property
    def is_healthy(self) -> bool:
        """Whether its process has answered lately."""
        return self.process is not None and self.process.is_healthy

    @property
    def is_starting(self) -> bool:
        """Whether a process is loading."""
        return any(each is not None and each.state is State.STARTING for each in (self.process, self.successor))

    @property
    def processes(self) -> list[ModelProcess]:
        """Return every process that there is."""
        return [each for each in (self.process, self.successor, *self.retired) if each is not None]

    def retry_now(self) -> None:
        """Forget the delay that failures have brought."""
        self._not_before = 0.0

    def refuse(self, report: Report) -> None:
        """End the process, which no call has got to: it is ready, and may not take over as its files are, or as yet."""
        for process in self.processes:
            process.kill()
        self.process, self.successor, self.retired = None, None, []
        self.address, self.failed = None, report
        if report.is_final:
            self.reason, self._not_before = report.reason, float("inf")
        else:
            self._fail(report.reason, crashes=self.failures + 1)

    def step(self, *, may_start: bool, may_replace: bool = True) -> None:
        """Look at the process, and start the first or the next one when it is time.

        Args:
            may_start: one may be started now.
            may_replace: so may one in the place of one that runs.
        """
        if self.process is not None:
            self._look(self.process)
        if self.successor is not None:
            self._look_at_successor(self.successor)
        if not may_start or time.monotonic() < self._not_before:
            return
        if self.process is None:
            self.process = self._begin()
        elif self.successor is None and may_replace and self.is_ready and (reason := self._upkeep.due(self.process)):
            self.successor = self._begin()
            if self.successor is not None:
                log.warning("%s: process %d is replaced: %s", self._label, self.process.pid, reason)
                self._note(reason)

    def _begin(self) -> ModelProcess | None:
        try:
            process = self._start()
        except OSError as error:  # no room for another process, or descriptor
            self._fail(f"cannot be started: {error.strerror}", crashes=self.failures + 1)
            return None
        log.info("%s: process %d starts", process.label, process.pid)
        return process

    def _look(self, process: ModelProcess) -> None:
        state = process.step()
        if state is State.READY and self.address != process.address:
            self.address, self.reason, self.told = process.address, "", process.report
            log.info(
                "%s: ready after %.1f s (process %d)", process.label, process.ready_at - process.started_at, process.pid
            )
        if state is State.ENDED:
            self._schedule(process)
            self.process = None

    def _look_at_successor(self, successor: ModelProcess) -> None:
        """Let it take over when it is warm, or when there is nobody left to wait with."""
        state = State.ENDED if successor.state is State.ENDED else successor.step()
        if state is State.ENDED:
            self.successor = None
            self._fail(f"process {successor.pid}: {successor.reason}", crashes=self.failures + 1)
        elif state is State.READY or self.process is None:
            self.successor = None
            if self.process is not None:
                self.restarts += 1
                self.failures = 0
                self.retired.append(self.process)
            self.process = successor
            self._look(successor)

    def _schedule(self, process: ModelProcess) -> None:
        """Start the next one at once after a crash; where it was not the first, or none was ready, later."""
        if process.ran_well():
            self.failures = 0
        crashes = self.failures if process.ready_at > 0 else self.failures + 1
        self.restarts += 1
        self.was_ready = process.ready_at > 0
        self.failed = process.report
        if process.ready_at == 0 and process.report.is_final:
            self.failures += 1
            self._not_before = float("inf")
            log.error("%s: process %d: %s", self._label, process.pid, process.reason)
        else:
            self._fail(f"process {process.pid}: {process.reason}", crashes=crashes)
        self.reason = process.reason
        self._note(process.reason)

    def _note(self, reason: str) -> None:
        self.last_reason, self.last_at = reason, time.monotonic()

    def _fail(self, reason: str, *, crashes: int) -> None:
        """Say why there is no process now, and wait 1 s, 2 s, 4 s ... up to MAX_DELAY_S for the next one."""
        self.failures += 1
        doublings = min(crashes - 1, 16)  # of any more the delay knows nothing
        delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2**doublings) if crashes else 0.0
        self._not_before = time.monotonic() + delay_s
        self.reason = reason
        log.error("%s: %s; starts again in %.0f s", self._label, reason, delay_s)
