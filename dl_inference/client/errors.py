"""What a call can fail with: one class for each gRPC code, all of them CallError.

Before any call it is InputError (`dl_inference.codec.errors`).

The access service's own errors carry a kind (docs/errors.md): ``error.kind == "no_route"`` is NotFound, but so is a
version that the endpoint does not have, and that has no kind.
"""

import functools
from collections.abc import Mapping

# What to do about a call that failed without a kind: by its code.
_REMEDIES = {
    "UNAVAILABLE": "is the server running at this address?",
    "UNIMPLEMENTED": "the server at this address does not speak this protocol: try another",
    "DEADLINE_EXCEEDED": "raise timeout_ms, or find out why the model is slow",
    "INVALID_ARGUMENT": "the model does not take this input",
    "NOT_FOUND": "check the model's name and version",
}


class CallError(Exception):
    """A call that failed.

    Attributes:
        code: the gRPC code's name, such as ``NOT_FOUND``.
        message: the server's text, or gRPC's where no server answered.
        address: who was called.
        trailers: the answer's trailing metadata, texts only; empty where no server answered.
        request_id: the call's, which the logs of the access service and of our model servers have, too.
        took_ms: from sending to the failure, ms.
    """

    code = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        address: str = "",
        trailers: Mapping[str, str] | None = None,
        request_id: str = "",
        took_ms: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.message, self.address, self.took_ms = message, address, took_ms
        self.trailers = dict(trailers or {})
        self.request_id = self.trailers.get("x-request-id", request_id)

    @property
    def kind(self) -> str:
        """Return the access service's word for it (trailer ``access-error``); empty from any other server."""
        return self.trailers.get("access-error", "")

    @property
    def endpoint(self) -> str | None:
        """Return the endpoint of the last attempt, where the access service exposes it."""
        return self.trailers.get("access-endpoint")

    @property
    def attempts(self) -> int | None:
        """Return how many attempts the access service made; None from any other server."""
        return attempts_of(self.trailers)

    @property
    def remedy(self) -> str:
        """Return what may help; empty when nothing is known to."""
        return _remedies_of_kinds().get(self.kind) or _REMEDIES.get(self.code, "")

    def __str__(self) -> str:
        """Return all that is known, in one line."""
        kind = f" ({self.kind})" if self.kind else ""
        where = f" [{self.address}, after {self.took_ms:.0f} ms, request {self.request_id}]" if self.address else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.code}{kind}: {self.message}{remedy}{where}"


class Cancelled(CallError):
    """CANCELLED: the caller gave up, or closed the client meanwhile."""

    code = "CANCELLED"


class Unknown(CallError):
    """UNKNOWN: an exception in a server that says no more, such as seldon-core's wrapper."""

    code = "UNKNOWN"


class InvalidArgument(CallError):
    """INVALID_ARGUMENT: the model does not take this input, or the call names no model."""

    code = "INVALID_ARGUMENT"


class DeadlineExceeded(CallError):
    """DEADLINE_EXCEEDED: no answer within timeout_ms."""

    code = "DEADLINE_EXCEEDED"


class NotFound(CallError):
    """NOT_FOUND: no such model, or no such version of it."""

    code = "NOT_FOUND"


class AlreadyExists(CallError):
    """ALREADY_EXISTS: an endpoint's own."""

    code = "ALREADY_EXISTS"


class PermissionDenied(CallError):
    """PERMISSION_DENIED: the method changes endpoints, or the endpoint does not let this caller in."""

    code = "PERMISSION_DENIED"


class ResourceExhausted(CallError):
    """RESOURCE_EXHAUSTED: a message beyond the limit, here or there, or a server that sheds load."""

    code = "RESOURCE_EXHAUSTED"


class FailedPrecondition(CallError):
    """FAILED_PRECONDITION: such as a signature that the SavedModel does not have."""

    code = "FAILED_PRECONDITION"


class Aborted(CallError):
    """ABORTED: an endpoint's own."""

    code = "ABORTED"


class OutOfRange(CallError):
    """OUT_OF_RANGE: an endpoint's own."""

    code = "OUT_OF_RANGE"


class Unimplemented(CallError):
    """UNIMPLEMENTED: the server does not have this method."""

    code = "UNIMPLEMENTED"


class Internal(CallError):
    """INTERNAL: the model's code or a server failed."""

    code = "INTERNAL"


class BadAnswer(Internal):
    """INTERNAL: the server said OK, but what it sent is no answer: empty, not parseable, or contradicting itself."""

    @property
    def remedy(self) -> str:
        """Return what may help."""
        return "is a server of this protocol at this address?"


class Unavailable(CallError):
    """UNAVAILABLE: nobody answers at the address, the connection broke, or no endpoint of the model is live."""

    code = "UNAVAILABLE"


class DataLoss(CallError):
    """DATA_LOSS: an endpoint's own."""

    code = "DATA_LOSS"


class Unauthenticated(CallError):
    """UNAUTHENTICATED: the server wants credentials."""

    code = "UNAUTHENTICATED"


BY_CODE: dict[str, type[CallError]] = {each.code: each for each in CallError.__subclasses__()}
"""The class of each gRPC code but OK."""


def attempts_of(trailers: Mapping[str, str]) -> int | None:
    """Return the trailer ``access-attempts`` as a number; None where it is missing or none."""
    text = trailers.get("access-attempts", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


@functools.cache
def _remedies_of_kinds() -> dict[str, str]:
    # Read when an error is shown: the client alone needs no data plane, and works where that cannot be loaded.
    try:
        from dl_inference._native import ERROR_KINDS  # noqa: PLC0415
    except ImportError:
        return {}
    return {kind.name: kind.remedy for kind in ERROR_KINDS}
