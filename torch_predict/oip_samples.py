"""Samples of the Open Inference Protocol: requests and expected answers in protobuf's JSON form, as arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.json_format import ParseDict, ParseError

from dl_inference.codec import dtypes, oip
from dl_inference.messages import ModelInferRequest, ModelInferResponse

METHOD = oip.INFER

Array = np.ndarray[Any, Any]


def request_of(request: dict[str, Any], folder: Path) -> tuple[dict[str, Array], dict[str, Any], dict[str, Any]]:
    """Return what the native front makes of a request: the inputs' arrays, the meta, parameters of single inputs.

    Args:
        request: a ModelInferRequest in JSON. An input's contents may be ``{"file": "seven.png"}``: the array of a .npy
            file, of another one its bytes, one BYTES element.
        folder: where the files are.

    Raises:
        ValueError: it is none; BadTensorError is one.
    """
    inputs = request.get("inputs", [])
    files = {each["name"]: each["contents"]["file"] for each in inputs if "file" in each.get("contents", {})}
    typed = [each | {"contents": {}} if each["name"] in files else each for each in inputs]
    message = _message(request | {"inputs": typed}, ModelInferRequest())
    answer: Any = ModelInferResponse(raw_output_contents=message.raw_input_contents)
    for each in message.inputs:
        if each.name not in files:
            answer.outputs.add(name=each.name, datatype=each.datatype, shape=each.shape, contents=each.contents)
    arrays = oip.outputs_of(answer) | {name: _array(folder / file) for name, file in files.items()}
    meta: dict[str, Any] = {"puid": message.id} if message.id else {}
    if tags := oip.parameters_of(message):
        meta["tags"] = tags
    own = {each.name: oip.parameters_of(each) for each in message.inputs if each.parameters}
    return {each["name"]: _as_front(arrays[each["name"]]) for each in inputs}, meta, own


def _message(content: dict[str, Any], empty: Any) -> Any:
    try:
        return ParseDict(content, empty)
    except ParseError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _array(file: Path) -> Array:
    if file.suffix == ".npy":
        array: Array = np.load(file)
        return array
    array = np.empty(1, object)
    array[0] = file.read_bytes()
    return array


def _as_front(array: Array) -> Array:
    """Return an array as the front hands it over: without bfloat16, which numpy does not have."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def expected_outputs(expect: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be in `plain_outputs` of an answer; of an output without contents its type and shape.

    Args:
        expect: a part of a ModelInferResponse in JSON.

    Raises:
        ValueError: it is none.
    """
    message = _message(expect, ModelInferResponse())
    is_raw = bool(message.raw_output_contents)
    bare = [each for each in message.outputs if not is_raw and not each.HasField("contents")]
    for each in bare:
        message.outputs.remove(each)
    found: dict[str, Any] = plain_outputs(oip.outputs_of(message))["outputs"]
    for each in bare:
        parts = {"datatype": each.datatype, "shape": [*each.shape]}
        found[each.name] = {name: part for name, part in parts.items() if part}
    return {"outputs": found}


def plain_outputs(outputs: Mapping[str, Array]) -> dict[str, Any]:
    """Return outputs as JSON, by name, so that their order does not matter."""
    return {"outputs": {name: _plain(name, np.asarray(array)) for name, array in outputs.items()}}


def _plain(name: str, array: Array) -> dict[str, Any]:
    if array.dtype.kind in dtypes.TEXT_KINDS:
        texts = [text.decode(errors="backslashreplace") for text in dtypes.to_texts(array)]
        values: Any = np.array(texts, object).reshape(array.shape).tolist()
        if name == "jsonData" and len(texts) == 1:  # numbers in it may differ a little, and its spaces a lot
            values = json.loads(texts[0])
        return {"datatype": "BYTES", "shape": [*array.shape], "values": values}
    datatype = dtypes.dtype_of(array, name, oip=True).oip
    return {"datatype": datatype, "shape": [*array.shape], "values": _as_front(array).tolist()}


def message_of(inputs: Mapping[str, Array], meta: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the ModelInferRequest that `request_of` made these of."""
    message = oip.request("", inputs, parameters=meta.get("tags"))
    message.id = meta.get("puid", "")
    for each in message.inputs:
        for name, value in own.get(each.name, {}).items():
            each.parameters[name].CopyFrom(oip.request("", {}, parameters={name: value}).parameters[name])
    return message
