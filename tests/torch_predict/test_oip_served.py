"""OIP on the PyTorch server: the real process, our messages, an ordinary grpcio client."""

from __future__ import annotations

import json
import queue
import signal
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from fixtures import oip_models
from fixtures.processes import Process

from dl_inference import messages as m

SERVICE = "/inference.GRPCInferenceService/"
DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class Server:
    """A running model server and a client."""

    def __init__(self, process: Process, name: str) -> None:
        self.process, self.name = process, name
        self.address = oip_models.wait(process)
        self.channel = grpc.insecure_channel(self.address)

    def ask(self, method: str, request: Any, **options: Any) -> Any:
        answer = getattr(m, f"{method}Response")
        call = self.channel.unary_unary(f"{SERVICE}{method}", type(request).SerializeToString, answer.FromString)
        return call(request, timeout=30, **options)

    def infer(
        self, inputs: dict[str, Any], parameters: dict[str, Any] | None = None, **fields: Any
    ) -> dict[str, np.ndarray[Any, Any]]:
        return outputs(self.ask("ModelInfer", self.request(inputs, parameters, **fields)))

    def error(self, request: Any, method: str = "ModelInfer", **options: Any) -> Any:
        with pytest.raises(grpc.RpcError) as caught:
            self.ask(method, request, **options)
        return caught.value

    def request(self, inputs: dict[str, Any], parameters: dict[str, Any] | None = None, **fields: Any) -> Any:
        """Return a request with raw contents."""
        request = m.ModelInferRequest(**{"model_name": self.name, **fields})
        for name, array in inputs.items():
            request.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
            request.raw_input_contents.append(raw(array))
        for name, value in (parameters or {}).items():
            field = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
            setattr(request.parameters[name], field, value)
        return request


def datatype_of(array: Any) -> str:
    return "BYTES" if array.dtype == object else next(name for name, d in DTYPES.items() if d == array.dtype.type)


def raw(array: Any) -> bytes:
    if array.dtype != object:
        return bytes(array.tobytes())
    return b"".join(struct.pack("<I", len(each)) + each for each in array.flat)


def outputs(answer: Any) -> dict[str, np.ndarray[Any, Any]]:
    assert len(answer.outputs) == len(answer.raw_output_contents)
    return {
        o.name: decoded(o.datatype, list(o.shape), content)
        for o, content in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }


def decoded(datatype: str, shape: list[int], content: bytes) -> np.ndarray[Any, Any]:
    if datatype != "BYTES":
        return np.frombuffer(content, DTYPES[datatype]).reshape(shape)
    found = []
    while content:
        (length,) = struct.unpack("<I", content[:4])
        found.append(content[4 : 4 + length])
        content = content[4 + length :]
    return strings(*found).reshape(shape)


