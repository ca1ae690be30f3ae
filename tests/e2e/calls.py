"""Calls with grpc-python as bytes, and everything that came back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from fixtures.access_process import TFS
from fixtures.processes import Endpoint

# tensorflow.serving.PredictRequest with model_spec.name = "m", and the same for another name.
FOR_M = b"\x0a\x03\x0a\x01m"
FEEDBACK = "/seldon.protos.Model/SendFeedback"
"""A method that may not be sent twice; give its model in x-model."""


@dataclass(frozen=True)
class Answer:
    """How a call ended."""

    code: grpc.StatusCode
    message: str
    body: bytes | None
    headers: dict[str, Any]
    trailers: dict[str, Any]

    @property
    def error(self) -> str | None:
        """The kind of error that the access service gives as the reason."""
        return self.trailers.get("access-error")

    @property
    def attempts(self) -> int:
        """Attempts that the access service says it made."""
        return int(self.trailers["access-attempts"])


def tfs_request(model: str, size: int = 0) -> bytes:
    """Return a PredictRequest for a model, with an unknown field of ``size`` bytes behind the name."""
    name = model.encode()
    spec = b"\x0a" + bytes([len(name)]) + name
    filler = b"\x7a" + _varint(size) + b"." * size if size else b""
    return b"\x0a" + bytes([len(spec)]) + spec + filler


def unforgiven(report: dict[str, Any], killed: Sequence[Endpoint]) -> list[dict[str, Any]]:
    """Return the failures of a load, but for one at each kill of an endpoint: a call whose answer had begun.

    It cannot be made again, as its caller has a part of the answer; that it is rare is the kernel's and chance's doing.
    """
    kills = Counter(each.address for each in killed)
    failures = []
    for failure in report["failures"]:
        if kills[failure["endpoint"]] and "the answer broke off" in failure["message"]:
            kills[failure["endpoint"]] -= 1
        else:
            failures.append(failure)
    return failures


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def ask(
    channel: grpc.Channel,
    path: str = TFS,
    body: bytes = FOR_M,
    *,
    metadata: Sequence[tuple[str, str | bytes]] = (),
    timeout_s: float = 20,
) -> Answer:
    """Make a unary call; an error is an answer too."""
    call = channel.unary_unary(path).future(body, metadata=list(metadata), timeout=timeout_s)
    return answer(call)


def answer(call: Any) -> Answer:
    """Wait for the end of a call that was started with ``future``."""
    try:
        body = call.result()
    except (grpc.RpcError, grpc.FutureCancelledError):
        body = None
    headers, trailers = dict(call.initial_metadata() or ()), dict(call.trailing_metadata() or ())
    return Answer(call.code(), call.details(), body, headers, trailers)
