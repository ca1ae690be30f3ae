"""What a user gives `dl-inference call` -> a request of one of the protocols; knows no network.

A value is what was given: an array, bytes, or JSON. Each protocol says what it makes of it.
"""

import io
import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message

from dl_inference import messages

SELDON_FIELDS = {"status", "meta", "data", "binData", "strData", "jsonData", "customData"}

# Open Inference Protocol's names of numpy's types.
OIP_TYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
# TensorFlow's, as tensorflow/core/framework/types.proto numbers them.
TFS_TYPES = {
    "bool": "DT_BOOL", "uint8": "DT_UINT8", "uint16": "DT_UINT16", "uint32": "DT_UINT32", "uint64": "DT_UINT64",
    "int8": "DT_INT8", "int16": "DT_INT16", "int32": "DT_INT32", "int64": "DT_INT64", "float16": "DT_HALF",
    "float32": "DT_FLOAT", "float64": "DT_DOUBLE",
}  # fmt: skip


class InputError(Exception):
    """An input that cannot be read, or that the protocol has no form for; the message says what to give instead."""


def read(text: str | None) -> Any:
    """Return the value that an argument stands for.

    Args:
        text: the name of a file, ``-`` for standard input, JSON, or None for no input at all.

    Returns:
        An array (``.npy``), a dict of arrays (``.npz``), bytes (images and whatever else is no text), or JSON's
        values.

    Raises:
        InputError: it is neither a file nor JSON, or a file of another form than its name says.
    """
    if text is None:
        return None
    if text == "-":
        return _content(sys.stdin.buffer.read(), "standard input", "")
    path = Path(text)
    try:
        is_file = path.is_file()
    except OSError:  # longer than a file name can be
        is_file = False
    if is_file:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{text}: cannot be read: {error.strerror}") from error
        return _content(data, text, path.suffix.lower())
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{text[:60]!r} is neither a file nor JSON: {_why(text, error)}") from error


def _why(text: str, error: json.JSONDecodeError) -> str:
    if error.pos > 0 or text[:1] in '[{"':  # begun as JSON
        return str(error)
    return f"there is no such file; a text is written as JSON, with its quotes: '{json.dumps(text[:60])}'"


def _content(data: bytes, name: str, suffix: str) -> Any:
    try:
        if data.startswith(b"\x93NUMPY"):
            return np.load(io.BytesIO(data), allow_pickle=False)
        if suffix == ".npz":
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{name}: not an array that can be read without running code: {error}") from error
    try:
        return json.loads(data)
    except ValueError as error:
        if suffix == ".json":
            raise InputError(f"{name}: not JSON: {error}") from error
        return data


def seldon(model: str, value: Any, tags: Mapping[str, Any]) -> Message:
    """Return a SeldonMessage: its own JSON as it is; numbers as tensor, other lists as ndarray, the rest by kind.

    Raises:
        InputError: the JSON names a field of SeldonMessage and something that is none.
    """
    message: Any = messages.SeldonMessage()
    if isinstance(value, dict) and value and not SELDON_FIELDS.isdisjoint(value):
        try:
            json_format.ParseDict(value, message)
        except json_format.ParseError as error:
            raise InputError(f"not a SeldonMessage: {error}") from error
    elif isinstance(value, bytes):
        message.binData = value
    elif isinstance(value, str):
        message.strData = value
    elif isinstance(value, np.ndarray) or (isinstance(value, list) and _numbers(value) is not None):
        array = _floats(value)
        message.data.tensor.shape.extend(array.shape)
        message.data.tensor.values.extend(array.ravel().tolist())
    elif isinstance(value, list):
        json_format.ParseDict(value, message.data.ndarray)
    elif value is not None:
        json_format.ParseDict(_plain(value), message.jsonData)
    for key, tag in {"model": model, **tags}.items():
        json_format.ParseDict(tag, message.meta.tags[key])
    return message


def tfs(model: str, value: Any, version: int | None, signature: str | None) -> Message:
    """Return a PredictRequest from named inputs.

    Raises:
        InputError: the inputs have no names, or a type that TensorFlow Serving does not take.
    """
    request: Any = messages.PredictRequest()
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    if signature is not None:
        request.model_spec.signature_name = signature
    for name, array in _named(value).items():
        tensor = request.inputs[name]
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        if array.dtype == object:
            tensor.dtype = messages.DataType.Value("DT_STRING")
            tensor.string_val.extend(array.ravel().tolist())
        else:
            tensor.dtype = messages.DataType.Value(_type_name(TFS_TYPES, name, array))
            tensor.tensor_content = _little_endian(array)
    return request


def oip(model: str, value: Any, version: int | None) -> Message:
    """Return a ModelInferRequest from named inputs, raw contents.

    Raises:
        InputError: the inputs have no names, or a type that the protocol does not have.
    """
    request: Any = messages.ModelInferRequest(model_name=model)
    if version is not None:
        request.model_version = str(version)
    for name, array in _named(value).items():
        is_text = array.dtype == object
        datatype = "BYTES" if is_text else _type_name(OIP_TYPES, name, array)
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if is_text:
            items = array.ravel().tolist()
            request.raw_input_contents.append(b"".join(len(item).to_bytes(4, "little") + item for item in items))
        else:
            request.raw_input_contents.append(_little_endian(array))
    return request


def _named(value: Any) -> dict[str, np.ndarray[Any, Any]]:
    if not isinstance(value, dict) or not value:
        raise InputError('this protocol wants named inputs: JSON as {"x": [[1, 2]]}, or an .npz file')
    return {name: _array(name, item) for name, item in value.items()}


def _array(name: str, item: Any) -> np.ndarray[Any, Any]:
    """Return an array: float32 and int64 unless ``{"dtype": ..., "values": ...}`` asks for another type."""
    dtype = None
    if isinstance(item, dict):
        if item.keys() != {"dtype", "values"}:
            raise InputError(f'{name}: give a list, or {{"dtype": "int32", "values": [...]}}')
        item, dtype = item["values"], item["dtype"]
    try:
        array = np.asarray(item, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: not an array: {error}") from error
    if array.dtype == object:  # null, a number beyond 64 bits, or different things in one list
        raise InputError(f"{name}: not an array: give numbers of at most 64 bits, true and false, or texts")
    if array.dtype.kind in "US":
        encoded = [each.encode() if isinstance(each, str) else each for each in array.ravel().tolist()]
        texts = np.empty(array.shape, dtype=object)
        texts.ravel()[:] = encoded
        return texts
    if array.dtype == np.float64 and dtype is None and not isinstance(item, np.ndarray):
        return array.astype(np.float32)
    return array


def _type_name(table: Mapping[str, str], name: str, array: np.ndarray[Any, Any]) -> str:
    if array.dtype.name not in table:
        raise InputError(f"{name}: the protocol has no type for {array.dtype}; it has {', '.join(table)} and texts")
    return table[array.dtype.name]


def _little_endian(array: np.ndarray[Any, Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _numbers(value: list[Any]) -> np.ndarray[Any, Any] | None:
    """Return a list of numbers of one shape as an array; None for any other list."""
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        return None
    return array if array.dtype.kind in "iuf" else None


def _floats(value: Any) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"a Seldon tensor holds numbers: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value
