"""`/openapi.json`: what each model takes, from the model's own metadata, whoever answers and whoever does not."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from fixtures.access_process import Access, wait_until
from fixtures.processes import Process
from native.test_worker import Served, echo

from dl_inference import messages

WAIT_S = 30.0
FLOATS = {"name": "x", "dtype": "float32", "shape": [-1, 2]}


class TensorFlow(grpc.GenericRpcHandler):
    """A server that knows TF Serving's GetModelMetadata only."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def service(self, details: Any) -> Any:
        if not details.method.endswith("/GetModelMetadata"):
            return None
        self.calls.append(dict(details.invocation_metadata))
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: self._metadata())

    def _metadata(self) -> bytes:
        signatures: Any = messages.SignatureDefMap()
        inputs = signatures.signature_def["serving_default"].inputs
        inputs["n"].dtype = 9
        inputs["n"].tensor_shape.dim.add(size=-1)
        inputs["t"].dtype = 7
        inputs["t"].tensor_shape.unknown_rank = True
        answer: Any = messages.message_class("tensorflow.serving.GetModelMetadataResponse")()
        answer.metadata["signature_def"].Pack(signatures)
        data: bytes = answer.SerializeToString()
        return data


@pytest.fixture(scope="module")
def tensorflow() -> Iterator[tuple[str, TensorFlow]]:
    handler = TensorFlow()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", handler
    server.stop(0).wait()


@pytest.fixture(scope="module")
def floats() -> Iterator[Served]:
    outputs = [{"name": "y", "dtype": "float32", "shape": [2]}]
    served = Served(model="floats", inputs=[FLOATS], outputs=outputs, platform="test").answer(echo)
    yield served
    served.close()


class Silent(grpc.GenericRpcHandler):
    """A server that answers nothing before its end."""

    def __init__(self) -> None:
        self.end = threading.Event()

    def service(self, _details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: self.end.wait(60) and b"")


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    handler = Silent()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    handler.end.set()
    server.stop(0).wait()


@pytest.fixture(scope="module")
def access(
    floats: Served, tensorflow: tuple[str, TensorFlow], silent: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Access]:
    started: list[Process] = []

    def run(command: Any, **options: Any) -> Process:
        started.append(Process(command, **options))
        return started[-1]

    models = {
        "floats": {"endpoints": [floats.address]},
        "columns": {"endpoints": [tensorflow[0]]},
        "silent": {"endpoints": [silent]},
        "ghost": {"endpoints": [floats.address]},
    }
    try:
        access = Access(run, tmp_path_factory.mktemp("access"), {"models": models})
        for name in ("floats", "columns", "silent"):
            access.wait_live_model(name)
        yield access
    finally:
        for process in started:
            process.kill()
            print(process.log)


def ask(address: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=WAIT_S)
    data = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, data, headers)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


@pytest.fixture(scope="module")
def document(access: Access) -> dict[str, Any]:
    status, found = ask(access.address, "/openapi.json")
    assert status == 200
    document: dict[str, Any] = found
    return document


def body_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    content: dict[str, Any] = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return content


def test_a_model_is_described_by_its_own_metadata(document: dict[str, Any]) -> None:
    content = body_of(document, "/v2/models/floats/infer")
    properties = content["schema"]["allOf"][1]["properties"]["inputs"]["items"]["properties"]
    assert properties["name"] == {"const": "x"}
    assert properties["datatype"] == {"const": "FP32"}
    assert (properties["shape"]["minItems"], properties["shape"]["maxItems"]) == (2, 2)
    answer = document["paths"]["/v2/models/floats/infer"]["post"]["responses"]["200"]
    outputs = answer["content"]["application/json"]["schema"]["allOf"][1]["properties"]["outputs"]["items"]
    assert outputs["properties"]["shape"] == {"const": [2]}
    tag = next(tag for tag in document["tags"] if tag["name"] == "floats")
    assert tag["x-inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


def test_the_example_of_a_model_is_a_request_that_it_answers(access: Access, document: dict[str, Any]) -> None:
    for path in ("/v2/models/floats/infer", "/v1/models/floats:predict"):
        status, answer = ask(access.address, path, body_of(document, path)["example"])
        assert status == 200, answer


def test_a_model_of_tf_serving_is_described_by_its_signature(document: dict[str, Any]) -> None:
    assert "/v2/models/columns/infer" in document["paths"], "it is translated"
    content = body_of(document, "/v1/models/columns:predict")
    row = content["schema"]["allOf"][1]["properties"]["instances"]["items"]
    assert row["properties"] == {
        "n": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
        "t": {},
    }
    assert "example" not in content  # nobody knows how many dimensions t has


def test_a_model_that_does_not_answer_is_described_as_any_model(document: dict[str, Any]) -> None:
    for name in ("silent", "ghost"):  # the server knows no ghost
        path = f"/v2/models/{name}/infer"
        assert body_of(document, path)["schema"] == {"$ref": "#/components/schemas/InferRequest"}


def test_the_document_is_valid(
    access: Access, floats: Served, tmp_path: Path, peer_python: Callable[[str], Path]
) -> None:
    validator = peer_python("schemathesis").with_name("openapi-spec-validator")
    files = []
    for number, address in enumerate((access.address, floats.address)):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(ask(address, "/openapi.json")[1]))
    done = subprocess.run([validator, *files], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_model_can_be_asked_for_by_its_name(access: Access) -> None:
    status, found = ask(access.address, "/openapi.json?model=floats")
    assert status == 200
    assert [tag["name"] for tag in found["tags"]] == ["server", "any model", "floats"]
    status, problem = ask(access.address, "/openapi.json?model=nobody")
    assert (status, problem["kind"]) == (404, "no_route")
    status, problem = ask(access.address, "/openapi.json?model=")
    assert (status, problem["kind"]) == (400, "bad_request")


def test_many_who_ask_at_once_ask_the_models_once_and_without_their_headers(
    access: Access, tensorflow: tuple[str, TensorFlow]
) -> None:
    calls = tensorflow[1].calls

    def ask_anew() -> bool:
        """Ask until the document before is too old."""
        before = len(calls)
        ask(access.address, "/openapi.json", authorization="secret")
        return len(calls) > before

    wait_until(ask_anew, "the models are asked again", 20)
    before = len(calls)
    with futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: ask(access.address, "/openapi.json", authorization="secret"), range(20)))
    assert len(calls) <= before + 1  # on a slow machine it may have become too old meanwhile
    assert all("authorization" not in each for each in calls)


def test_500_models_are_named_and_described_one_by_one(start_access: Callable[..., Access], floats: Served) -> None:
    models = {f"m{number:03}": {"cluster": "fleet"} for number in range(499)} | {"floats": {"cluster": "fleet"}}
    access = start_access({"clusters": {"fleet": {"endpoints": [floats.address]}}, "models": models})
    access.wait_live(floats.address)
    started = time.monotonic()
    _, found = ask(access.address, "/openapi.json")
    assert time.monotonic() - started < 3  # nobody is asked
    assert found["components"]["parameters"]["Model"]["schema"]["examples"] == sorted(models)
    assert len(json.dumps(found)) < 100_000
    assert body_of(ask(access.address, "/openapi.json?model=floats")[1], "/v2/models/floats/infer")["example"]
