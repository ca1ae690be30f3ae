"""The examples' own samples (`samples/expected.json`, models/README.md) as calls of an ordinary grpcio client."""

from __future__ import annotations

import base64
import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict, ParseDict

from dl_inference.messages import PredictRequest, PredictResponse, SeldonMessage

CALL_S = 20.0
SELDON = "/seldon.protos.Model/Predict"
TYPES = {
    SELDON: (SeldonMessage, SeldonMessage),
    "/tensorflow.serving.PredictionService/Predict": (PredictRequest, PredictResponse),
}
"""Request and answer of the methods that a case may name; Seldon's where it names none."""


@dataclass(frozen=True)
class Sample:
    """One case of an example.

    Attributes:
        model: the example's name.
        shown: the input in words.
        picture: the file, where the input is one.
        method: path of the gRPC method.
        request: the message.
        expect: the part of the answer that must be there, in protobuf's JSON form.
        tolerance: by how much its numbers may differ.
    """

    model: str
    shown: str
    picture: Path | None
    method: str
    request: Any
    expect: Any
    tolerance: float


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered call.

    Attributes:
        shown: the part of the answer that the sample expects, in a few words.
        is_right: it is as the sample expects.
        endpoint: who served, by the trailer `access-endpoint`.
        attempts: how many endpoints were tried.
        begun: time.monotonic() when it was sent.
        took_ms: from sending to the answer.
    """

    shown: str
    is_right: bool
    endpoint: str
    attempts: int
    begun: float
    took_ms: float


class Caller:
    """An ordinary grpcio client of the address where everything is served."""

    def __init__(self, address: str) -> None:
        # A proxy for the web has no business between two programs of this machine.
        self._channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        self._methods = {
            path: self._channel.unary_unary(
                path, request_serializer=request.SerializeToString, response_deserializer=answer.FromString
            )
            for path, (request, answer) in TYPES.items()
        }

    def predict(self, sample: Sample) -> Answer:
        """Send a sample to its model.

        Raises:
            grpc.RpcError: it was not answered.
        """
        begun = time.monotonic()
        message, call = self._methods[sample.method].with_call(sample.request, timeout=CALL_S)
        took_ms = (time.monotonic() - begun) * 1000
        trailers = dict(call.trailing_metadata())
        content = MessageToDict(message)
        shown = _short(_part(sample.expect, content))
        is_right = agrees(sample.expect, content, sample.tolerance)
        return Answer(shown, is_right, trailers["access-endpoint"], int(trailers["access-attempts"]), begun, took_ms)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def read(folder: Path) -> list[Sample]:
    """Return the samples of an example that are to be answered; those of bad input are for the tests."""
    file = folder / "samples" / "expected.json"
    cases = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return [_sample(folder, case) for case in cases if "expect" in case and case.get("method", SELDON) in TYPES]


def agrees(expect: Any, answer: Any, tolerance: float) -> bool:
    """Tell whether an answer holds what is expected: objects may hold more keys, numbers may differ a little."""
    if isinstance(expect, dict) and isinstance(answer, dict):
        return all(key in answer and agrees(expect[key], answer[key], tolerance) for key in expect)
    if isinstance(expect, list) and isinstance(answer, list):
        pairs = zip(expect, answer, strict=False)
        return len(expect) == len(answer) and all(agrees(one, other, tolerance) for one, other in pairs)
    if _is_number(expect) and _is_number(answer):
        return math.isclose(expect, answer, rel_tol=0, abs_tol=tolerance)
    return type(expect) is type(answer) and expect == answer


def _sample(folder: Path, case: dict[str, Any]) -> Sample:
    method = case.get("method", SELDON)
    content = copy.deepcopy(case["request"])
    files = [_fill(content, key, folder / "samples") for key in ("binData", "strData")]
    files.append(_fill(content.get("data", {}), "tensor", folder / "samples"))
    file = next((file for file in files if file is not None), None)
    shown = file.name if file else _short(content)[:40]
    picture = file if file is not None and file.suffix == ".png" else None
    request = ParseDict(content, TYPES[method][0]())
    if method == SELDON:  # TF Serving's messages name the model themselves
        request.meta.tags["model"].string_value = folder.name
    return Sample(folder.name, shown, picture, method, request, case["expect"], case.get("tolerance", 0))


def _fill(holder: dict[str, Any], key: str, folder: Path) -> Path | None:
    """Put a file's content in place of its name; return the file."""
    value = holder.get(key)
    if not isinstance(value, dict) or "file" not in value:
        return None
    file = folder / value["file"]
    if key == "binData":
        holder[key] = base64.b64encode(file.read_bytes()).decode()
    elif key == "strData":
        holder[key] = file.read_text(encoding="utf-8")
    else:
        array = np.asarray(np.load(file) if file.suffix == ".npy" else json.loads(file.read_text()), dtype=np.float64)
        holder[key] = {"shape": list(array.shape), "values": array.ravel().tolist()}
    return file


def _part(expect: Any, answer: Any) -> Any:
    """Return of an answer what is expected of it, without looking whether it agrees."""
    if isinstance(expect, dict) and isinstance(answer, dict):
        return {key: _part(expect[key], answer[key]) for key in expect if key in answer}
    if isinstance(expect, list) and isinstance(answer, list) and len(expect) == len(answer):
        return [_part(one, other) for one, other in zip(expect, answer, strict=True)]
    return answer


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(_items(value))
    if isinstance(value, list):
        words = [_short(each) for each in value[:4]]
        return f"[{', '.join(words)}{', ...' if len(value) > 4 else ''}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _items(value: dict[str, Any]) -> Iterator[str]:
    for key, item in list(value.items())[:4]:
        text = _short(item)
        yield text if key in ("data", "jsonData", "predictions", "tensor") else f"{key} {text}"
    if len(value) > 4:
        yield "..."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
