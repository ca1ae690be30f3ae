"""What hooks may ask for: the settings of model.yaml, and the request that they answer.

The loader and the predictor say what holds; hooks ask through `torch_predict.settings` and `torch_predict.request`.
Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol


class Asked(Protocol):
    """What is needed of `dl_inference._native.Item`, which documents it; a sample of the warm-up has as much."""

    @property
    def meta(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def method(self) -> str: ...  # noqa: D102
    @property
    def request_id(self) -> str: ...  # noqa: D102


class Outside(NamedTuple):
    """A request that another server has decoded."""

    meta: dict[str, Any]
    method: str
    request_id: str


# Each thread has its own, and whoever runs part of a hook in another one may take it there, as asyncio.to_thread does.
_CURRENT: ContextVar[Asked | None] = ContextVar("request", default=None)

enter = _CURRENT.set
"""Say which request the hooks that this thread calls next are for; None: for none."""

entered = _CURRENT.get
"""Return what was entered last."""

_settings: Mapping[str, Any] = MappingProxyType({})


class Request:
    """The request that a hook answers."""

    __slots__ = ("_item",)

    def __init__(self, item: Asked) -> None:
        self._item = item

    @property
    def id(self) -> str:
        """The request's id, which is also in logs and trailers; ``warm-up`` while the server starts."""
        return self._item.request_id

    @property
    def method(self) -> str:
        """Path of the gRPC method: ``/inference.GRPCInferenceService/ModelInfer``."""
        return self._item.method

    @property
    def parameters(self) -> dict[str, Any]:
        """The request's parameters: tags of Seldon's meta (numbers are floats), or parameters of OIP."""
        tags: dict[str, Any] = self._item.meta.get("tags", {})
        return tags

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """Parameters of single inputs of OIP, by the input's name; only of those that have any."""
        return getattr(self._item, "inputs", None) or {}

    @property
    def deadline_s(self) -> float | None:
        """Seconds until nobody waits for the answer any more; None where that is not known."""
        remaining_s = getattr(self._item, "remaining_s", None)
        return None if remaining_s is None else remaining_s()


def request() -> Request:
    """Return the request that the hook answers which calls this.

    Raises:
        RuntimeError: no hook is answering a request in this thread.
    """
    item = _CURRENT.get()
    if item is None:
        raise RuntimeError(
            "there is no request: call torch_predict.request() in a hook, while it answers one, and in its own thread"
            " (contextvars.copy_context() takes it to another)"
        )
    return Request(item)


def cancelled() -> bool:
    """Say whether nobody waits any more for the answer of the request that the hook answers which calls this.

    Its caller has gone, or its deadline has passed: what a hook makes from then on reaches nobody. False in hooks that
    answer several requests at once.
    """
    item = _CURRENT.get()
    is_gone = getattr(item, "is_gone", None)
    return bool(is_gone is not None and is_gone())


def settings() -> Mapping[str, Any]:
    """Return ``settings`` of model.yaml, read-only all the way down; also while processor.py is imported.

    Returns: mappings for YAML's mappings, tuples for its lists; empty where there are none.
    """
    return _settings


def use_settings(given: Mapping[str, Any]) -> None:
    """Let `settings` return these, from now on."""
    global _settings  # noqa: PLW0603  (a process serves one model)
    _settings = _frozen(given)


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return MappingProxyType({key: _frozen(each) for key, each in value.items()})
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
