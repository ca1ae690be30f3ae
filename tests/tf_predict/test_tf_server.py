"""The TensorFlow server as a process, with a stand-in for TensorFlow (stand_in_server.py): real sockets and signals."""

from __future__ import annotations

import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import stand_in_server
from access_process import wait_until
from processes import Process

from dl_inference.messages import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
    PredictRequest,
    PredictResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
)
from tf_predict.server import RUNNING, serve

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "m", 1, "10")
    return tmp_path / "m"


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def begin(*options: str, **more: Any) -> Server:
        started.append(Server(folder, *options, **more))
        return started[-1]

    yield begin
    for server in started:
        server.stop()
        print(server.process.log)


def failure(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


# --- one server for what changes nothing


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
    assert server.predict(1, name="39") == 21
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
    assert text.startswith("the request is no tensorflow.serving.PredictRequest: ")


def test_a_message_over_the_limit_is_refused_with_the_limit(server: Server):
    code, text = failure(lambda: server.channel.unary_unary(PREDICT)(bytes((64 << 20) + 1), timeout=60))
    assert (code, "67108864" in text) == ("RESOURCE_EXHAUSTED", True)


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


# --- the end


def test_a_drain_lets_calls_end_and_says_not_serving(start: Callable[..., Server], tmp_path: Path):
    server = start()
    watch = server.watch("m")
    assert next(watch) == SERVING
    call = server.start(waits_for(tmp_path / "go"))
    wait_until((tmp_path / "go.waiting").exists, "the call runs")
    server.process.signal(signal.SIGTERM)
    assert list(watch) == [NOT_SERVING]
    assert failure(lambda: server.predict(1))[0] == "UNAVAILABLE"
    (tmp_path / "go").touch()
    assert call.result(20).outputs["y"].string_val[0] == b"10.0"
    assert server.process.wait() == 0


def test_a_second_signal_stops_at_once(start: Callable[..., Server], tmp_path: Path):
    server = start()
    call = server.start(waits_for(tmp_path / "never"))
    wait_until((tmp_path / "never.waiting").exists, "the call runs")
    server.process.signal(signal.SIGINT)
    server.process.wait_line("draining")
    server.process.signal(signal.SIGTERM)
    assert server.process.wait() == 128 + signal.SIGTERM
    assert failure(lambda: call.result(20))[0] == "UNAVAILABLE"


def test_a_call_that_outlasts_the_drain_is_cut_off_and_told_in_the_status(start: Callable[..., Server], tmp_path: Path):
    server = start(env={"DL_INFERENCE_DRAIN_TIMEOUT_MS": "300"})
    call = server.start(waits_for(tmp_path / "never"))
    wait_until((tmp_path / "never.waiting").exists, "the call runs")
    server.process.signal(signal.SIGTERM)
    assert server.process.wait() == 1
    assert "stopped with 1 calls unanswered" in server.process.log
    assert failure(lambda: call.result(20))[0] in ("UNAVAILABLE", "CANCELLED")


# --- too many


def test_a_call_whose_deadline_passed_while_it_waited_is_not_run(start: Callable[..., Server], tmp_path: Path):
    server = start()
    files = [tmp_path / f"call-{index}" for index in range(RUNNING)]
    calls = [server.start(waits_for(file)) for file in files]
    wait_until(lambda: all(file.with_suffix(".waiting").exists() for file in files), "every thread is busy")
    assert failure(lambda: server.call(PREDICT, waits_for(tmp_path / "late"), PredictResponse, 0.3))[0] == (
        "DEADLINE_EXCEEDED"
    )
    for file in files:
        file.touch()
    for call in calls:
        call.result(20)
    assert server.predict(1) == 11
    assert not (tmp_path / "late.waiting").exists()


def test_more_calls_than_the_limit_are_refused_with_the_limit(start: Callable[..., Server], tmp_path: Path):
    server = start(env={"DL_INFERENCE_MAX_QUEUE": "1"})
    call = server.start(waits_for(tmp_path / "go"))
    wait_until((tmp_path / "go.waiting").exists, "the call runs")
    code, text = failure(lambda: server.predict(1))
    assert code == "RESOURCE_EXHAUSTED"
    assert "the limit (DL_INFERENCE_MAX_QUEUE) is 1" in text
    assert server.check("") == SERVING
    (tmp_path / "go").touch()
    call.result(20)


# --- the folder changes


def test_a_new_version_takes_over_and_the_old_one_ends_its_calls(start: Callable[..., Server], folder: Path):
    server = start()
    call = server.start(waits_for(folder.parent / "go"))
    wait_until((folder.parent / "go.waiting").exists, "the call runs")
    write(folder, 2, "20")
    wait_until(lambda: server.predict(1) == 21, "version 2 answers", 20)
    wait_until(lambda: server.states() == {1: 40, 2: 30}, "version 1 is unloading")
    assert failure(lambda: server.predict(1, version=1)) == (
        "NOT_FOUND",
        "Servable not found for request: Specific(m, 1)",
    )
    (folder.parent / "go").touch()
    assert call.result(20).outputs["y"].string_val[0] == b"10.0"
    wait_until(lambda: server.states() == {1: 50, 2: 30}, "version 1 has ended")


def test_a_version_that_cannot_be_loaded_is_told_and_the_old_one_serves_on(start: Callable[..., Server], folder: Path):
    server = start()
    write(folder, 2, "broken")
    server.process.wait_line("version 2 is not served; what was loaded is served on")
    assert (server.states(), server.predict(1)) == ({1: 30, 2: 50}, 11)
    (folder / "model.yaml").write_text("vesrions: [1]")
    server.process.wait_line("did you mean 'versions'")
    assert server.predict(1) == 11
    (folder / "model.yaml").write_text("versions: [1]\nlabels: {good: 1}")
    wait_until(lambda: "good" in label_of(server), "the label is known")
    assert server.process.log.count("version 2 is not served") == 1


def label_of(server: Server) -> str:
    try:
        return "good" if server.predict(1, label="good") == 11 else ""
    except grpc.RpcError:
        return ""


def test_a_version_that_was_chosen_stays_whatever_comes(start: Callable[..., Server], folder: Path):
    write(folder, 2, "20")
    server = start("--version", "1")
    assert (server.predict(1), server.states()) == (11, {1: 30})
    assert "loading" not in server.process.log.partition("serving m version 1")[2]


# --- addresses and folders


def test_it_listens_on_a_unix_socket(start: Callable[..., Server], folder: Path):
    assert start(address=f"unix:{folder.parent}/s.sock").predict(1) == 11


def start_failure(caplog: pytest.LogCaptureFixture, folder: Path, *listen: str, **options: Any) -> str:
    """Return the log of a start that fails."""
    caplog.set_level("INFO")
    assert serve(folder, list(listen or ["127.0.0.1:0"]), load=stand_in_server.load, **options) == 1
    return caplog.text


@pytest.mark.parametrize("kind", ["port", "socket"])
def test_an_address_in_use_is_told_before_the_model_loads(folder: Path, caplog: Any, kind: str):
    path = str(folder.parent / "s.sock")
    with socket.socket(socket.AF_INET if kind == "port" else socket.AF_UNIX) as other:
        other.bind(("127.0.0.1", 0) if kind == "port" else path)
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}" if kind == "port" else f"unix:{path}"
        log = start_failure(caplog, folder, address)
    assert f"cannot listen on {address}: Address already in use" in log
    assert "loading" not in log


