"""What a user gives `dl-inference call` -> a request of one of the protocols; knows no network.

A value is what was given: an array, bytes, or JSON. Each protocol says what it makes of it.
"""

import io
import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message

from dl_inference import messages
from dl_inference.codec import oip as oip_codec
from dl_inference.codec import seldon as seldon_codec
from dl_inference.codec import tfs as tfs_codec
from dl_inference.codec.dtypes import TEXT_KINDS, Array, as_array
from dl_inference.codec.errors import InputError
from dl_inference.codec.packed import plain
from dl_inference.codec.tfs import TensorSpec

UNKNOWN: Mapping[str, TensorSpec] = MappingProxyType({})
"""The inputs of a model that has not been asked."""

SELDON_FIELDS = {"status", "meta", "data", "binData", "strData", "jsonData", "customData"}


def read(text: str | None) -> Any:
    """Return the value that an argument stands for.

    Args:
        text: the name of a file, ``-`` for standard input, JSON, or None for no input at all.

    Returns:
        An array (``.npy``), a dict of arrays (``.npz``), bytes (images and whatever else is not a text), or JSON's
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
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError:  # longer than a file name can be
        is_file = is_folder = False
    if is_folder:
        raise InputError(f"{text} is a folder: name a file in it")
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
    if not data:
        raise InputError(f"{name} is empty: write there what the model is to get")
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
        InputError: the JSON names a field of SeldonMessage and something that is none; or an array of neither numbers
            nor texts.
    """
    tags = {"model": model, **tags}
    if is_seldon(value):
        return _plain(seldon_codec.request(_parsed(value), tags=tags))
    if isinstance(value, list):
        numbers = _numbers(value)
        value = _parsed({"data": {"ndarray": value}}) if numbers is None else numbers
    if value is None:
        value = messages.SeldonMessage()
    is_number = isinstance(value, np.ndarray) and value.dtype.kind not in TEXT_KINDS
    return _plain(seldon_codec.request(value, kind="tensor" if is_number else None, tags=tags))


def is_seldon(value: Any) -> bool:
    """Tell whether what has these keys is a SeldonMessage."""
    return isinstance(value, Mapping) and not SELDON_FIELDS.isdisjoint(value)


def _parsed(value: dict[str, Any]) -> Message:
    try:
        return json_format.ParseDict(value, messages.SeldonMessage())
    except json_format.ParseError as error:
        raise InputError(f"not a SeldonMessage: {error}") from error


def tfs(
    model: str, value: Any, version: int | None, signature: str | None, inputs: Mapping[str, TensorSpec] = UNKNOWN
) -> Message:
    """Return a PredictRequest from named inputs, or from the only one of `inputs`, which the model takes.

    Raises:
        InputError: the inputs have no names, or a type that TensorFlow Serving does not take.
    """
    return _plain(tfs_codec.request(model, _named(value, inputs), version=version, signature=signature or ""))


def oip(model: str, value: Any, version: int | None, inputs: Mapping[str, TensorSpec] = UNKNOWN) -> Message:
    """Return a ModelInferRequest, with raw contents, from named inputs, or from the only one of `inputs`.

    Raises:
        InputError: the inputs have no names, or a type that the protocol does not have.
    """
    return _plain(oip_codec.request(model, _named(value, inputs), version="" if version is None else version))


def _plain(message: Message) -> Message:
    return plain(message)


def _named(value: Any, inputs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not isinstance(value, dict):
        if len(inputs) != 1:
            names = f" ({', '.join(inputs)})" if inputs else ""
            raise InputError(f'this protocol wants named inputs{names}: JSON as {{"x": [[1, 2]]}}, or an .npz file')
        value = {next(iter(inputs)): value}
    return {name: _array(name, item, inputs.get(name)) for name, item in value.items()}


def _array(name: str, item: Any, spec: TensorSpec | None) -> Array:
    """Return an array of the type that ``{"dtype": ..., "values": ...}`` or `spec` says, else float32 and int64."""
    dtype = None
    if isinstance(item, dict):
        if item.keys() != {"dtype", "values"}:
            raise InputError(f'{name}: give a list, or {{"dtype": "int32", "values": [...]}}')
        item, dtype = item["values"], item["dtype"]
    elif isinstance(item, list) and spec is not None and spec.dtype in np.sctypeDict and spec.dtype != "bytes":
        dtype = spec.dtype
    if dtype is None:
        array = as_array(item, name)
    else:
        try:
            array = np.asarray(item, dtype=dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{name}: not an array: {error}") from error
    if array.dtype == np.float64 and dtype is None and not isinstance(item, np.ndarray):
        return array.astype(np.float32)
    return array


def _numbers(value: list[Any]) -> Array | None:
    """Return a list of numbers of one shape as an array; None for any other list."""
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        return None
    return array if array.dtype.kind in "iuf" else None
