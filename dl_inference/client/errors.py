"""The errors of a call: one class for each gRPC code, all of them subclasses of CallError.

An input that cannot be sent raises InputError instead (`dl_inference.codec.errors`).

Errors of the access service have a kind (docs/errors.md). A NotFound with ``error.kind == "no_route"`` comes from the
access service; a version that the endpoint does not have is NotFound, too, without a kind.
"""

import functools
from collections.abc import Mapping

# What to do about a failed call without a kind, by its code.
_REMEDIES = {
    "UNAVAILABLE": "is the server running at this address?",
    "UNIMPLEMENTED": "the server at this address does not speak this protocol: try another",
    "DEADLINE_EXCEEDED": "raise timeout_ms, or find out why the model is slow",
    "INVALID_ARGUMENT": "the model does not take this input",
    "NOT_FOUND": "check the model's name and version",
}


class CallError(Exception):
    """A call failed. This is the base class; there is a subclass for each gRPC code.

    Attributes:
        code: name of the gRPC code, such as ``NOT_FOUND``.
        message: the server's text, or gRPC's where no server answered.
        address: the address that was called.
        trailers: the answer's trailing metadata; text values only; empty where no server answered.
        request_id: the call's id, which is also in the logs of the access service and of our model servers.
        took_ms: time from sending the request to the failure, ms.
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
        """The kind of error (docs/errors.md), from the trailer ``access-error``; empty from any other server."""
        return self.trailers.get("access-error", "")

    @property
    def number(self) -> int | None:
        """The number that the model's own code gave the error (`torch_predict.Error`); None if it gave none."""
        text = self.trailers.get("access-error-number", "")
        digits = text.removeprefix("-")
        return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 10 else None

    @property
    def endpoint(self) -> str | None:
        """The endpoint of the last attempt; None unless the access service sets ``expose_endpoints``."""
        return self.trailers.get("access-endpoint")

    @property
    def attempts(self) -> int | None:
        """How many attempts the access service made; None from any other server."""
        return attempts_of(self.trailers)

    @property
    def remedy(self) -> str:
        """What may help; empty if nothing is known."""
        return _remedies_of_kinds().get(self.kind) or _REMEDIES.get(self.code, "")

    def __str__(self) -> str:
        """Return all that is known, in one line."""
        number = "" if self.number is None else f"number {self.number}"
        known = ", ".join(filter(None, (self.kind, number)))
        kind = f" ({known})" if known else ""
        where = f" [{self.address}, after {self.took_ms:.0f} ms, request {self.request_id}]" if self.address else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.code}{kind}: {self.message}{remedy}{where}"


class Cancelled(CallError):
    """CANCELLED: the caller cancelled the call, or closed the client during it."""

    code = "CANCELLED"


class Unknown(CallError):
    """UNKNOWN: the server failed without saying why, as seldon-core's wrapper does.

    So is the error of one message of a stream of other servers: the protocol has a text for it, and no code.
    """

    code = "UNKNOWN"


class InvalidArgument(CallError):
    """INVALID_ARGUMENT: the model does not accept this input, or the call names no model."""

    code = "INVALID_ARGUMENT"


class DeadlineExceeded(CallError):
    """DEADLINE_EXCEEDED: no answer within timeout_ms."""

    code = "DEADLINE_EXCEEDED"


class NotFound(CallError):
    """NOT_FOUND: the model, or this version of it, does not exist."""

    code = "NOT_FOUND"


class AlreadyExists(CallError):
    """ALREADY_EXISTS: returned by the endpoint."""

    code = "ALREADY_EXISTS"


class PermissionDenied(CallError):
    """PERMISSION_DENIED: the method would change endpoints, or the endpoint rejects this caller."""

    code = "PERMISSION_DENIED"


class ResourceExhausted(CallError):
    """RESOURCE_EXHAUSTED: a message is over a limit of the client or the server, or the server is overloaded."""

    code = "RESOURCE_EXHAUSTED"


class FailedPrecondition(CallError):
    """FAILED_PRECONDITION: for example, the SavedModel does not have this signature."""

    code = "FAILED_PRECONDITION"


class Aborted(CallError):
    """ABORTED: returned by the endpoint."""

    code = "ABORTED"


class OutOfRange(CallError):
    """OUT_OF_RANGE: returned by the endpoint."""

    code = "OUT_OF_RANGE"


class Unimplemented(CallError):
    """UNIMPLEMENTED: the server does not have this method."""

    code = "UNIMPLEMENTED"


class Internal(CallError):
    """INTERNAL: the model's code or a server failed."""

    code = "INTERNAL"


class BadAnswer(Internal):
    """INTERNAL: the server returned OK, but its answer is empty, cannot be parsed or is inconsistent."""

    @property
    def remedy(self) -> str:
        """What may help."""
        return "is a server of this protocol at this address?"


class Unavailable(CallError):
    """UNAVAILABLE: nothing answers at the address, the connection broke, or no endpoint of the model is live."""

    code = "UNAVAILABLE"


class DataLoss(CallError):
    """DATA_LOSS: returned by the endpoint."""

    code = "DATA_LOSS"


class Unauthenticated(CallError):
    """UNAUTHENTICATED: the server requires credentials."""

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
