"""What a model gives by itself, without hooks: one rule of names for all protocols.

A tensor is ``output``; several are ``output_0``, ``output_1`` ..., those of a dict are called as its keys. In a part
that holds tensors itself the places go on: ``output_1_0``, ``boxes_left``. Inputs of containers are named in the same
way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from torch_predict.arrays import array_of, as_array, is_bfloat16
from torch_predict.errors import BadAnswer
from torch_predict.seldon import plain

_RETURN = "return a tensor, or a tuple, list or dict of tensors; or write postprocess in processor.py"


def output_names(count: int) -> list[str]:
    """Return the names of outputs that have none: ``output``, or ``output_0``, ``output_1`` ..."""
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def parts(result: Any) -> list[tuple[str, Any]]:
    """Return (name, tensor, number or text) for each part of what a model gave; parts that are None are left out.

    A list or tuple without tensors is one part. Nothing here needs torch: what has a shape is a tensor.
    """
    return [(name, part) for top, value in _top(result).items() for name, part in _leaves(top, value)]


def sent(result: Any, kind: str) -> Any:
    """Return a model's own result in a form that the protocol of a request's kind has.

    Returns: for OIP a dict of arrays by name; else an array, or, of several tensors, a dict for JSON in which what was
        nested stays so, and None is null. What holds no tensor stays as it is, but for a number, which is an array.

    Raises:
        BadAnswer: names the part that cannot be sent, and what to return.
    """
    if result is None:
        raise BadAnswer(f"the model returned None; {_RETURN}")
    if isinstance(result, bool | int | float):
        array = np.asarray(result)
        return array.reshape(1) if kind == "ndarray" else array  # a list cannot be of rank 0
    if kind == "infer":
        return _by_name(result) if _holds_tensors(result) else result
    if not _holds_tensors(result):
        return result
    top = _top(result)
    if list(top) != output_names(1) or isinstance(result, dict):
        return plain(top)
    array = array_of(top["output"]) if hasattr(top["output"], "detach") else as_array(top["output"])
    return array.reshape(1) if kind == "ndarray" and not array.ndim else array


def _by_name(result: Any) -> dict[str, np.ndarray[Any, Any]]:
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, part in parts(result):
        if name in arrays:
            raise BadAnswer(f"two of the model's outputs would be called {name!r}; rename a key of its dict")
        array = array_of(part) if hasattr(part, "detach") else as_array(part)
        is_text = array.dtype.kind in "SUO" and all(isinstance(each, str | bytes) for each in array.flat)
        if array.dtype.kind not in "biuf" and not is_bfloat16(array) and not is_text:
            what = array.dtype if hasattr(part, "detach") else f"a {type(part).__name__}"
            raise BadAnswer(f"the model's output {name!r} is {what}, which OIP has no datatype for; {_RETURN}")
        arrays[name] = array
    return arrays


def _top(result: Any) -> dict[str, Any]:
    if isinstance(result, dict):
        return {str(name): value for name, value in result.items()}
    values = result if isinstance(result, tuple | list) else (result,)
    if len(values) == 1 and isinstance(values[0], dict | tuple | list):
        return _top(values[0])
    return dict(zip(output_names(len(values)), values, strict=True))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(f"{name}_{key}", each)
    elif isinstance(value, tuple | list) and _holds_tensors(value):
        for index, each in enumerate(value):
            yield from _leaves(f"{name}_{index}", each)
    elif value is not None:
        yield name, value


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_tensors, value.values()))
    return any(map(_holds_tensors, value)) if isinstance(value, tuple | list) else hasattr(value, "shape")
