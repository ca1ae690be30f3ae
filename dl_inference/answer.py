"""How `dl-inference call` shows an answer of any of the protocols."""

import json
from typing import Any

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dl_inference import messages
from dl_inference.call import Answer
from dl_inference.payload import OIP_TYPES, TFS_TYPES

_MAX_ROWS = 20


def show(console: Console, answer: Answer) -> None:
    """Print an answer for people."""
    message: Any = answer.message
    columns = list(message.data.names) if message.DESCRIPTOR.name == "SeldonMessage" else []
    for name, value in _fields(message):
        title = f"[bold]{escape(name)}[/]"
        if isinstance(value, np.ndarray):
            console.print(title, "text" if value.dtype == object else value.dtype.name, str(value.shape))
            _show_array(console, value, columns)
        elif isinstance(value, bytes):
            console.print(title, f"{len(value)} bytes:", escape(repr(value[:64])), "..." if len(value) > 64 else "")
        elif isinstance(value, str):
            console.print(title, escape(value))
        else:
            console.print(title)
            # A Struct's keys come in no order.
            console.print_json(json.dumps(value), sort_keys=True)
    console.print(_how(answer), style="dim", markup=False)


def to_json(answer: Answer) -> str:
    """Return an answer for programs: the message in protobuf's JSON, and how the call went."""
    message = json_format.MessageToDict(answer.message, preserving_proto_field_name=True)
    return json.dumps(
        {"answer": message, "took_ms": round(answer.took_ms, 3), "trailers": dict(answer.trailers)}, sort_keys=True
    )


def _how(answer: Answer) -> str:
    parts = [f"{answer.took_ms:.1f} ms"]
    for trailer, word in (("access-endpoint", "by"), ("access-attempts", "attempts"), ("x-request-id", "request")):
        if trailer in answer.trailers:
            parts.append(f"{word} {answer.trailers[trailer]}")
    return " · ".join(parts)


def _fields(message: Any) -> list[tuple[str, Any]]:
    """Return the named values of an answer of any protocol."""
    kind = message.DESCRIPTOR.name
    if kind == "PredictResponse":
        return [(name, _tfs_array(message.outputs[name])) for name in sorted(message.outputs)]
    if kind == "ModelInferResponse":
        return [(output.name, _oip_array(message, index)) for index, output in enumerate(message.outputs)]
    found = _seldon_value(message)
    tags = json_format.MessageToDict(message.meta).get("tags")
    return [*found, *([("tags", tags)] if tags else [])]


def _seldon_value(message: Any) -> list[tuple[str, Any]]:
    which = message.WhichOneof("data_oneof")
    if which is None:
        return [("answer", "(empty)")]
    if which != "data":
        value = getattr(message, which)
        return [(which, json_format.MessageToDict(value) if isinstance(value, Message) else value)]
    inner = message.data.WhichOneof("data_oneof")
    if inner == "tensor":
        tensor = message.data.tensor
        return [("tensor", np.array(tensor.values, dtype=np.float64).reshape(tuple(tensor.shape)))]
    if inner == "tftensor":
        return [("tftensor", _tfs_array(message.data.tftensor))]
    return [(str(inner), json_format.MessageToDict(message.data.ndarray) if inner else None)]


def _tfs_array(tensor: Any) -> Any:
    types = {messages.DataType.Value(ours): numpy for numpy, ours in TFS_TYPES.items()}
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.string_val:
        return _texts_array(list(tensor.string_val), shape)
    if tensor.dtype in types and tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype=np.dtype(types[tensor.dtype]).newbyteorder("<")).reshape(
            shape
        )
    for name in ("float_val", "double_val", "int_val", "int64_val", "bool_val", "uint32_val", "uint64_val"):
        values = getattr(tensor, name)
        if values and tensor.dtype in types:
            array = np.array(values, dtype=types[tensor.dtype])
            # One value may stand for a whole tensor (tensorflow/core/framework/tensor.proto).
            return np.broadcast_to(array, shape) if len(array) == 1 else array.reshape(shape)
    return json_format.MessageToDict(tensor)


def _oip_array(message: Any, index: int) -> Any:
    output = message.outputs[index]
    types = {ours: numpy for numpy, ours in OIP_TYPES.items()}
    shape = tuple(output.shape)
    if output.datatype == "BYTES":
        items = list(output.contents.bytes_contents)
        if index < len(message.raw_output_contents):
            items = list(_split_texts(message.raw_output_contents[index]))
        return _texts_array(items, shape)
    if output.datatype not in types:
        return json_format.MessageToDict(output)
    dtype = np.dtype(types[output.datatype]).newbyteorder("<")
    if index < len(message.raw_output_contents):
        return np.frombuffer(message.raw_output_contents[index], dtype=dtype).reshape(shape)
    values: list[Any] = next((list(found) for _, found in output.contents.ListFields()), [])
    return np.array(values, dtype=dtype).reshape(shape)


def _split_texts(data: bytes) -> list[bytes]:
    items, position = [], 0
    while position + 4 <= len(data):
        length = int.from_bytes(data[position : position + 4], "little")
        items.append(data[position + 4 : position + 4 + length])
        position += 4 + length
    return items


def _texts_array(items: list[bytes], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    array = np.empty(len(items), dtype=object)
    array[:] = [item.decode(errors="backslashreplace") for item in items]
    return array.reshape(shape)


def _show_array(console: Console, array: np.ndarray[Any, Any], names: list[str]) -> None:
    rows = np.atleast_1d(array)
    if rows.ndim > 2 or rows.shape[-1] > _MAX_ROWS:
        console.print(np.array2string(array, threshold=200, edgeitems=3, precision=6), markup=False)
        return
    rows = rows.reshape(1, -1) if rows.ndim == 1 else rows
    columns = names if len(names) == rows.shape[1] else [str(index) for index in range(rows.shape[1])]
    table = Table(*map(escape, columns))
    for row in rows[:_MAX_ROWS]:
        table.add_row(*(f"{value:.6g}" if isinstance(value, np.floating) else escape(str(value)) for value in row))
    console.print(table)
    if len(rows) > _MAX_ROWS:
        console.print(f"... {len(rows) - _MAX_ROWS} more rows; --json shows all", style="dim")
