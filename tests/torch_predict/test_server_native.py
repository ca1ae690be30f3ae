"""The model server as a process, with the real native front and an ordinary grpcio client."""

from __future__ import annotations

import base64
import re
import signal
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import torch
from fixtures.processes import Process
from google.protobuf.json_format import MessageToDict, ParseDict

from dl_inference import messages
from dl_inference.messages import HealthCheckRequest, HealthCheckResponse, SeldonMessage

MODEL_PY = "import torch\nclass Model(torch.nn.Linear):\n    def __init__(self): super().__init__(2, 1)\n"
SERVE = """
import sys
from dl_inference.serving.options import ServeOptions
from torch_predict.server import serve
sys.exit(serve(ServeOptions(model_dir=sys.argv[1], listen=sys.argv[2:])))
"""
PROCESSOR = """
import time, threading, os
from pathlib import Path
import numpy as np, torch, torch_predict
from google.protobuf.any_pb2 import Any

def preprocess(x, **kwargs):
    if isinstance(x, str):
        if x == "slow":
            Path("slow").touch()
            while not Path("go").exists(): time.sleep(0.01)
        elif x == "invalid": raise torch_predict.InvalidInput("send something else")
        elif x == "error": raise torch_predict.Error("ABORTED", "not now")
        elif x == "raise": raise KeyError("password=1234")
        elif x == "exit": os.sys.exit(3)
        elif x == "tuple": return (1,)
        elif x == "int keys": return {1: 2}
        elif x == "numpy in dict": return {"a": np.float32(1)}
        elif x == "meta": return kwargs["meta"]
        elif x == "kwargs": return {"keys": list(kwargs)}
    if isinstance(x, np.ndarray):
        if x.dtype.kind in "f" and x.ndim: x /= 1
        if x.tolist() == [[99]]: return {"dtype": str(x.dtype), "shape": list(x.shape)}
    return x

def run_model(model, x, **kwargs): return x
"""


@pytest.fixture
def folder(write):
    return fill(write({}))


def fill(folder):
    (folder / "model.py").write_text(MODEL_PY)
    (folder / "processor.py").write_text(PROCESSOR)
    torch.save({"weight": torch.tensor([[1.0, 10.0]]), "bias": torch.zeros(1)}, folder / "model.pt")
    return folder


class Server:
    def __init__(self, run, folder, listen="127.0.0.1:0", **variables):
        env = {"DL_INFERENCE_TORCH_THREADS": "1", "DL_INFERENCE_DRAIN_TIMEOUT_MS": "5000", **variables}
        self.process = run([sys.executable, "-c", SERVE, folder, listen], env=env)
        self.address = self.process.wait_line(r"serving m version 1 on (\S+)", timeout_s=60)[1]
        self.channel = grpc.insecure_channel(self.address)

    def method(self, path, request, answer):
        return self.channel.unary_unary(
            path, request_serializer=request.SerializeToString, response_deserializer=answer.FromString
        )

    def predict(self, request, path="/seldon.protos.Model/Predict", **options):
        message = request if isinstance(request, SeldonMessage) else ParseDict(request, SeldonMessage())
        return self.method(path, SeldonMessage, SeldonMessage)(message, timeout=20, **options)

    def ask(self, request, **options):
        return MessageToDict(self.predict(request, **options))

    def error(self, request, **options):
        with pytest.raises(grpc.RpcError) as caught:
            self.predict(request, **options)
        return caught.value

    def health(self):
        call = self.method("/grpc.health.v1.Health/Check", HealthCheckRequest, HealthCheckResponse)
        return call(HealthCheckRequest(service=""), timeout=5).status


