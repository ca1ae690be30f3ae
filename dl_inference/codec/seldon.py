"""Seldon's protocol: messages from arrays, bytes, texts and JSON's values, and back."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from google.protobuf import json_format

from dl_inference import messages
from dl_inference.codec import dtypes, packed
from dl_inference.codec.dtypes import Array
from dl_inference.codec.errors import BadTensorError, InputError
from dl_inference.codec.tensor_proto import from_tensor_proto, to_tensor_proto

PREDICT = "/seldon.protos.Seldon/Predict"
Kind = Literal["tftensor", "tensor", "ndarray"]


def request(
    value: Any, *, kind: Kind | None = None, names: Sequence[str] = (), tags: Mapping[str, Any] | None = None
) -> Any:
    """Return a SeldonMessage.

    Args:
        value: a numpy array or scalar (``data``), bytes (``binData``), str (``strData``), any other of JSON's values
            (``jsonData``), google.protobuf.Any of any package (``customData``), a whole SeldonMessage of any package,
            whose tags are added to.
        kind: how an array is sent. Default: numbers, bool and bytes as tftensor, str as ndarray.
        names: of the columns, for arrays.
        tags: JSON's values.

    Raises:
        InputError: the kind has no form for the array, or the value is none of these.
    """
    message: Any = packed.SeldonMessage()
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "detach"):
        _set_array(message.data, value, kind)
        message.data.names.extend(names)
    elif kind is not None or names:
        raise InputError(f"kind and names are for arrays: give numpy.asarray(value), not {type(value).__name__}")
    elif hasattr(value, "SerializeToString"):
        message = _from_message(value)
    elif isinstance(value, bytes):
        message.binData = value
    elif isinstance(value, str):
        message.strData = value
    else:
        _set_json(message.jsonData, value)
    for key, tag in (tags or {}).items():
        _set_json(message.meta.tags[key], tag)
    return message


def _from_message(value: Any) -> Any:
    name = value.DESCRIPTOR.full_name
    if name == packed.SeldonMessage.DESCRIPTOR.full_name:
        copy = packed.SeldonMessage()
        copy.ParseFromString(value.SerializeToString())
        return copy
    if name != "google.protobuf.Any":
        raise InputError(f"a message of type {name}: give a SeldonMessage, or pack it into google.protobuf.Any")
    message = packed.SeldonMessage()
    message.customData.ParseFromString(value.SerializeToString())
    message.customData.SetInParent()
    return message


def _set_array(data: Any, value: Any, kind: Kind | None) -> None:
    array = dtypes.as_array(value, "array")
    is_str = array.dtype.kind in dtypes.TEXT_KINDS and all(isinstance(each, str) for each in array.flat)
    kind = kind or ("ndarray" if is_str and array.ndim else "tftensor")
    if kind == "tftensor":
        to_tensor_proto(array, data.tftensor, "array")
    elif kind == "tensor":
        _set_tensor(data.tensor, array)
    elif kind == "ndarray":
        _set_ndarray(data.ndarray, array)
    else:
        raise InputError(f"kind {kind!r}: tftensor, tensor or ndarray")


def _set_tensor(tensor: Any, array: Array) -> None:
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise InputError(f"kind tensor holds float64 only, not {array.dtype}: use tftensor or ndarray")
    if array.dtype.kind in "iu" and array.size and max(int(array.max()), -int(array.min())) > dtypes.MAX_EXACT:
        raise InputError("kind tensor would round integers beyond 2**53: use tftensor")
    tensor.SetInParent()
    tensor.shape.extend(array.shape)
    if array.size:
        tensor.values.append(dtypes.to_bytes(array.astype(np.float64)))


def _set_ndarray(values: Any, array: Array) -> None:
    if array.ndim == 0:
        raise InputError("kind ndarray is a list: give an array of at least one dimension")
    if array.dtype.kind in "cSV" or (array.dtype.kind == "O" and any(isinstance(each, bytes) for each in array.flat)):
        raise InputError(f"kind ndarray holds numbers, bool and str, not {array.dtype}: use tftensor")
    values.SetInParent()
    for each in array.tolist():
        _set_json(values.values.add(), each)


def _set_json(message: Any, value: Any) -> None:
    """Write one of JSON's values into a google.protobuf.Value; numbers are float64 there, NaN and infinities too."""
    if value is None:
        message.null_value = 0
    elif isinstance(value, bool | np.bool_):
        message.bool_value = bool(value)
    elif isinstance(value, int | float | np.number) and not isinstance(value, complex | np.complexfloating):
        message.number_value = _number(value)
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, Mapping):
        message.struct_value.SetInParent()
        for key, each in value.items():
            if not isinstance(key, str):
                raise InputError(f"JSON's keys are texts, not {type(key).__name__}")
            _set_json(message.struct_value.fields[key], each)
    elif isinstance(value, list | tuple | np.ndarray):
        message.list_value.SetInParent()
        for each in value.tolist() if isinstance(value, np.ndarray) else value:
            _set_json(message.list_value.values.add(), each)
    else:
        raise InputError(f"{type(value).__name__} is neither array, bytes, str nor one of JSON's values")


