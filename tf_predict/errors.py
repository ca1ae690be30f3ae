"""What a request of the TensorFlow server fails with, and how it becomes a gRPC status.

Codes and texts are TF Serving's, so that what a caller matches on today matches here.
"""

from __future__ import annotations

import grpc

MAX_TEXT = 1024
"""TF Serving cuts longer texts, so that they fit into HTTP/2 headers."""

CODES = {code.value[0]: code for code in grpc.StatusCode}
"""gRPC's number -> code; TensorFlow's errors have the same numbers."""


class RequestError(Exception):
    """What one request failed with; its text reaches the caller.

    Args:
        code: gRPC status code; never OK.
        text: what the caller reads, cut after 1,024 characters as TF Serving does.
    """

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        self.code = code
        self.text = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "...TRUNCATED"
        super().__init__(self.text)


def invalid_argument(text: str) -> RequestError:
    """Return an error for a request that cannot be answered as it is."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, text)


def failed_precondition(text: str) -> RequestError:
    """Return an error for a request that this model cannot answer, but another might."""
    return RequestError(grpc.StatusCode.FAILED_PRECONDITION, text)


def not_found(text: str) -> RequestError:
    """Return an error for a model or version that is not here, or not yet."""
    return RequestError(grpc.StatusCode.NOT_FOUND, text)