def strings(*values: bytes) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    root = tmp_path_factory.mktemp("oip")
    processes = {
        make.__name__: oip_models.start(make(root / make.__name__)) for make in (oip_models.echo, oip_models.scores)
    }
    try:
        yield {name: Server(process, name) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            print(process.log)


@pytest.fixture
def echo(servers: dict[str, Server]) -> Server:
    return servers["echo"]


@pytest.fixture
def scores(servers: dict[str, Server]) -> Server:
    return servers["scores"]


def sample(datatype: str) -> np.ndarray[Any, Any]:
    if datatype == "BYTES":
        return strings(b"", b"a\0b", "é".encode(), b"\xff").reshape(2, 2)
    values = np.array([[0, 1, 1], [1, 0, 1]]) if datatype == "BOOL" else np.array([[0, 1, 100], [7, 8, 9]])
    return values.astype(DTYPES[datatype])


@pytest.mark.parametrize("datatype", [*DTYPES, "BYTES"])
def test_every_datatype_comes_back_as_it_went(echo: Server, datatype: str) -> None:
    array = sample(datatype)
    answer = echo.ask("ModelInfer", echo.request({"any": array}, id="a-1"))
    assert (answer.model_name, answer.model_version, answer.id) == ("echo", "1", "a-1")
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [("output", datatype, list(array.shape))]
    assert np.array_equal(outputs(answer)["output"], array)


@pytest.mark.parametrize("datatype", [*TYPED])
def test_typed_contents_are_the_same_as_raw_ones(echo: Server, datatype: str) -> None:
    array = sample(datatype)
    request = m.ModelInferRequest(model_name="echo")
    tensor = request.inputs.add(name="x", datatype=datatype, shape=array.shape)
    getattr(tensor.contents, TYPED[datatype]).extend(array.ravel().tolist())
    assert np.array_equal(outputs(echo.ask("ModelInfer", request))["output"], array)


def test_bfloat16_is_taken_and_comes_back_as_float32(echo: Server) -> None:
    values = np.array([1.0, -2.5, 65536.0], np.float32)
    request = m.ModelInferRequest(model_name="echo")
    request.inputs.add(name="x", datatype="BF16", shape=[3])
    request.raw_input_contents.append((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    (found,) = outputs(echo.ask("ModelInfer", request)).values()
    assert found.dtype == np.float32
    assert np.array_equal(found, values)


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (1,), (2, 1, 3, 1)])
def test_every_shape_comes_back(echo: Server, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    found = echo.infer({"x": array})["output"]
    assert found.shape == shape
    assert np.array_equal(found, array)


def test_several_inputs_reach_a_hook_by_name_and_go_back_by_name(echo: Server) -> None:
    inputs = {"b": np.arange(3, dtype=np.int16), "a": sample("BYTES"), "c": np.array([np.nan, -0.0, np.inf])}
    found = echo.infer(inputs)
    assert list(found) == ["b", "a", "c"]
    for name, array in inputs.items():
        assert np.array_equal(found[name], array, equal_nan=array.dtype != object)


def test_outputs_are_those_asked_for(echo: Server) -> None:
    request = echo.request({"a": np.ones(1), "b": np.zeros(2)})
    request.outputs.add(name="b")
    assert list(outputs(echo.ask("ModelInfer", request))) == ["b"]
    request.outputs[0].name = "z"
    error = echo.error(request)
    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        'there is no output "z": the model gives a, b',
    )


def test_seldons_other_payloads_have_a_form_here(echo: Server) -> None:
    def type_of(name: str, data: bytes) -> Any:
        (found,) = echo.infer({name: strings(data)}, {"do": "meta"}).values()
        return json.loads(found.item())["type"]

    assert type_of("binData", b"\xff") == "bytes"
    assert type_of("strData", b"text") == "str"
    assert type_of("jsonData", b'{"a": 1}') == "dict"
    assert type_of("text", b"text") == "ndarray"
    assert {name: array.item() for name, array in echo.infer({"x": np.ones(1)}, {"do": "text"}).items()} == {
        "strData": b"text"
    }
    assert echo.infer({"binData": strings(b"\0")})["binData"].item() == b"\0"
    assert json.loads(echo.infer({"jsonData": strings(b'{"a": [1]}')})["jsonData"].item()) == {"a": [1.0]}
    for name, data, text in [
        ("jsonData", strings(b"{"), "is not JSON"),
        ("strData", strings(b"\xff"), "is not UTF-8"),
        ("binData", strings(b"a", b"b"), "is one element of BYTES"),
        ("jsonData", strings(b"[" * 100_000), "is not JSON"),
    ]:
        error = echo.error(echo.request({name: data}))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert text in error.details()


def test_parameters_and_the_id_are_a_hooks_meta(echo: Server) -> None:
    parameters = {"do": "meta", "whole": 2**60, "half": 0.5, "yes": True}
    (found,) = echo.infer({"x": np.ones((1, 2), np.float16)}, parameters, id="p").values()
    assert json.loads(found.item()) == {"puid": "p", "tags": parameters, "type": "ndarray", "dtype": "float16"}


def test_seldon_and_oip_give_the_same_numbers(scores: Server) -> None:
    rows = np.random.default_rng(4).normal(size=(5, 4))
    seldon = m.SeldonMessage(data={"tensor": {"shape": rows.shape, "values": rows.ravel()}})
    call = scores.channel.unary_unary(
        "/seldon.protos.Model/Predict", m.SeldonMessage.SerializeToString, m.SeldonMessage.FromString
    )
    expected = np.array(call(seldon, timeout=30).data.tensor.values).reshape(5, 3)
    for dtype in (np.float64, np.float32):
        found = scores.infer({"whatever": rows.astype(dtype)})["output"]
        assert found.dtype == np.float32
        assert np.array_equal(found, expected.astype(np.float32))
    half = scores.infer({"input": rows.astype(np.float16)})["output"]
    assert np.allclose(half, expected, atol=1e-2)


def test_metadata_is_what_the_samples_showed(scores: Server, echo: Server) -> None:
    metadata = scores.ask("ModelMetadata", m.ModelMetadataRequest(name="scores"))
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("scores", ["1"], "pytorch_eager")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("input", "FP32", [-1, 4])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [("output", "FP32", [-1, 3])]
    assert not echo.ask("ModelMetadata", m.ModelMetadataRequest(name="echo")).inputs  # no samples, nothing known


def test_the_server_tells_of_itself(scores: Server) -> None:
    assert scores.ask("ServerLive", m.ServerLiveRequest()).live
    assert scores.ask("ServerReady", m.ServerReadyRequest()).ready
    assert scores.ask("ModelReady", m.ModelReadyRequest(name="scores", version="1")).ready
    assert scores.ask("ServerMetadata", m.ServerMetadataRequest()).name == "dl-inference"
    (model,) = scores.ask("RepositoryIndex", m.RepositoryIndexRequest(ready=True)).models
    assert (model.name, model.version, model.state) == ("scores", "1", "READY")


def test_a_model_answers_to_its_aliases_and_a_version_to_its_labels(echo: Server) -> None:
    request = echo.request({"x": np.ones(1)}, model_name="39", model_version="stable")
    assert echo.ask("ModelInfer", request).model_name == "echo"
    assert echo.ask("ModelReady", m.ModelReadyRequest(name="39")).ready
    check = echo.channel.unary_unary(
        "/grpc.health.v1.Health/Check", m.HealthCheckRequest.SerializeToString, m.HealthCheckResponse.FromString
    )
    assert check(m.HealthCheckRequest(service="39"), timeout=30).status == 1


def test_a_name_that_ends_in_a_task_id_of_the_model_is_the_models(echo: Server) -> None:
    # The dl_inference service's clients: the access service routes by the 39 and passes the name on.
    for name in ("textcnn-39", "bc-39-", "x-+039"):
        assert echo.ask("ModelInfer", echo.request({"x": np.ones(1)}, model_name=name)).model_name == "echo"
    for name in ("textcnn-40", "39x", "textcnn39"):
        assert echo.error(echo.request({"x": np.ones(1)}, model_name=name)).code() is grpc.StatusCode.NOT_FOUND


def test_tf_servings_health_check_gets_the_version_and_its_state(echo: Server) -> None:
    call = echo.channel.unary_unary(
        "/tensorflow.serving.ModelService/GetModelStatus",
        m.GetModelStatusRequest.SerializeToString,
        m.GetModelStatusResponse.FromString,
    )
    for spec in ({"name": "echo"}, {"name": "39"}, {"name": "echo", "version": {"value": 1}}):
        (status,) = call(m.GetModelStatusRequest(model_spec=spec), timeout=30).model_version_status
        assert (status.version, status.state, status.status.error_code) == (1, 30, 0)
    for spec, text in [
        ({"name": "no"}, 'Could not find any versions of model no: there is no model "no" here'),
        ({"name": "echo", "version": {"value": 7}}, "Could not find version 7 of model echo: "),
    ]:
        with pytest.raises(grpc.RpcError) as caught:
            call(m.GetModelStatusRequest(model_spec=spec), timeout=30)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert caught.value.details().startswith(text)
        assert ("access-error", "model_not_found") in caught.value.trailing_metadata()


def test_errors_have_their_codes_texts_and_kinds(echo: Server, scores: Server) -> None:
    one = {"x": np.ones((1, 4))}
    short = echo.request(one)
    short.raw_input_contents[0] = b"1234"
    invalid, hook = grpc.StatusCode.INVALID_ARGUMENT, (grpc.StatusCode.INTERNAL, "hook")
    cases = [
        (echo, echo.request(one, model_name="no"), grpc.StatusCode.NOT_FOUND, "no model", "model_not_found"),
        (echo, echo.request(one, model_version="7"), grpc.StatusCode.NOT_FOUND, "no version", "model_not_found"),
        (echo, short, invalid, "needs 32 bytes of raw_input_contents, 4 were sent", "bad_request"),
        (echo, echo.request({}), invalid, "no inputs", "bad_request"),
        (echo, echo.request(one, {"do": "invalid"}), invalid, "send something else", "bad_request"),
        (
            echo,
            echo.request(one, {"do": "raise"}),
            hook[0],
            "the model failed on this request; request id r-7",
            hook[1],
        ),
        (
            scores,
            scores.request({"x": sample("BYTES")}),
            invalid,
            "holds bytes: this model takes numbers",
            "bad_request",
        ),
        (scores, scores.request({"a": np.ones(1), "b": np.ones(1)}), invalid, "unexpected inputs", "bad_request"),
    ]
    for server, request, code, text, kind in cases:
        error = server.error(request, metadata=[("x-request-id", "r-7")])
        found = (error.code(), dict(error.trailing_metadata())["access-error"])
        assert found == (code, kind), error.details()
        assert text in error.details()
    assert "password=1234" in echo.process.log


def test_a_stream_answers_in_order_and_goes_on_after_an_error(echo: Server) -> None:
    def requests() -> Iterator[Any]:
        for number in range(10):
            request = echo.request({"x": np.full((2, 2), float(number))}, id=str(number))
            if number == 4:
                request.raw_input_contents[0] = b"too short"
            if number == 6:
                request = echo.request({"x": np.ones(1)}, {"do": "raise"}, id="6")
            yield request

    stream = echo.channel.stream_stream(
        f"{SERVICE}ModelStreamInfer", m.ModelInferRequest.SerializeToString, m.ModelStreamInferResponse.FromString
    )
    answers = list(stream(requests(), timeout=60, metadata=[("x-request-id", "r-9")]))
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(10)]
    for number, answer in enumerate(answers):
        if number in (4, 6):
            assert not answer.infer_response.outputs
            continue
        assert answer.error_message == ""
        assert np.array_equal(outputs(answer.infer_response)["output"], np.full((2, 2), float(number)))
    assert "needs 32 bytes of raw_input_contents, 9 were sent" in answers[4].error_message
    assert answers[6].error_message == "the model failed on this request; request id r-9"


