"""The stubs that protoc makes of protos/ for Java and Go, compiled, call through the access service; and grpcurl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from fixtures.access_process import Access
from fixtures.lacking import lacking
from fixtures.processes import ROOT
from stand_in import BROKEN, StandIn

GO = ROOT / ".peers" / "go"
JAVA = ROOT / ".peers" / "java"


@pytest.fixture(scope="module")
def access(shared_access: Callable[[Mapping[str, Any]], Access]) -> Iterator[Access]:
    endpoint = StandIn()
    models = {name: {"cluster": "fleet"} for name in ("m", "39", "broken")}
    access = shared_access({"clusters": {"fleet": {"endpoints": [endpoint.address]}}, "models": models})
    access.wait_live(endpoint.address)
    yield access
    endpoint.stop()


def run(command: list[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=100, **options
    )


def found(command: list[str | Path]) -> dict[str, str]:
    """Run a client; return the "name=value" lines that it prints."""
    done = run(command)
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def expected(language: str, separator: str, codes: list[str]) -> dict[str, str]:
    """Return what both clients find; a list is written with that separator, a code in the language's way."""
    doubled, same = ([separator.join(each)] for each in (["3", "5"], ["1.5", "2.5"]))
    if language == "java":
        doubled = ["3.0, 5.0"]
    return {
        "tfs": f"[{doubled[0]}]",
        "dl_inference tfs": f"[{doubled[0]}] m",
        "signature": "tensorflow/serving/predict",
        "seldon": f"[{same[0]}]",
        "dl_inference seldon": f"[{same[0]}]",
        "oip": f"7 [1{separator}2]",
        "dl_inference oip": f"7 [1{separator}2]",
        "oip stream": "3",
        "error": f"{codes[0]} no_route from-{language}",
        "endpoint's error": f"{codes[1]} {BROKEN}",
        "health": "SERVING",
    }


def test_go_stubs_call_every_protocol_and_see_metadata_and_codes(access: Access) -> None:
    if not (GO / ".installed").exists():
        lacking("no Go client: make peers, with Go installed")
    assert found([GO / "bin" / "call", access.address]) == expected("go", " ", ["NotFound", "FailedPrecondition"])


def test_java_stubs_call_every_protocol_and_see_metadata_and_codes(access: Access) -> None:
    if not (JAVA / ".installed").exists():
        lacking("no Java client: make peers, with a JDK and Maven installed")
    command = ["java", "-XX:+UseSerialGC", "-cp", f"{JAVA / 'classes'}:{JAVA / 'lib'}/*", "Call", access.address]
    assert found(command) == expected("java", ", ", ["NOT_FOUND", "FAILED_PRECONDITION"])


def test_protoc_compiles_every_proto_for_python_java_and_go(
    system_program: Callable[[str], str], tmp_path: Path
) -> None:
    protoc = system_program("protoc")
    if not (GO / ".installed").exists():
        lacking("no protoc-gen-go: make peers, with Go installed")
    protos = sorted(str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos").rglob("*.proto"))
    for language in ("python", "java", "go"):
        (tmp_path / language).mkdir()
        plugin = f"--plugin=protoc-gen-go={GO / 'bin' / 'protoc-gen-go'}"
        done = run([protoc, "-I", ROOT / "protos", plugin, f"--{language}_out={tmp_path / language}", *protos])
        assert (done.returncode, done.stderr) == (0, "")
        suffix = {"python": "_pb2.py", "java": ".java", "go": ".pb.go"}[language]
        written = list((tmp_path / language).rglob(f"*{suffix}"))
        assert len(written) >= len(protos)


# --- grpcurl: it knows the address only, all else by reflection


@pytest.fixture
def grpcurl(access: Access) -> Callable[..., subprocess.CompletedProcess[str]]:
    if not (GO / ".installed").exists():
        lacking("no grpcurl: make peers, with Go installed")
    return lambda *words: run([GO / "bin" / "grpcurl", "-plaintext", *words])


Grpcurl = Callable[..., subprocess.CompletedProcess[str]]


def test_grpcurl_lists_and_describes_the_services(grpcurl: Grpcurl, access: Access) -> None:
    listed = grpcurl(access.address, "list").stdout.split()
    assert {"tensorflow.serving.PredictionService", "seldon.protos.Seldon", "grpc.health.v1.Health"} <= set(listed)
    described = grpcurl(access.address, "describe", "tensorflow.serving.PredictionService.Predict").stdout
    assert "rpc Predict ( .tensorflow.serving.PredictRequest ) returns ( .tensorflow.serving.PredictResponse );" in (
        described
    )
    assert "map<string, .tensorflow.TensorProto> inputs = 2;" in (
        grpcurl(access.address, "describe", "tensorflow.serving.PredictRequest").stdout
    )


def test_grpcurl_calls_every_protocol(grpcurl: Grpcurl, access: Access) -> None:
    shape = {"dim": [{"size": 1}]}
    tensor = {"dtype": "DT_FLOAT", "tensorShape": shape, "floatVal": [1.5]}
    predict = {"modelSpec": {"name": "m"}, "inputs": {"x": tensor}}
    done = grpcurl("-d", json.dumps(predict), access.address, "tensorflow.serving.PredictionService/Predict")
    assert json.loads(done.stdout)["outputs"]["y"]["floatVal"] == [3], done.stderr
    seldon = {"meta": {"tags": {"taskId": 39}}, "jsonData": {"a": [1, None]}}
    service = "com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService"
    done = grpcurl("-d", json.dumps(seldon), access.address, f"{service}/PytorchPredict")
    assert json.loads(done.stdout)["jsonData"] == {"a": [1, None]}, done.stderr
    infer = {"modelName": "m", "id": "7", "rawInputContents": ["AQI="]}
    done = grpcurl("-d", json.dumps(infer) * 2, access.address, "inference.GRPCInferenceService/ModelStreamInfer")
    assert done.stdout.count('"rawOutputContents"') == 2, done.stderr


def test_grpcurl_sees_the_error_its_text_and_its_trailers(grpcurl: Grpcurl, access: Access) -> None:
    predict = {"modelSpec": {"name": "stranger"}}
    done = grpcurl("-v", "-d", json.dumps(predict), access.address, "tensorflow.serving.PredictionService/Predict")
    assert done.returncode == 64 + grpc.StatusCode.NOT_FOUND.value[0]
    assert "Code: NotFound" in done.stderr
    assert "access-error: no_route" in done.stdout


def test_grpcurl_checks_health_and_finds_nothing_at_a_wrong_name(grpcurl: Grpcurl, access: Access) -> None:
    done = grpcurl("-d", '{"service": "m"}', access.address, "grpc.health.v1.Health/Check")
    assert json.loads(done.stdout) == {"status": "SERVING"}
    assert "does not include a method" in grpcurl(access.address, "grpc.health.v1.Health/NoSuch").stderr
