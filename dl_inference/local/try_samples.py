"""A model folder's samples as HTTP requests: what the dashboard's page to try a call begins with.

Read from ``samples/expected.json`` (models/README.md) without numpy's or protobuf's view of them: JSON in, JSON out.
A case that has no form in HTTP is left out; `dl-inference check` says what is wrong with one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from dl_inference.codec import oip
from dl_inference.codec.tensor_proto import from_tensor_proto
from dl_inference.messages import PredictRequest
from dl_inference.serving.expected import FILE

MAX_SAMPLES = 16
MAX_BYTES = 256 * 1024
"""Of the document of one model: it is kept in memory."""

_IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_PREDICT = "/tensorflow.serving.PredictionService/Predict"


def page(model: str, folder: Path) -> dict[str, Any]:
    """Return what /samples/NAME shows.

    Args:
        model: its name.
        folder: of the model; its files may be anything.
    """
    file = folder / FILE
    samples: list[dict[str, Any]] = []
    room = MAX_BYTES
    for index, case in enumerate(_cases(file)):
        try:
            sample = _sample(model, index, case, file.parent)
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        size = len(json.dumps(sample))
        if len(samples) < MAX_SAMPLES and size <= room:
            room -= size
            samples.append(sample)
    return {"samples": samples}


def _cases(file: Path) -> Iterator[dict[str, Any]]:
    try:
        if file.stat().st_size > 16 * MAX_BYTES:
            return
        cases = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    if isinstance(cases, list):
        yield from (case for case in cases if isinstance(case, dict))


def _sample(model: str, index: int, case: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    method, request = case.get("method", ""), case["request"]
    name, image = f"case {index}", None
    if method == oip.INFER:
        path, body = f"/v2/models/{quote(model, safe='')}/infer", _oip(request)
    elif method == _PREDICT:
        path, body = _tfs(model, request)
    elif not method or method.startswith("/seldon.protos."):
        path, body = f"/seldon/try/{quote(model, safe='')}/api/v1.0/predictions", dict(request)
        found = next(_files(request), None)
        if found is not None:
            name = found
            body, image = _with_file(body, folder / found)
    else:
        raise ValueError(f"{method} has no form in HTTP")
    if "error" in case:
        name += " (an error)"
    return {"name": name, "path": path, "body": body, "image": image}


def _files(request: Mapping[str, Any]) -> Iterator[str]:
    tensor = request.get("data", {}).get("tensor", {})
    for each in (request.get("binData"), request.get("strData"), tensor):
        if isinstance(each, dict) and "file" in each:
            yield str(each["file"])


def _with_file(body: dict[str, Any], file: Path) -> tuple[dict[str, Any], str | None]:
    """Return a Seldon message with a file's content in its place, and the image that it is, if any."""
    if file.stat().st_size > MAX_BYTES:
        raise ValueError("too large")
    if "binData" in body:
        content = file.read_bytes()
        text = base64.b64encode(content).decode()
        kind = next((kind for begin, kind in _IMAGES.items() if content.startswith(begin)), None)
        return {**body, "binData": text}, f"data:{kind};base64,{text}" if kind else None
    if "strData" in body:
        return {**body, "strData": file.read_text(encoding="utf-8")}, None
    rows = np.load(file) if file.suffix == ".npy" else np.array(json.loads(file.read_text(encoding="utf-8")))
    return {**body, "data": {**body["data"], "tensor": {"shape": [*rows.shape], "values": rows.ravel().tolist()}}}, None


def _oip(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ModelInferRequest in protobuf's JSON as the protocol's own JSON."""
    inputs = []
    for each in request["inputs"]:
        contents = {**each["contents"]}
        kind, data = contents.popitem()
        if kind == "bytesContents":
            data = [base64.b64decode(item).decode() for item in data]
        elif "int64" in kind.lower():  # which protobuf writes as texts
            data = [int(item) for item in data]
        shape = [int(size) for size in each["shape"]]
        inputs.append({"name": each["name"], "datatype": each["datatype"], "shape": shape, "data": data})
    return {"inputs": inputs}


def _tfs(model: str, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return path and body of TF Serving's ``:predict`` for a PredictRequest in protobuf's JSON."""
    from google.protobuf.json_format import ParseDict  # noqa: PLC0415

    message = ParseDict(dict(request), PredictRequest())
    arrays = {name: from_tensor_proto(tensor) for name, tensor in message.inputs.items()}
    if any(array.dtype.kind not in "fiub" for array in arrays.values()):
        raise ValueError("only numbers")
    spec, place = message.model_spec, f"/v1/models/{quote(model, safe='')}"
    if spec.version_label:
        place += f"/labels/{quote(spec.version_label, safe='')}"
    elif spec.HasField("version"):
        place += f"/versions/{spec.version.value}"
    named = {"signature_name": spec.signature_name} if spec.signature_name else {}
    return f"{place}:predict", {**named, "inputs": {name: array.tolist() for name, array in arrays.items()}}