def test_a_drain_answers_what_a_stream_has_sent_and_ends_it(tmp_path: Path) -> None:
    folder = oip_models.echo(tmp_path / "echo")
    process = oip_models.start(folder)
    try:
        server = Server(process, "echo")
        sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stream = server.channel.stream_stream(
            f"{SERVICE}ModelStreamInfer", m.ModelInferRequest.SerializeToString, m.ModelStreamInferResponse.FromString
        )
        call = stream(iter(sent.get, None), timeout=60)
        sent.put(server.request({"x": np.ones(1)}, {"do": "slow"}, id="slow"))
        wait_for(folder / "slow")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(next, call)
            process.signal(signal.SIGTERM)
            process.wait_line("draining")
            (folder / "go").touch()
            assert answer.result(30).infer_response.id == "slow"
            with pytest.raises(grpc.RpcError) as caught:
                pool.submit(next, call).result(30)
        sent.put(None)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert process.wait() == 0
        server.channel.close()
    finally:
        process.kill()


def wait_for(file: Path) -> None:
    """Wait until a hook has made the file; the hook runs in another process, so there is no event to wait on."""
    tick = threading.Event()
    for _ in range(3000):
        if file.exists():
            return
        tick.wait(0.01)
    raise AssertionError(f"{file} did not come")
