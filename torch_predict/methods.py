"""Named methods of a model: functions of processor.py that callers address by the tag or parameter ``method``.

Each is a whole run of its own: what it returns is the answer, and no other hook is called unless it calls one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeVar, overload

from dl_inference.names import NAME_RULE, is_name
from dl_inference.serving.load_error import LoadError
from torch_predict.errors import InvalidInput

TAG = "method"
"""The tag, or parameter, that names one."""

_MARK = "__torch_predict_method__"

_Function = TypeVar("_Function", bound=Callable[..., Any])


@overload
def method(name: _Function, /) -> _Function: ...
@overload
def method(name: str, /) -> Callable[[_Function], _Function]: ...
def method(name: Any, /) -> Any:
    """Mark a function of processor.py as a method that callers can name: ``@torch_predict.method``.

    The function is called in place of all hooks, as ``function(model, x, meta=...)``, without gradients. ``x`` is what
    the first hook would get. Tensors that it returns become arrays.

    Args:
        name: the function; or what callers name it, if that is another name: ``@torch_predict.method("embed")``.

    Raises:
        ValueError: no caller could name it so.
    """
    if isinstance(name, str):
        return lambda function: _marked(function, name)
    return _marked(name, getattr(name, "__name__", ""))


def marked(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """Return the methods of a module by name.

    Raises:
        LoadError: two have the same name.
    """
    found: dict[str, Callable[..., Any]] = {}
    for function in vars(module).values():
        name = getattr(function, _MARK, None)
        if not isinstance(name, str) or not inspect.isfunction(function):
            continue
        if found.setdefault(name, function) is not function:
            raise LoadError(module.__file__, f"two functions are the method {name!r}", "rename one of them")
    return found


def chosen(methods: Mapping[str, Callable[..., Any]], tags: Mapping[str, Any]) -> Callable[..., Any] | None:
    """Return the one of a model's methods that a request names; None where it names none.

    Raises:
        InvalidInput: the model has others.
    """
    if TAG not in tags:
        return None
    name = tags[TAG]
    found = methods.get(name) if isinstance(name, str) else None
    if found is None:
        shown = repr(name)
        shown = shown if len(shown) <= 64 else f"{shown[:64]}..."
        raise InvalidInput(
            f"this model has no method {shown}: name one of {', '.join(sorted(methods))}, or send no {TAG!r}"
        )
    return found


def _marked(function: Any, name: str) -> Any:
    if not inspect.isfunction(function):
        raise ValueError(f"a method is a function (model, x, **kwargs), not a {type(function).__name__}")
    if not is_name(name):
        raise ValueError(f"{name!r} cannot name a method: {NAME_RULE}")
    setattr(function, _MARK, name)
    return function
