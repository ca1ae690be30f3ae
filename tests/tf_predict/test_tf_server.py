"""What one running TensorFlow server answers (stand_in_process.py)."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stand_in_process import PREDICT, SERVICE_UNKNOWN, SERVING, Server, failure, number, waits_for, write

from dl_inference.messages import (
    HealthListRequest,
    HealthListResponse,
    PredictRequest,
    PredictResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("models") / "folder"
    write(place, 1, "10")
    write(place, 2, "20")
    write(place, 3, "30")
    (place / "model.yaml").write_text("versions: [1, 2]\nlabels: {stable: 1}\naliases: [39]\ntimeout_ms: 500\n")
    running = Server(place, "--admin", "127.0.0.1:0", "--name", "m")
    yield running
    running.stop()
    print(running.process.log)


def test_the_latest_of_the_versions_to_serve_answers_unless_another_is_asked_for(server: Server):
    assert [server.predict(1), server.predict(1, version=1), server.predict(1, label="stable")] == [21, 11, 11]
    assert server.states() == {1: 30, 2: 30}


def test_the_model_answers_to_its_name_and_aliases(server: Server):
    # As the access service passes on what it has routed by its task id.
    assert [server.predict(1, name=name) for name in ("39", "bc-39", "x-039-", "x-+39")] == [21] * 4
    for name in ("bc-40", "39-x", "bc39", "x-"):
        assert failure(lambda name=name: server.predict(1, name=name))[0] == "NOT_FOUND"
    assert failure(lambda: server.predict(1, name="folder")) == (
        "NOT_FOUND",
        "Servable not found for request: Latest(folder)",
    )


def test_health_knows_the_server_and_the_model(server: Server):
    assert [server.check(service) for service in ("", "m", "39")] == [SERVING] * 3
    code, text = failure(lambda: server.check("x"))
    assert (code, "known: m, 39" in text) == ("NOT_FOUND", True)
    assert next(server.watch("m")) == SERVING
    assert next(server.watch("x")) == SERVICE_UNKNOWN
    listed = server.call("/grpc.health.v1.Health/List", HealthListRequest(), HealthListResponse)
    assert {name: each.status for name, each in listed.statuses.items()} == {"": 1, "m": 1, "39": 1}


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_what_is_served(server: Server, version: str):
    stub = server.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        ServerReflectionRequest.SerializeToString,
        ServerReflectionResponse.FromString,
    )
    asked = [
        ServerReflectionRequest(list_services=""),
        ServerReflectionRequest(file_containing_symbol="tensorflow.serving.PredictionService.Predict"),
        ServerReflectionRequest(file_by_filename="tensorflow_serving/apis/predict.proto"),
        ServerReflectionRequest(file_containing_symbol="no.such.Symbol"),
    ]
    services, method, file, error = stub(iter(asked), timeout=20)
    assert "tensorflow.serving.PredictionService" in [each.name for each in services.list_services_response.service]
    assert b"prediction_service.proto" in method.file_descriptor_response.file_descriptor_proto[0]
    assert len(file.file_descriptor_response.file_descriptor_proto) > 3
    assert error.error_response.error_code == 5


def test_a_call_without_a_deadline_has_that_of_model_yaml(server: Server, tmp_path: Path):
    code, text = failure(lambda: server.call(PREDICT, waits_for(tmp_path / "x"), PredictResponse, None))
    assert (code, text) == ("DEADLINE_EXCEEDED", "no answer within 500 ms")
    (tmp_path / "x").touch()


def test_a_fault_in_the_model_is_internal_and_tells_no_secret(server: Server):
    request = number(float("nan"))
    call = server.channel.unary_unary(PREDICT, PredictRequest.SerializeToString)
    code, text = failure(lambda: call(request, timeout=20, metadata=[("x-request-id", "r-1")]))
    assert (code, text) == ("INTERNAL", "internal error; request id r-1")
    server.process.wait_line("request r-1 failed")
    server.process.wait_line("ZeroDivisionError: a secret")


def test_bytes_that_are_no_message_are_an_invalid_argument(server: Server):
    code, text = failure(lambda: server.channel.unary_unary(PREDICT)(b"\xff\xff", timeout=20))
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("the request is not a tensorflow.serving.PredictRequest: ")


def test_a_message_over_the_limit_is_refused_with_the_limit(server: Server):
    code, text = failure(lambda: server.channel.unary_unary(PREDICT)(bytes((64 << 20) + 1), timeout=60))
    assert (code, "67108864" in text) == ("RESOURCE_EXHAUSTED", True)


def test_the_limit_of_messages_can_be_set(start: Callable[..., Server]):
    server = start(env={"DL_INFERENCE_LIMITS__MAX_MESSAGE_BYTES": "2048"})
    code, text = failure(lambda: server.channel.unary_unary(PREDICT)(bytes(2049), timeout=60))
    assert (code, "2048" in text) == ("RESOURCE_EXHAUSTED", True)
    assert server.predict(1) == 11


def test_a_method_that_is_not_there_is_unimplemented(server: Server):
    assert failure(lambda: server.channel.unary_unary("/tensorflow.serving.X/Y")(b"", timeout=20))[0] == "UNIMPLEMENTED"


def test_the_admin_port_answers(server: Server):
    admin = server.process.wait_line(r"admin port on (\S+)")[1]

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://{admin}{path}", timeout=10) as answer:
            return answer.read().decode()

    server.predict(1)
    assert (get("/live"), get("/ready")) == ("live\n", "ready\n")
    label = 'method="tensorflow.serving.PredictionService/Predict",model="m",code="OK"'
    assert f"dl_requests_total{{{label}}} " in get("/metrics")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get("/status")
