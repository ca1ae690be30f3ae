"""One place for a model process of `serve`: whose process is started again as often as it ends.

As in `processes`, everything is driven by the main thread's steps, and nothing waits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from dl_inference.local.processes import ModelProcess, State
from dl_inference.serving.report import Report

FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0

log = logging.getLogger("serve")


class Replica:
    """One of the processes of a model version, started again as often as it ends.

    Args:
        label: for the log: ``digits@1/0``.
        start: starts a process.
    """

    def __init__(self, label: str, start: Callable[[], ModelProcess]) -> None:
        self._label = label
        self.process: ModelProcess | None = None
        self.address: str | None = None
        """Of the last process that was ready; None when none ever was."""
        self.restarts = 0
        self.failures = 0
        """Ends in a row without having run well."""
        self.reason = ""
        """Why the last process ended; empty once its successor is ready."""
        self.told: Report | None = None
        """What the last process that was ready had told."""
        self.failed: Report | None = None
        """What the last process that ended had told."""
        self._start = start
        self._not_before = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether its process may be called now."""
        return self.process is not None and self.process.state is State.READY

    @property
    def is_starting(self) -> bool:
        """Whether its process is loading."""
        return self.process is not None and self.process.state is State.STARTING

    def retry_now(self) -> None:
        """Forget the delay that failures have brought."""
        self._not_before = 0.0

    def refuse(self, report: Report) -> None:
        """End the process, which no call has got to: it is ready, and may not take over as its files are."""
        if self.process is not None:
            self.process.kill()
            self.process = None
        self.address, self.reason, self.failed = None, report.reason, report
        self._not_before = float("inf")

    def step(self, *, may_start: bool) -> None:
        """Look at the process, and start the first or the next one when it is time and `may_start`."""
        if self.process is not None:
            self._look(self.process)
        if self.process is None and may_start and time.monotonic() >= self._not_before:
            try:
                self.process = self._start()
            except OSError as error:  # no room for another process, or descriptor
                self._fail(f"cannot be started: {error.strerror}", crashes=self.failures + 1)
                return
            log.info("%s: process %d starts", self.process.label, self.process.pid)

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

    def _schedule(self, process: ModelProcess) -> None:
        """Start the next one at once after a crash; where it was not the first, or none was ready, later."""
        if process.ran_well():
            self.failures = 0
        crashes = self.failures if process.ready_at > 0 else self.failures + 1
        self.restarts += 1
        self.failed = process.report
        if process.ready_at == 0 and process.report.is_final:
            self.failures += 1
            self._not_before = float("inf")
            log.error("%s: process %d: %s", self._label, process.pid, process.reason)
        else:
            self._fail(f"process {process.pid}: {process.reason}", crashes=crashes)
        self.reason = process.reason

    def _fail(self, reason: str, *, crashes: int) -> None:
        """Say why there is no process now, and wait 1 s, 2 s, 4 s ... up to MAX_DELAY_S for the next one."""
        self.failures += 1
        doublings = min(crashes - 1, 16)  # of any more the delay knows nothing
        delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2**doublings) if crashes else 0.0
        self._not_before = time.monotonic() + delay_s
        self.reason = reason
        log.error("%s: %s; starts again in %.0f s", self._label, reason, delay_s)