def _number(value: Any) -> float:
    if isinstance(value, int | np.integer) and abs(int(value)) > dtypes.MAX_EXACT:
        raise InputError(f"JSON's numbers are float64, which would round {value}: send an array of int64, or a text")
    return float(value)


def value_of(message: Any) -> Any:
    """Return what a SeldonMessage holds.

    Returns:
        data: array, writable, its own memory: of tensor float64, of tftensor its own type, of ndarray float64, bool,
            str, or objects where elements differ; binData: bytes; strData: str; jsonData: dict, list, float, str,
            bool or None; customData: google.protobuf.Any; None for a message without any.

    Raises:
        BadTensorError: values do not fit the shape.
    """
    answer = packed.packed(message, packed.SeldonMessage)
    which = answer.WhichOneof("data_oneof")
    if which == "data":
        return _array_of(answer.data)
    if which == "jsonData":
        return _json_of(answer.jsonData)
    if which == "customData":
        return messages.AnyMessage.FromString(answer.customData.SerializeToString())
    return getattr(answer, which) if which else None


def _array_of(data: Any) -> Array:
    which = data.WhichOneof("data_oneof")
    if which == "tftensor":
        return from_tensor_proto(data.tftensor)
    if which == "ndarray":
        return _array_of_list([_json_of(each) for each in data.ndarray.values])
    shape = list(data.tensor.shape)
    count = dtypes.count_of(shape)
    values = packed.numbers(data.tensor, "values", "<f8", count)
    if which is None:
        return np.empty(0)
    if len(values) != count:
        raise BadTensorError(f"shape {shape} takes {count} values, {len(values)} were sent")
    return dtypes.from_storage(values, dtypes.BY_NAME["float64"], shape)


def _array_of_list(items: list[Any]) -> Array:
    objects = _objects(items)
    kinds = {type(each) for each in objects.flat}
    if len(kinds) == 1 and (kind := kinds.pop()) in (float, bool, str):
        return objects.astype(kind)
    return objects if objects.size else objects.astype(np.float64)


def _objects(items: list[Any]) -> Array:
    """Return lists of lists as an object array, as deep as they are regular."""
    try:
        return np.array(items, object)
    except ValueError:  # ragged in a way that numpy makes nothing of
        array = np.empty(len(items), object)
        array[:] = items
        return array


def _json_of(value: Any) -> Any:
    which = value.WhichOneof("kind")
    if which == "struct_value":
        return {key: _json_of(each) for key, each in sorted(value.struct_value.fields.items())}
    if which == "list_value":
        return [_json_of(each) for each in value.list_value.values]
    return None if which in (None, "null_value") else getattr(value, which)


def tags_of(message: Any) -> dict[str, Any]:
    """Return the tags of a message's meta as JSON's values."""
    return {key: _json_of(tag) for key, tag in sorted(message.meta.tags.items())}


def meta_of(message: Any) -> dict[str, Any]:
    """Return a message's meta as protobuf's JSON has it (camelCase), but tags as `tags_of` gives them."""
    rest = messages.Meta.FromString(message.meta.SerializeToString())
    rest.ClearField("tags")  # NaN among them is no JSON
    tags = tags_of(message)
    meta = json_format.MessageToDict(rest)
    return {**meta, "tags": tags} if tags else meta
