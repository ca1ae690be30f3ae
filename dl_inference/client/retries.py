"""Which calls a client may make again, how often and after what wait: gRPC's retry policy."""

import json
from dataclasses import dataclass

from dl_inference.client import calls
from dl_inference.codec import oip, tfs
from dl_inference.codec.errors import InputError

# What may be sent twice. `send` takes any path, and SendFeedback, for one, must not be.
_IDEMPOTENT = (
    *calls.DL_INFERENCE,
    *calls.DL_INFERENCE.values(),
    tfs.METADATA,
    tfs.STATUS,
    oip.METADATA,
    oip.READY,
    calls.HEALTH,
)
# A wait that comes out below 1 ms never ends in grpcio 1.85: of 24 calls with 1 ms +-20 %, 14 hung to their deadline.
_LEAST_BACKOFF_MS = 10


@dataclass(frozen=True, slots=True)
class Retries:
    """Retries of calls that end with UNAVAILABLE; pass it as `retries` to a client.

    gRPC makes the retries itself: within the deadline, and not once an answer has begun. The access service already
    retries on another endpoint. Use these for what it cannot fix, such as its own restart, or where there is no access
    service.

    Attributes:
        max_attempts: attempts in all, including the first, 2 to 5 (gRPC's limit).
        backoff_ms: wait before the second attempt, ms, 10 to 60000; doubled for each further attempt, +-20 %.
        max_backoff_ms: longest wait, ms, 10 to 60000.
        budget: retry budget, 1 to 1000. Each failed attempt takes 1 from it and each answer gives 0.1 back; retries
            pause while half of it or less is left. All clients of one address in a process share it.
    """

    max_attempts: int = 3
    backoff_ms: int = 50
    max_backoff_ms: int = 1_000
    budget: int = 20

    def __post_init__(self) -> None:
        """Raise InputError for a number out of its range."""
        limits = (
            ("max_attempts", self.max_attempts, 2, 5),
            ("backoff_ms", self.backoff_ms, _LEAST_BACKOFF_MS, 60_000),
            ("max_backoff_ms", self.max_backoff_ms, _LEAST_BACKOFF_MS, 60_000),
            ("budget", self.budget, 1, 1_000),
        )
        for name, value, least, most in limits:
            if not isinstance(value, int) or not least <= value <= most:
                raise InputError(f"{name}: {value!r} is not a whole number from {least} to {most}")

    def service_config(self) -> str:
        """Return gRPC's service config."""
        names = [dict(zip(("service", "method"), path[1:].split("/"), strict=True)) for path in _IDEMPOTENT]
        policy = {
            "maxAttempts": self.max_attempts,
            "initialBackoff": f"{self.backoff_ms / 1000}s",
            "maxBackoff": f"{self.max_backoff_ms / 1000}s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        throttling = {"maxTokens": self.budget, "tokenRatio": 0.1}
        return json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}], "retryThrottling": throttling})
