"""The TensorFlow server as a process, with a stand-in for TensorFlow (stand_in_server.py), and what tests ask it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from fixtures.processes import Process

from dl_inference.messages import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    HealthCheckRequest,
    HealthCheckResponse,
    PredictRequest,
    PredictResponse,
)

STAND_IN = Path(__file__).with_name("stand_in_server.py")
START_S = 60
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
PREDICT = "/tensorflow.serving.PredictionService/Predict"


class Server:
    """A running stand-in server and a channel to it."""

    def __init__(self, folder: Path, *options: str, env: dict[str, str] | None = None, address: str = "127.0.0.1:0"):
        self.process = Process([sys.executable, STAND_IN, folder, address, *options], env=env)
        self.address = self.process.wait_line(r"serving \S+ version \d+ on (\S+)", timeout_s=START_S)[1]
        local = [("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", "localhost")]
        self.channel = grpc.insecure_channel(self.address, options=local)

    def call(self, path: str, request: Any, response: Any, timeout: float | None = 20) -> Any:
        return self._multi(path, request, response).__call__(request, timeout=timeout)

    def start(self, request: Any, timeout: float | None = 60) -> grpc.Future:
        """Begin a Predict."""
        return self._multi(PREDICT, request, PredictResponse).future(request, timeout=timeout)

    def predict(self, x: float, timeout: float | None = 20, **spec: Any) -> float:
        return self.call(PREDICT, number(x, **spec), PredictResponse, timeout).outputs["y"].float_val[0]

    def states(self, name: str = "m") -> dict[int, int]:
        request = GetModelStatusRequest()
        request.model_spec.name = name
        answer = self.call("/tensorflow.serving.ModelService/GetModelStatus", request, GetModelStatusResponse)
        return {each.version: each.state for each in answer.model_version_status}

    def check(self, service: str) -> int:
        return self.call(
            "/grpc.health.v1.Health/Check", HealthCheckRequest(service=service), HealthCheckResponse
        ).status

    def watch(self, service: str) -> Iterator[int]:
        stub = self.channel.unary_stream(
            "/grpc.health.v1.Health/Watch", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
        )
        return (answer.status for answer in stub(HealthCheckRequest(service=service), timeout=60))

    def stop(self) -> None:
        self.channel.close()
        self.process.kill()

    def _multi(self, path: str, request: Any, response: Any) -> grpc.UnaryUnaryMultiCallable:
        return self.channel.unary_unary(path, type(request).SerializeToString, response.FromString)


def number(x: float, name: str = "m", version: int = 0, label: str = "", signature: str = "") -> Any:
    request: Any = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    request.inputs["x"].dtype = 1
    request.inputs["x"].float_val.append(x)
    return request


def waits_for(file: Path) -> Any:
    request: Any = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "m", "wait"
    request.inputs["x"].dtype = 7
    request.inputs["x"].string_val.append(str(file).encode())
    return request


def write(folder: Path, version: int, text: str) -> None:
    """Put a version there as a careful copier does: complete, then renamed."""
    part = folder / f".part-{version}"
    part.mkdir(parents=True)
    (part / "saved_model.pb").write_text(text)
    part.rename(folder / str(version))


def failure(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()
