"""How loaded this server is, for load reports, as the PyTorch server's meter says it (`dataplane/.../worker/meter.rs`).

The busy share of the threads that run calls, and the calls that end, each averaged over about a second.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from dl_inference.messages import OrcaLoadReport

TRAILER = "endpoint-load-metrics-bin"

SECONDS = 1.0
"""What lies this long back counts 1/e: long enough for ten calls, short enough for a balancer."""

FAULTS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Codes that a balancer should count as errors of this server, as access.yaml's `failure_codes` do."""


@dataclass(slots=True)
class Times:
    """Where a call's time went, s: waiting for a thread, and in it; 0 where it did not come so far."""

    queue_s: float = 0.0
    compute_s: float = 0.0


class Meter:
    """The load of `threads` threads, told by any of them.

    Args:
        threads: how many calls can run at a time.
        clock: seconds since some time.
    """

    def __init__(self, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads
        self._clock = clock
        self._lock = threading.Lock()
        self._at = clock()
        self._running = 0
        self._busy = self._rps = self._eps = 0.0

    def begin(self) -> None:
        """Count a thread that begins to run a call."""
        with self._lock:
            self._advance()
            self._running += 1

    def end(self) -> None:
        """Count a thread that is free again."""
        with self._lock:
            self._advance()
            self._running -= 1

    def count(self, code: grpc.StatusCode) -> None:
        """Count a call that ended."""
        with self._lock:
            self._advance()
            self._rps += 1 / SECONDS
            self._eps += (code in FAULTS) / SECONDS

    def report(self, calls: int, times: Times) -> bytes:
        """Return the value of `TRAILER` for a call.

        Args:
            calls: running and waiting.
            times: the call's own.
        """
        with self._lock:
            self._advance()
            report = OrcaLoadReport(
                application_utilization=self._busy,
                rps_fractional=self._rps,
                eps=self._eps,
                named_metrics={"queue": max(0, calls - self._running)},
                request_cost={"queue_ms": times.queue_s * 1000, "compute_ms": times.compute_s * 1000},
            )
        data: bytes = report.SerializeToString()
        return data

    def _advance(self) -> None:
        now = self._clock()
        kept = math.exp(-max(0.0, now - self._at) / SECONDS)
        target = self._running / self._threads
        self._at = now
        self._busy = target + (self._busy - target) * kept
        self._rps *= kept
        self._eps *= kept