@pytest.fixture
def own(run, folder):
    """Start a server that the test may end."""
    server = Server(run, folder)
    yield server
    server.channel.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Start one server for all tests that leave it as it was: importing torch takes seconds."""
    folder = tmp_path_factory.mktemp("served") / "m"
    folder.mkdir()
    server = Server(Process, fill(folder))
    yield server
    server.channel.close()
    server.process.kill()


def tensor(array):
    return {"data": {"tensor": {"shape": list(array.shape), "values": array.ravel().tolist()}}}


def test_every_kind_of_payload_comes_back_as_compat_md_says(server):
    cases = [
        (tensor(np.ones((2, 2))), {"data": {"names": ["t:0", "t:1"], **tensor(np.ones((2, 2)))["data"]}}),
        ({"data": {"ndarray": [[1.0, 2.0]]}}, {"data": {"names": ["t:0", "t:1"], "ndarray": [[1.0, 2.0]]}}),
        ({"data": {"ndarray": ["a", "b"]}}, {"data": {"ndarray": ["a", "b"]}}),
        ({"data": {"ndarray": [1.0, "a"]}}, {"data": {"ndarray": ["1.0", "a"]}}),
        ({"data": {"ndarray": [{"a": 1.0}, None]}}, {"data": {"ndarray": [{"a": 1.0}, None]}}),
        ({"data": {"ndarray": [True]}}, {"data": {"ndarray": [True]}}),
        ({"strData": "text"}, {"strData": "text"}),
        ({"binData": "AAE="}, {"binData": "AAE="}),
        ({"jsonData": {"a": [1.0, None, "x"]}}, {"jsonData": {"a": [1.0, None, "x"]}}),
        ({"jsonData": [1.0, 2.0]}, tensor(np.array([1.0, 2.0]))),
        ({"jsonData": ["a"]}, {"data": {"ndarray": ["a"]}}),
        ({"jsonData": "s"}, {"strData": "s"}),
        ({"data": {}}, {"data": {"ndarray": []}}),
    ]
    for request, expected in cases:
        answer = server.ask(request)
        assert answer.pop("meta") == {}, request
        assert answer == expected, request


def test_a_tftensor_keeps_its_dtype(server):
    for dtype, number in ((np.float32, 1), (np.int64, 9), (np.uint8, 4), (np.float64, 2), (np.bool_, 10)):
        array = np.array([[1, 0, 1]], dtype)
        request = SeldonMessage()
        request.data.tftensor.dtype = number
        request.data.tftensor.tensor_content = array.tobytes()
        for size in array.shape:
            request.data.tftensor.tensor_shape.dim.add(size=size)
        answer = server.predict(request)
        if dtype is np.bool_:
            assert MessageToDict(answer.data.ndarray) == [[True, False, True]]
            continue
        assert answer.data.tftensor.dtype == number
        assert answer.data.tftensor.tensor_content == array.tobytes()


def test_an_any_comes_back(server):
    request = SeldonMessage()
    request.customData.Pack(SeldonMessage(strData="inside"))
    inside = SeldonMessage()
    assert server.predict(request).customData.Unpack(inside)
    assert inside.strData == "inside"


def test_hooks_get_exactly_meta_and_float64(server):
    meta = {"tags": {"taskId": 39, "model": "m"}, "requestPath": {"a": "b"}, "puid": "p"}
    answer = server.ask({"strData": "meta", "meta": meta})
    assert answer["jsonData"] == {"tags": {"taskId": 39.0, "model": "m"}, "requestPath": {"a": "b"}, "puid": "p"}
    assert answer["meta"] == {"tags": {"taskId": 39.0, "model": "m"}, "requestPath": {"a": "b"}, "puid": "p"}
    assert server.ask({"strData": "kwargs"})["jsonData"] == {"keys": ["meta"]}
    assert server.ask(tensor(np.array([[99.0]])))["jsonData"] == {"dtype": "float64", "shape": [1.0, 1.0]}


def test_both_services_answer(server):
    assert server.ask({"strData": "x"}, path="/seldon.protos.Seldon/Predict")["strData"] == "x"


def test_a_version_that_the_metadata_asks_for_is_the_servers_or_not_found(server):
    for own in ("1", ""):
        assert server.ask({"strData": "x"}, metadata=[("x-model-version", own)])["strData"] == "x"
    for other in ("7", "01", "stable"):
        error = server.error({"strData": "x"}, metadata=[("x-model-version", other)])
        assert error.code() is grpc.StatusCode.NOT_FOUND, other
        assert error.details().startswith("model m has no version")
        assert error.details().endswith("serves version 1")


def test_errors_have_their_codes_texts_and_kinds(server):
    cases = [
        ({"strData": "invalid"}, grpc.StatusCode.INVALID_ARGUMENT, r"^send something else$", "bad_request"),
        ({"strData": "error"}, grpc.StatusCode.ABORTED, r"^not now$", "hook"),
        ({"strData": "raise"}, grpc.StatusCode.INTERNAL, r"^the model failed on this request; request id r-7$", "hook"),
        ({"strData": "exit"}, grpc.StatusCode.INTERNAL, r"^the model failed on this request; request id r-7$", "hook"),
        ({"strData": "tuple"}, grpc.StatusCode.INTERNAL, r"cannot be sent: it is a tuple", "hook"),
        ({"strData": "int keys"}, grpc.StatusCode.INTERNAL, r"it has a key of type int; make it str", "hook"),
        ({"jsonData": 1.0}, grpc.StatusCode.INTERNAL, r"it is a float", "hook"),
        ({"jsonData": None}, grpc.StatusCode.INTERNAL, r"it is a NoneType", "hook"),
        ({"data": {"ndarray": [[1], [1, 2]]}}, grpc.StatusCode.INVALID_ARGUMENT, r"ragged", "bad_request"),
        ({}, grpc.StatusCode.INVALID_ARGUMENT, r"no payload", "bad_request"),
    ]
    for request, code, text, trailer in cases:
        error = server.error(request, metadata=[("x-request-id", "r-7")])
        assert (error.code(), dict(error.trailing_metadata()).get("access-error")) == (code, trailer), request
        assert re.search(text, error.details()), error.details()
    assert "password=1234" in server.process.log
    assert "request r-7 failed" in server.process.log


def test_numpys_values_in_a_hooks_dict_are_sent(server):
    assert server.ask({"strData": "numpy in dict"})["jsonData"] == {"a": 1.0}


def test_many_calls_at_once_get_their_own_answers(server):
    def call(number):
        return server.ask(tensor(np.full((1, 3), float(number))))["data"]["tensor"]["values"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, range(300))) == [[float(number)] * 3 for number in range(300)]


def test_it_is_healthy_when_it_serves(server):
    assert server.health() == 1


def test_a_signal_lets_the_call_in_flight_finish(own, folder):
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(own.ask, {"strData": "slow"})
        wait_for(folder / "slow")
        own.process.signal(signal.SIGTERM)
        own.process.wait_line("draining")
        (folder / "go").touch()
        assert slow.result(20)["strData"] == "slow"
    assert own.process.wait() == 0


def test_a_second_signal_stops_at_once(own, folder):
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(own.error, {"strData": "slow"})
        wait_for(folder / "slow")
        own.process.signal(signal.SIGTERM)
        own.process.wait_line("draining")
        own.process.signal(signal.SIGTERM)
        assert own.process.wait() == 128 + signal.SIGTERM
        assert slow.result(20).code() == grpc.StatusCode.UNAVAILABLE


def test_it_listens_on_a_unix_socket(run, folder, tmp_path):
    server = Server(run, folder, f"unix:{tmp_path}/{uuid.uuid4().hex[:8]}.sock")
    assert server.ask({"strData": "x"})["strData"] == "x"
    server.channel.close()


def test_an_address_in_use_is_told(run, folder, server):
    second = run([sys.executable, "-c", SERVE, folder, server.address])
    second.wait_line("cannot serve", timeout_s=60)
    assert second.wait() == 1
    assert server.address in second.log


def test_the_descriptors_of_reflection_are_there():
    assert messages.DESCRIPTORS


def wait_for(file):
    """Wait until a hook has made the file; the hook runs in another process, so there is no event to wait on."""
    tick = threading.Event()
    for _ in range(2000):
        if file.exists():
            return
        tick.wait(0.01)
    raise AssertionError(f"{file} did not come")


def test_the_limit_of_messages_can_be_set(run, folder):
    (folder / "model.yaml").write_text("limits: {max_message_bytes: 1024, max_streams: 7}")
    server = Server(run, folder, DL_INFERENCE_LIMITS__MAX_MESSAGE_BYTES="2048")
    error = server.error({"binData": base64.b64encode(bytes(3000)).decode()})
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "over the limit of 2048 (max_message_bytes)" in error.details()
    assert server.ask({"strData": "small"})["strData"] == "small"
    server.channel.close()
