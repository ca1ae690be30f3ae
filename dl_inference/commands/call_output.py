"""How `dl-inference call` shows an answer of any of the protocols."""

import base64
import json
import math
from typing import Any

import numpy as np
from google.protobuf import json_format
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dl_inference.client.prediction import Answer
from dl_inference.codec import oip, seldon, tfs
from dl_inference.codec.dtypes import Array
from dl_inference.codec.errors import BadTensorError

_MAX_ROWS = 20


def show(console: Console, answer: Answer[Any]) -> None:
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


def to_json(answer: Answer[Any]) -> str:
    """Return an answer for programs: the message in protobuf's JSON, and how the call went."""
    message = _as_dict(answer.message, preserving_proto_field_name=True)
    return json.dumps(
        {"answer": message, "took_ms": round(answer.took_ms, 3), "trailers": dict(answer.trailers)}, sort_keys=True
    )


def _as_dict(message: Any, **options: Any) -> dict[str, Any]:
    """Return a message as protobuf's JSON has it, and what that has no form for as text.

    Numbers of JSON that are not finite become ``"NaN"`` and ``"Infinity"``, as those of tensors are; of a message in an
    Any whose type nobody knows there are the bytes, as base64.
    """
    copy = type(message)()
    copy.CopyFrom(message)
    if copy.DESCRIPTOR.name == "SeldonMessage":
        if copy.HasField("jsonData"):
            _write_out(copy.jsonData)
        for value in [*copy.data.ndarray.values, *copy.meta.tags.values()]:
            _write_out(value)
    try:
        found: dict[str, Any] = json_format.MessageToDict(copy, **options)
        return found
    except TypeError:  # "Can not find message descriptor by type_url"
        custom = copy if copy.DESCRIPTOR.name == "Any" else copy.customData
        form = {"@type": custom.type_url, "value": base64.b64encode(custom.value).decode()}
        if custom is copy:
            return form
        copy.ClearField("customData")
        return {**json_format.MessageToDict(copy, **options), "customData": form}


def _write_out(value: Any) -> None:
    """Make texts of the numbers in a google.protobuf.Value that JSON has not."""
    kind = value.WhichOneof("kind")
    if kind == "number_value" and not math.isfinite(value.number_value):
        number = value.number_value
        value.string_value = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    inner = value.struct_value.fields.values() if kind == "struct_value" else ()
    for each in [*inner, *(value.list_value.values if kind == "list_value" else ())]:
        _write_out(each)


def _how(answer: Answer[Any]) -> str:
    parts = [f"{answer.took_ms:.1f} ms"]
    for trailer, word in (("access-endpoint", "by"), ("access-attempts", "attempts"), ("x-request-id", "request")):
        if trailer in answer.trailers:
            parts.append(f"{word} {answer.trailers[trailer]}")
    return " · ".join(parts)


def _fields(message: Any) -> list[tuple[str, Any]]:
    """Return the named values of an answer of any protocol."""
    kind = message.DESCRIPTOR.name
    try:
        if kind == "PredictResponse":
            return [(name, _readable(array)) for name, array in tfs.outputs_of(message).items()]
        if kind == "ModelInferResponse":
            return [(name, _readable(array)) for name, array in oip.outputs_of(message).items()]
        found = _seldon_value(message)
    except BadTensorError as error:
        return [("answer", _as_dict(message)), ("problem", str(error))]
    tags = seldon.tags_of(message)
    return [*found, *([("tags", tags)] if tags else [])]


def _seldon_value(message: Any) -> list[tuple[str, Any]]:
    which = message.WhichOneof("data_oneof")
    if which is None:
        return [("answer", "(empty)")]
    if which == "customData":
        return [(which, _as_dict(message.customData))]
    value = seldon.value_of(message)
    if which != "data":
        return [(which, value)]
    inner = str(message.data.WhichOneof("data_oneof"))
    return [(inner, value.tolist() if inner == "ndarray" else _readable(value))]


def _readable(array: Array) -> Array:
    if array.dtype != object:
        return array
    texts = np.empty(array.size, object)
    texts[:] = [item.decode(errors="backslashreplace") for item in array.flat]
    return texts.reshape(array.shape)


def _show_array(console: Console, array: Array, names: list[str]) -> None:
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
