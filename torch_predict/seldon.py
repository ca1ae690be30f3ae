"""Seldon's messages: what a hook gets for each kind of payload, and what becomes of its result.

As the original's wrapper had it (compat.md, sections 3 and 4).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from google.protobuf import any_pb2

from torch_predict.errors import BadAnswer, InvalidInput

if TYPE_CHECKING:
    from dl_inference._native import Item
    from torch_predict.samples import Sample

_DATA_KINDS = frozenset({"tensor", "ndarray", "tftensor"})
_JSON_DTYPES = "biufUO"  # what a ListValue can hold: bool, int, float, str; of objects the front checks each one


_NUMPY_FLOATS = frozenset({"torch.float16", "torch.float32", "torch.float64"})


class Answer(NamedTuple):
    """The arguments of ``Batch.reply``."""

    kind: str
    value: Any
    names: list[str]


def payload_of(item: Item | Sample) -> Any:
    """Return the `x` of the first hook.

    Returns: tensor: float64 array, writable; ndarray: what ``np.array`` makes of the list (float64, bool, strings
        or objects); tftensor: array of its dtype; binData: bytes; strData: str; jsonData: dict, list, float, str,
        bool or None; customData: ``google.protobuf.Any``.

    Raises:
        InvalidInput: there is no payload, or the ndarray is ragged.
    """
    if item.kind == "ndarray":
        return _array(item.value)
    if item.kind == "customData":
        return any_pb2.Any.FromString(item.value)
    if item.kind == "none":
        raise InvalidInput("the message has no payload; set one of data, binData, strData, jsonData, customData")
    return item.value


def answer_of(result: Any, asked: str, class_names: list[str] | None) -> Answer:
    """Return how a result is sent.

    Args:
        result: what the last hook, or the model through `from_tensor`, returned.
        asked: the request's kind; a numeric array comes back as the same kind where that is one of data's.
        class_names: names of the columns where the model folder sets them.

    Raises:
        BadAnswer: no SeldonMessage can hold it.
    """
    if isinstance(result, np.ndarray | list):
        return _array_answer(result, asked, class_names)
    if isinstance(result, str):
        return Answer("strData", str(result), [])
    if isinstance(result, dict):
        return Answer("jsonData", result, [])
    if isinstance(result, bytes | bytearray):
        return Answer("binData", bytes(result), [])
    if isinstance(result, any_pb2.Any):
        return Answer("customData", result.SerializeToString(), [])
    raise BadAnswer(
        f"it is a {type(result).__name__}; return an ndarray, a list, a dict, a str, bytes or a google.protobuf.Any"
    )


def plain(value: Any, place: str = "it") -> Any:
    """Return what a dict or a list holds as Python's own values: numpy's and torch's scalars and arrays become those.

    Raises:
        BadAnswer: something in it is of another type; names its place.
    """
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist(), place) if value.dtype.kind in "biufUO" else _unfit(value.dtype, place)
    if hasattr(value, "detach"):
        return plain(array_of(value), place)
    if isinstance(value, dict):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise BadAnswer(f"{place} has a key of type {type(wrong).__name__}; make it str")
        return {key: plain(each, f"{place}[{key!r}]") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, f"{place}[{index}]") for index, each in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return _unfit(type(value).__name__, place)


def _unfit(name: object, place: str) -> Any:
    raise BadAnswer(f"{place} is a {name}; make it a dict, list, float, int, str, bool or None")


def array_of(tensor: Any) -> np.ndarray[Any, Any]:
    """Return a tensor of torch as an array: dense, on the CPU, bfloat16 and smaller floats as float32.

    Raises:
        BadAnswer: numpy has nothing for it.
    """
    try:
        tensor = tensor.detach()
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        if str(tensor.layout) != "torch.strided":
            tensor = tensor.to_dense()
        tensor = tensor.cpu().resolve_conj().resolve_neg()
        if tensor.is_floating_point() and str(tensor.dtype) not in _NUMPY_FLOATS:
            tensor = tensor.float()
        array: np.ndarray[Any, Any] = tensor.numpy()
        return array
    except (RuntimeError, TypeError, NotImplementedError) as error:
        what = f"{tensor.dtype}, {tensor.layout}"
        raise BadAnswer(f"it is a tensor ({what}) that numpy has no array for; return a dense one") from error


def _array(values: list[Any]) -> np.ndarray[Any, Any]:
    try:
        array = np.array(values)
        if array.dtype.kind == "U":  # which knows no zeros at the end of a text
            objects = np.array(values, object)
            if any(isinstance(each, str) and each.endswith("\0") for each in objects.flat):
                return objects
        return array
    except ValueError:  # numpy: "setting an array element with a sequence ... inhomogeneous shape"
        raise InvalidInput("data.ndarray is ragged: its lists differ in length") from None


def _array_answer(result: Any, asked: str, class_names: list[str] | None) -> Answer:
    array = _json_array(result)
    numeric_kind = asked if asked in _DATA_KINDS else "tensor"
    kind = numeric_kind if np.issubdtype(array.dtype, np.number) else "ndarray"
    names = _names(array, class_names)
    if kind == "tensor":
        if array.dtype.kind == "c":
            raise BadAnswer(f"a tensor cannot hold {array.dtype}; return its real and imaginary parts")
        return Answer(kind, np.asarray(array, dtype=np.float64, order="C"), names)
    if kind == "tftensor":
        return Answer(kind, np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C"), names)
    if array.ndim == 0:
        raise BadAnswer("an ndarray cannot hold an array of rank 0; return it with shape [1]")
    if array.dtype.kind not in _JSON_DTYPES:
        raise BadAnswer(f"an ndarray cannot hold {array.dtype}")
    return Answer(kind, array.tolist(), names)


def as_array(result: Any) -> np.ndarray[Any, Any]:
    """Return a result as an array.

    Raises:
        BadAnswer: it is a ragged list.
    """
    try:
        array = np.asarray(result)
        if array.dtype.kind in "SU" and not isinstance(result, np.ndarray):
            objects = np.array(result, object)  # numpy's own types of text know no zeros at the end
            if all(isinstance(each, str | bytes) for each in objects.flat):
                return objects
        return array
    except ValueError:
        raise BadAnswer("it is a ragged list: its rows differ in length") from None


def _json_array(result: Any) -> np.ndarray[Any, Any]:
    array = as_array(result)
    # bfloat16 of the package ml_dtypes: not a number to numpy, and its elements are not Python floats.
    return array.astype(np.float64).astype(object) if array.dtype.name == "bfloat16" else array


def _names(array: np.ndarray[Any, Any], class_names: list[str] | None) -> list[str]:
    if array.ndim < 2:
        return []
    return class_names if class_names is not None else _column_names(array.shape[1])


@functools.lru_cache(maxsize=32)
def _column_names(width: int) -> list[str]:
    return [f"t:{column}" for column in range(width)]
