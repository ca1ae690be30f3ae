"""What a call of a model server says on the wire: the same rows in each server's own form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dl_inference.messages import ModelInferRequest, ModelInferResponse, SeldonMessage


@dataclass(frozen=True)
class Wire:
    """A protocol, and how a request and an answer look in it."""

    name: str
    path: str
    write: Callable[[np.ndarray], bytes]
    read: Callable[[bytes], np.ndarray]
    content_type: str = "application/grpc"

    @property
    def is_http1(self) -> bool:
        """Whether a connection carries one call at a time."""
        return self.content_type != "application/grpc"


def _write_seldon(x: np.ndarray) -> bytes:
    message: Any = SeldonMessage()
    message.data.tensor.shape.extend(x.shape)
    message.data.tensor.values.extend(x.ravel().tolist())
    return bytes(message.SerializeToString())


def _read_seldon(content: bytes) -> np.ndarray:
    tensor = SeldonMessage.FromString(content).data.tensor
    return np.array(tensor.values).reshape(tensor.shape)


def _write_oip(x: np.ndarray) -> bytes:
    message: Any = ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP64", shape=x.shape)
    message.raw_input_contents.append(x.astype(np.float64).tobytes())
    return bytes(message.SerializeToString())


def _read_oip(content: bytes) -> np.ndarray:
    message: Any = ModelInferResponse.FromString(content)
    output = message.outputs[0]
    dtype = {"FP32": np.float32, "FP64": np.float64}[output.datatype]
    if message.raw_output_contents:
        values = np.frombuffer(message.raw_output_contents[0], dtype)
    else:
        values = np.array(output.contents.fp32_contents or output.contents.fp64_contents)
    return values.reshape(output.shape)


def _write_json(x: np.ndarray) -> bytes:
    return json.dumps({"input": x.tolist()}, separators=(",", ":")).encode()


def _read_json(content: bytes) -> np.ndarray:
    return np.array(json.loads(content)["output"])


SELDON = Wire("Seldon, gRPC", "/seldon.protos.Model/Predict", _write_seldon, _read_seldon)
OIP = Wire("OIP raw, gRPC", "/inference.GRPCInferenceService/ModelInfer", _write_oip, _read_oip)
JSON = Wire("JSON, HTTP/1.1", "/predict", _write_json, _read_json, "application/json")
RAW = Wire(
    "raw doubles, HTTP/1.1",
    "/inference",
    lambda x: x.astype(np.float64).tobytes(),
    lambda content: np.frombuffer(content, np.float64),
    "application/octet-stream",
)
