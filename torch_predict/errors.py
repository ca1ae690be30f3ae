"""Every exception of the model server, and the one table that turns them into gRPC statuses.

Two families: what belongs to one request (`status_of` maps it), and what keeps a model from being loaded (`LoadError`),
which ends the start with a text that names place and remedy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dl_inference.code import Code
from dl_inference.serving.load_error import LoadError


class RequestError(Exception):
    """What one request failed with; its text reaches the caller."""

    code = Code.INTERNAL
    kind = "hook"

    number: int | None = None
    """The model's own, for programs: the trailer ``access-error-number``."""

    def __init__(self, text: object) -> None:
        super().__init__(text)
        self.text = words_of(text)


class InvalidInput(RequestError):
    """The request is wrong: the call fails with INVALID_ARGUMENT. Hooks may raise it.

    Args:
        text: what the caller reads.
    """

    code = Code.INVALID_ARGUMENT
    kind = "bad_request"


class Error(RequestError):
    """The call fails with a code and a text that the hook chooses.

    Args:
        code: a `Code`, its number or its name, or a ``grpc.StatusCode``; not OK.
        text: what the caller reads.
        number: of your own, for the caller's program: an int32, in the trailer ``access-error-number``.

    Raises:
        ValueError: the code does not exist, or it is OK, or the number is no int32.
    """

    def __init__(self, code: object, text: object, number: int | None = None) -> None:
        super().__init__(text)
        self.code = _code(code)
        self.number = _number(number)


class BadAnswer(Exception):
    """A hook or model returned what no message of the protocol can hold; the text names types only, never values."""


class BadInput(Exception):
    """A hook made of a request what the model does not take; the text names types and shapes only, never values."""


class Status(NamedTuple):
    """What a failed request is answered with."""

    code: int
    message: str
    kind: str
    """Goes into the trailer ``access-error``; ``hook`` keeps it from counting against the endpoint."""
    number: int | None = None


def status_of(error: BaseException, request_id: str) -> Status:
    """Return the gRPC status for what a request failed with; the only such table of the model server.

    Never raises. Any exception that is not a `RequestError` gets a fixed text with the request id: its own text may
    hold what callers must not see, and is in the log under that id.
    """
    failed = Status(int(Code.INTERNAL), f"the model failed on this request; request id {request_id}", "hook")
    try:
        if isinstance(error, RequestError):
            # A subclass of the user's may have left out our __init__, or set what it likes.
            kind = InvalidInput.kind if isinstance(error, InvalidInput) else RequestError.kind
            text, number = words_of(getattr(error, "text", error)), _number(error.number)
            return Status(int(_code(error.code)), text, kind, number)
        if isinstance(error, BadAnswer):
            text = f"the model's answer cannot be sent: {words_of(error)}; request id {request_id}"
            return failed._replace(message=text)
        if isinstance(error, BadInput):
            return failed._replace(message=f"{words_of(error)}; request id {request_id}")
    except BaseException:  # its attributes are the user's code, too; the log has the exception itself
        return failed
    return failed


def words_of(value: object) -> str:
    """Return the text of any object, as UTF-8 can hold it: lone surrogates are escaped. Never raises."""
    try:
        text = str(value)
    except BaseException:  # __str__ is the user's
        return f"{type(value).__name__} without a text"
    return text.encode("utf-8", "backslashreplace").decode()


class PickleNotAllowed(LoadError):
    """The file is a whole pickled model, or holds pickled objects, and nobody has allowed that."""

    def __init__(self, place: object) -> None:
        super().__init__(
            place,
            "holds more than weights, as pickled objects: loading it runs whatever code its author put into it",
            "save the state dict (torch.save(model.state_dict(), 'model.pt') beside a model.py with a class Model) or "
            "export it (torch.export, model.pt2); if you trust the file, allow it explicitly: --allow-pickle, or "
            "'allow_pickle: true' in model.yaml",
        )


def _number(number: object) -> int | None:
    if number is None:
        return None
    if not isinstance(number, int) or isinstance(number, bool) or not -(2**31) <= number < 2**31:
        raise ValueError(f"{number!r} cannot be an error's number: use an int from -2147483648 to 2147483647")
    return int(number)


def _code(code: object) -> Code:
    value: Any = getattr(code, "value", code)  # grpc.StatusCode.NOT_FOUND.value is (5, "not found")
    if isinstance(value, tuple) and value:
        value = value[0]
    try:
        found = Code[value.upper()] if isinstance(value, str) else Code(value)
    except (KeyError, ValueError):
        raise ValueError(f"{code!r} is not a gRPC status code; use torch_predict.Code") from None
    if found is Code.OK:
        raise ValueError("an error cannot have the code OK; return the answer instead")
    return found
