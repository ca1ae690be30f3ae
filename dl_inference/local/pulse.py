"""Asks a model process for its health without waiting for the answer: whether it is warm, then whether it lives."""

from __future__ import annotations

import time
from typing import Any

import grpc

from dl_inference.messages import HealthCheckRequest, HealthCheckResponse

ANSWER_S = 5.0
"""A question that is not answered in this time is asked again."""
MISSES = 2
"""So many in a row, and the process hangs. One alone may be this process's own fault, when it was stopped meanwhile."""
_WARM_EVERY_S = 0.1
_EVERY_S = 1.0


class Pulse:
    """What one process says of itself by grpc.health.v1.

    Args:
        address: of the process.
    """

    def __init__(self, address: str) -> None:
        self.is_serving: bool | None = None
        """What the last answer said; None: there was none yet."""
        self.misses = 0
        """Questions in a row that were not answered."""
        # For a unix socket grpc makes an authority of the path, "%2Ftmp%2F...", which many servers refuse.
        self._channel = grpc.insecure_channel(
            address, options=[("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        )
        self._check = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        self._call: Any = None
        self._asked_at = float("-inf")

    @property
    def sickness(self) -> str:
        """Why a process that was warm should be replaced; empty where it should not."""
        if self.misses >= MISSES:
            return f"it has not answered for {MISSES * ANSWER_S:g} s"
        return "its model's code is stuck (hang_timeout_ms)" if self.is_serving is False else ""

    def step(self) -> None:
        """Take the answer to the last question, if it is there; ask the next one now and then."""
        if self._call is not None and self._call.done():
            call, self._call = self._call, None
            if call.code() is grpc.StatusCode.OK:
                self.misses = 0
                self.is_serving = call.result().status == HealthCheckResponse.SERVING
            else:
                self.misses += 1
        every_s = _EVERY_S if self.is_serving else _WARM_EVERY_S
        if self._call is None and time.monotonic() - self._asked_at >= every_s:
            self._asked_at = time.monotonic()
            self._call = self._check.future(HealthCheckRequest(), timeout=ANSWER_S, wait_for_ready=True)

    def close(self) -> None:
        """End the question and the connection."""
        self._channel.close()