@pytest.mark.parametrize("address", ["5000", "::1:5000", "host:port", "127.0.0.1:65536", "unix:/no/such/folder/s"])
def test_an_address_that_is_none_is_told(folder: Path, caplog: Any, address: str):
    assert "cannot listen on " in start_failure(caplog, folder, address)


@pytest.mark.parametrize(
    ("breakage", "words"),
    [
        (lambda folder: (folder / "1" / "saved_model.pb").write_text("broken"), "cannot be loaded: it is broken"),
        (lambda folder: (folder / "1" / "saved_model.pb").unlink(), "holds no SavedModel"),
        (lambda folder: (folder / "model.yaml").write_text("timeout: 1"), "did you mean 'timeout_ms'?"),
    ],
    ids=["broken", "empty", "settings"],
)
def test_a_folder_that_cannot_be_served_is_told(folder: Path, caplog: Any, breakage: Callable[[Path], Any], words: str):
    breakage(folder)
    assert words in start_failure(caplog, folder)


def test_a_version_that_is_not_there_is_told(folder: Path, caplog: Any):
    assert "there is no version 9; found: 1" in start_failure(caplog, folder, model_version=9)


def test_a_setting_that_does_not_fit_is_told(folder: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DL_INFERENCE_MAX_QUEUE", "many")
    assert "DL_INFERENCE_MAX_QUEUE=many" in start_failure(caplog, folder)
