"""OIP requests and answers: what a hook gets for named tensors, and which named tensors a result becomes.

Seldon's kinds that are no arrays have a form here, too: one BYTES element named ``binData``, ``strData`` or
``jsonData``, either way.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from torch_predict.arrays import array_of, as_array
from torch_predict.errors import BadAnswer, InvalidInput
from torch_predict.outputs import output_names
from torch_predict.seldon import plain
from torch_predict.signature import NO_INPUTS, SINGLE, TensorSpec

Array = np.ndarray[Any, Any]


def hook_input_of(inputs: dict[str, Array]) -> Any:
    """Return the `x` of the first hook.

    Returns: of several inputs a dict of arrays by name; of one input its array, of its own dtype, BYTES as an object
        array of bytes; of a BYTES element named ``binData`` bytes, ``strData`` str, ``jsonData`` what its JSON says,
        with numbers as floats.

    Raises:
        InvalidInput: there are no inputs; such an element is not one element of BYTES, not UTF-8 or not JSON.
    """
    if not inputs:
        raise InvalidInput(NO_INPUTS)
    if len(inputs) > 1:
        return inputs
    ((name, array),) = inputs.items()
    if name not in SINGLE:
        return array
    if array.dtype.kind != "O" or array.size != 1:
        raise InvalidInput(f"input {name!r} is one element of BYTES, not {array.dtype} of shape {list(array.shape)}")
    data: bytes = array.item()
    return data if name == "binData" else _parsed(name, data)


def outputs_of(result: Any) -> dict[str, Array]:
    """Return the outputs that a result becomes.

    Args:
        result: what the model or the last hook returned: an array, a list of numbers or strings, a tensor; a tuple
            of them, or a list of tensors; a dict of arrays or tensors by name; any other dict, str or bytes as one
            BYTES element.

    Raises:
        BadAnswer: no tensor can hold it.
    """
    if isinstance(result, dict):
        if result and all(isinstance(value, np.ndarray | torch.Tensor) for value in result.values()):
            return {name: _array(value) for name, value in result.items()}
        return {"jsonData": _single(_json(result))}
    if isinstance(result, str):
        return {"strData": _single(result.encode())}
    if isinstance(result, bytes | bytearray):
        return {"binData": _single(bytes(result))}
    if isinstance(result, tuple) and not result:
        raise BadAnswer("it is an empty tuple; return at least one output")
    if isinstance(result, tuple) or (isinstance(result, list) and any(isinstance(x, torch.Tensor) for x in result)):
        names = output_names(len(result))
        return {name: _array(each, f"{name!r}") for name, each in zip(names, result, strict=True)}
    return {name: _array(result) for name in output_names(1)}


def seen_input(name: str, payload: Any, float_dtype: str | None) -> TensorSpec:
    """Return the input that brings a hook or a model this payload.

    Args:
        name: of an input that is an array.
        payload: a Seldon payload as the first hook gets it.
        float_dtype: what the model makes of floats; None where a hook gets them as they come.
    """
    if isinstance(payload, np.ndarray):
        dtype = _dtype_name(payload)
        return TensorSpec(name, float_dtype if float_dtype and dtype.startswith("float") else dtype, payload.shape)
    single = "binData" if isinstance(payload, bytes) else "strData" if isinstance(payload, str) else "jsonData"
    return TensorSpec(single, "object", (1,))


def seen_outputs(outputs: dict[str, Array]) -> list[TensorSpec]:
    """Return the specs of an answer's outputs."""
    return [TensorSpec(name, _dtype_name(array), array.shape) for name, array in outputs.items()]


def not_finite(outputs: dict[str, Array]) -> tuple[str, ...]:
    """Return the outputs that hold NaN or infinity, as numbers or in JSON."""
    return tuple(name for name, array in outputs.items() if _is_not_finite(name, array))


def _is_not_finite(name: str, array: Array) -> bool:
    if name == "jsonData":
        found: list[str] = []
        json.loads(array.item(), parse_constant=found.append)
        return bool(found)
    if array.dtype.kind in "SUOb":
        return False
    return not bool(np.isfinite(array.astype(np.float64)).all())


def _dtype_name(array: Array) -> str:
    return "object" if array.dtype.kind in "SUO" else array.dtype.name


def _parsed(name: str, data: bytes) -> Any:
    try:
        text = data.decode()
        return text if name == "strData" else json.loads(text, parse_int=float)
    except UnicodeDecodeError:
        raise InvalidInput(f"input {name!r} is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"input {name!r} is not JSON: {error}") from None


def _array(value: Any, place: str = "it") -> Array:
    if isinstance(value, torch.Tensor):
        value = array_of(value)
    if not isinstance(value, np.ndarray | list):
        raise BadAnswer(
            f"{place} is a {type(value).__name__}; return an ndarray, a tensor, a list, a dict, a str or bytes, or a"
            " tuple of arrays"
        )
    array = as_array(value)
    if array.dtype.kind == "c":
        raise BadAnswer(f"no tensor can hold {array.dtype}; return its real and imaginary parts")
    return array


def _json(result: dict[Any, Any]) -> bytes:
    try:
        return json.dumps(result, default=plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadAnswer(f"its content does not fit jsonData: {error}") from error


def _single(data: bytes) -> Array:
    array = np.empty(1, object)
    array[0] = data
    return array
