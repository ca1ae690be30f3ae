"""Answers as `dl-inference call` prints them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from google.protobuf import json_format
from rich.console import Console

from dl_inference import messages
from dl_inference.client.prediction import Answer
from dl_inference.commands import call_output

ODD_NUMBERS = {"a": [float("nan"), {"b": float("-inf")}], "c": float("inf")}
WRITTEN = {"a": ["NaN", {"b": "-Infinity"}], "c": "Infinity"}


def seldon(**fields: Any) -> Any:
    message: Any = messages.SeldonMessage(**fields)
    return message


def with_value(message: Any, value: Any) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            with_value(message.struct_value.fields[key], each)
    elif isinstance(value, list):
        for each in value:
            with_value(message.list_value.values.add(), each)
    else:
        message.number_value = value


def odd_messages() -> list[tuple[Any, Any]]:
    json_data, rows, tags, custom = seldon(), seldon(), seldon(strData="x"), seldon()
    with_value(json_data.jsonData, ODD_NUMBERS)
    with_value(rows.data.ndarray.values.add(), [float("nan")])
    with_value(tags.meta.tags["t"], float("inf"))
    custom.customData.type_url, custom.customData.value = "of/nobody.Known", b"\x01"
    custom.meta.puid = "7"
    return [
        (json_data, {"jsonData": WRITTEN}),
        (rows, {"data": {"ndarray": [["NaN"]]}}),
        (tags, {"strData": "x", "meta": {"tags": {"t": "Infinity"}}}),
        (custom, {"customData": {"@type": "of/nobody.Known", "value": "AQ=="}, "meta": {"puid": "7"}}),
    ]


@pytest.mark.parametrize("index", range(4))
def test_what_json_has_no_form_for_is_printed_as_text(index):
    message, expected = odd_messages()[index]
    answer = Answer(took_ms=1.0, trailers={}, request_id="r", message=message)
    found = json.loads(call_output.to_json(answer), parse_constant=pytest.fail)["answer"]
    assert found == expected
    console = Console(file=io.StringIO(), width=100)
    call_output.show(console, answer)
    assert console.file.getvalue()


def test_what_json_has_a_form_for_is_protobufs_own():
    message = seldon(binData=b"\x00")
    answer = Answer(took_ms=1.0, trailers={}, request_id="r", message=message)
    assert json.loads(call_output.to_json(answer))["answer"] == json_format.MessageToDict(message)
