"""What processor.py says of its hooks: whether one takes a single request, or those of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

Mode = Literal["each", "joined", "batched"]

_MARK = "__torch_predict_mode__"
_Function = TypeVar("_Function", bound=Callable[..., Any])


def joined(hook: _Function) -> _Function:
    """Mark a hook that takes the requests of a batch as one, joined along the first axis.

    It gets arrays or tensors of shape [rows of all requests, ...] and returns as many rows, in their order. Requests
    that cannot be joined (bytes, text, JSON, other shapes, other tags) are given to it alone. Its ``meta`` holds the
    tags, which are those of each of them; of one that is alone, all of its meta. A `run_model` without this mark gets
    one request at a time.
    """
    return _marked(hook, "joined")


def batched(hook: _Function) -> _Function:
    """Mark a hook that takes a list with what each request of a batch brought, and returns a list of results.

    It gets ``metas``, a list of the requests' metas, if it takes that. In the place of a result may be an exception,
    such as `InvalidInput`: only that request fails.
    """
    return _marked(hook, "batched")


def mode_of(hook: Callable[..., Any]) -> Mode:
    """Return how a hook wants to be called."""
    mode: Mode = getattr(hook, _MARK, "each")
    return mode


def _marked(hook: _Function, mode: Mode) -> _Function:
    setattr(hook, _MARK, mode)
    return hook
