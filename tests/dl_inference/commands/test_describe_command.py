"""`dl-inference describe`, and `call` without --protocol: servers of each kind, which know their own protocol only."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
from fixtures.command_line import Echo, command

from dl_inference import messages as m

OIP, TFS, SELDON = "/inference.GRPCInferenceService/", "/tensorflow.serving.", "/seldon.protos."
X = {"name": "x", "datatype": "FP32", "shape": [-1, 3]}


class Kind(grpc.GenericRpcHandler):
    """An endpoint of some methods: those that it has a fixed answer for, and predictions, which give the input back."""

    def __init__(self, predict: str, answers: dict[str, Any]) -> None:
        self.asked: list[str] = []
        self._predict, self._answers, self._echo = predict, answers, Echo()

    def service(self, details: Any) -> Any:
        self.asked.append(details.method.rpartition("/")[2])
        if details.method.startswith(self._predict) and details.method.endswith(("Predict", "ModelInfer")):
            return self._echo.service(details)
        answer = self._answers.get(details.method)
        if answer is None:
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, context: answer.SerializeToString())


def signatures() -> Any:
    found = m.SignatureDefMap()
    serving = found.signature_def["serving_default"]
    serving.inputs["x"].dtype = 1
    for size in (-1, 3):
        serving.inputs["x"].tensor_shape.dim.add(size=size)
    serving.outputs["score"].dtype = 1
    found.signature_def["other"].method_name = "tensorflow/serving/predict"
    answer = m.GetModelMetadataResponse()
    answer.metadata["signature_def"].Pack(found)
    return answer


def states() -> Any:
    return m.GetModelStatusResponse(model_version_status=[{"version": 2, "state": 30}, {"version": 1, "state": 50}])


def pytorch() -> Kind:
    metadata = m.ModelMetadataResponse(
        name="m", versions=["1"], platform="pytorch_exported", inputs=[X], outputs=[{**X, "name": "y"}]
    )
    return Kind(SELDON, {OIP + "ModelMetadata": metadata, TFS + "ModelService/GetModelStatus": states()})


def triton() -> Kind:
    metadata = m.ModelMetadataResponse(name="m", versions=["1"], platform="onnxruntime_onnx", inputs=[X])
    return Kind(OIP, {OIP + "ModelMetadata": metadata})


def tf_serving() -> Kind:
    return Kind(
        TFS,
        {TFS + "PredictionService/GetModelMetadata": signatures(), TFS + "ModelService/GetModelStatus": states()},
    )


def seldon_core() -> Kind:
    metadata = m.message_class("seldon.protos.SeldonModelMetadata")(name="m", versions=["a"], platform="seldon")
    return Kind(SELDON, {SELDON + "Model/Metadata": metadata})


@pytest.fixture
def start() -> Iterator[Callable[[Kind], str]]:
    servers = []

    def start(kind: Kind) -> str:
        server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(kind,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(0).wait()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            pytorch,
            ["seldon, oip", "pytorch_exported", "1 END, 2 AVAILABLE", "x  float32 [-1, 3]", "y  float32 [-1, 3]"],
        ),
        (triton, ["oip", "onnxruntime_onnx", "x  float32 [-1, 3]", "the server does not say"]),
        (tf_serving, ["tfs", "1 END, 2 AVAILABLE", "x  float32 [-1, 3]", "score  float32 []", "also other"]),
        (seldon_core, ["seldon", "the server does not say"]),
    ],
)
def test_every_kind_of_server_is_described_with_a_call_that_works(start, make, expected):
    to = start(make())
    shown = command("describe", "m", "--to", to)
    assert shown.exit_code == 0, shown.output + shown.stderr
    for text in expected:
        assert text in shown.output
    call = shlex.split(shown.output.splitlines()[-1])
    assert call[:3] == ["dl-inference", "call", "m"]
    if call[3] == "INPUT":
        call[3] = "[[1, 2, 3]]"
    answer = command(*call[1:])
    assert answer.exit_code == 0, answer.output + answer.stderr
    assert "(1, 3)" in answer.output


@pytest.mark.parametrize(("name", "word"), [("binData", "FILE"), ("strData", "'\"text\"'"), ("jsonData", "JSON")])
def test_an_input_of_seldons_own_kinds_is_called_with_that_kind(start, name, word):
    tensor = {"name": name, "datatype": "BYTES", "shape": [1]}
    metadata = m.ModelMetadataResponse(name="m", versions=["1"], platform="pytorch_exported", inputs=[tensor])
    address = start(Kind(SELDON, {OIP + "ModelMetadata": metadata}))
    assert f"dl-inference call m {word} --to {address}" in command("describe", "m", "--to", address).output


def test_a_description_is_there_as_json(start):
    found = json.loads(command("describe", "m", "--address", start(tf_serving()), "--json").output)
    assert found["inputs"] == {"x": {"name": "x", "dtype": "float32", "shape": [-1, 3]}}
    assert (found["protocols"], found["versions"]) == (["tfs"], {"1": "END", "2": "AVAILABLE"})


def test_who_cannot_describe_a_model_is_named(start, free_port):
    to = start(Kind(SELDON, {}))
    failed = command("describe", "m", "--to", to)
    assert failed.exit_code == 1
    assert f"UNIMPLEMENTED from {to}" in failed.stderr
    nobody = command("describe", "m", "--to", f"127.0.0.1:{free_port()}")
    assert (nobody.exit_code, "is the server running" in nobody.stderr) == (1, True)


@pytest.mark.parametrize("make", [triton, tf_serving])
def test_a_call_without_a_protocol_finds_the_models_own(start, make):
    kind = make()
    to = start(kind)
    answer = command("call", "m", "[[1, 2, 3]]", "--to", to)
    assert answer.exit_code == 0, answer.output + answer.stderr
    # Whole numbers, but the model takes float32: its only input, whose name need not be said.
    assert "x float32 (1, 3)" in answer.output
    assert kind.asked[0] == "Predict"
    named = command("call", "m", '{"x": [[1, 2, 3]]}', "--to", to)
    assert "x float32 (1, 3)" in named.output


def test_a_model_that_answers_seldons_protocol_is_asked_nothing_else(start):
    kind = pytorch()
    assert command("call", "m", "[[1, 2, 3]]", "--to", start(kind)).exit_code == 0
    assert kind.asked == ["Predict"]


def test_what_standard_input_holds_is_there_for_the_second_protocol_too(start):
    answer = command("call", "m", "-", "--to", start(triton()), input="[[1, 2, 3]]")
    assert "x float32 (1, 3)" in answer.output, answer.stderr


def test_a_value_that_seldons_messages_cannot_hold_goes_by_the_protocol_that_can(start, tmp_path):
    file = tmp_path / "input.npz"
    np.savez(file, x=np.array([2**60 + 1]))
    answer = command("call", "m", file, "--to", start(triton()))
    assert "x int64 (1,)" in answer.output, answer.stderr
    refused = command("call", "m", file, "--to", start(seldon_core()))
    assert refused.exit_code == 2
    assert "would round" in refused.stderr


def test_a_call_that_no_protocol_can_make_fails_as_its_first_attempt_did(start):
    failed = command("call", "m", "[[1]]", "--to", start(Kind(" none", {})))
    assert failed.exit_code == 1
    assert "UNIMPLEMENTED" in failed.stderr
