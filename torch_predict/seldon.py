"""Seldon's messages: what a hook gets for each kind of payload, and what becomes of its result.

As the original's wrapper had it (compat.md, sections 3 and 4).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from google.protobuf import any_pb2

from torch_predict.arrays import array_of, as_array, is_bfloat16
from torch_predict.errors import BadAnswer, InvalidInput

if TYPE_CHECKING:
    from dl_inference._native import Item
    from torch_predict.samples import Sample

_DATA_KINDS = frozenset({"tensor", "ndarray", "tftensor"})
_NUMBERS = "iufcm"  # np.number's: times that have passed are numbers, too
_JSON_DTYPES = "biufUO"  # what a ListValue can hold: bool, int, float, str; of objects the front checks each one


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
    if item.kind == "tensor":
        return item.value
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
    if asked == "tensor" and type(result) is np.ndarray and result.dtype.kind in "fiu":  # as nearly all are
        return Answer(asked, np.asarray(result, dtype=np.float64, order="C"), _names(result, class_names))
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
        if is_bfloat16(value):
            value = value.astype(np.float32)
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
    array = as_array(result)
    if is_bfloat16(array) and asked != "tftensor":
        array = array.astype(np.float32)
    numeric_kind = asked if asked in _DATA_KINDS else "tensor"
    kind = numeric_kind if array.dtype.kind in _NUMBERS or is_bfloat16(array) else "ndarray"
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


def _names(array: np.ndarray[Any, Any], class_names: list[str] | None) -> list[str]:
    if array.ndim < 2:
        return []
    return class_names if class_names is not None else _column_names(array.shape[1])


@functools.lru_cache(maxsize=32)
def _column_names(width: int) -> list[str]:
    return [f"t:{column}" for column in range(width)]
