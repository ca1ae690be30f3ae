"""The real tritonclient against the PyTorch server, directly and through the access service: the same answers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from fixtures import oip_models
from fixtures.access_process import Access
from fixtures.processes import Process

from dl_inference import messages

SCRIPT = Path(__file__).parent / "tritonclient_peer.py"
SEED = 4
MODELS = ("echo", "scores")
INVALID, NOT_FOUND = "StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND"
DATATYPES = "FP32, FP64, INT32, UINT8, INT16, INT8, BYTES, INT64, BOOL, BF16, UINT16, FP16, UINT32, UINT64"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Both model servers' addresses."""
    root = tmp_path_factory.mktemp("triton")
    processes: dict[str, Process] = {name: oip_models.start(getattr(oip_models, name)(root / name)) for name in MODELS}
    try:
        yield {name: oip_models.wait(process) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            print(process.log)


@pytest.fixture(scope="module", params=["direct", "access"])
def addresses(
    request: pytest.FixtureRequest, servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Where each model is called: at its server, or at an access service in front of both."""
    if request.param == "direct":
        yield servers
        return
    started: list[Process] = []

    def run(command: Any, **options: Any) -> Process:
        started.append(Process(command, **options))
        return started[-1]

    try:
        models = {name: {"endpoints": [address]} for name, address in servers.items()}
        access = Access(run, tmp_path_factory.mktemp("access"), {"models": models})
        for name in servers:
            access.wait_live_model(name)
        yield dict.fromkeys(servers, access.address)
    finally:
        for process in started:
            process.kill()
            print(process.log)


@pytest.fixture(scope="module")
def found(addresses: dict[str, str], peer_python: Callable[[str], Path]) -> dict[str, Any]:
    """What the client found there."""
    command = [str(peer_python("triton")), str(SCRIPT), *(addresses[name] for name in MODELS), str(SEED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_every_datatype_comes_back_raw_and_typed(found: dict[str, Any]) -> None:
    assert found["binary"] == dict.fromkeys(DATATYPES.split(", "), True)
    assert found["typed"] == {name: True for name in DATATYPES.split(", ") if name not in ("FP16", "BF16")}


def test_infer_has_names_ids_outputs_and_parameters(found: dict[str, Any]) -> None:
    assert found["scores"]["response"] == ["scores", "1", "one"]
    assert found["scores"]["gzip"] is True
    tags = {"do": "meta", "whole": 7, "half": 0.5, "yes": True}
    meta = {"puid": "m", "tags": tags, "type": "ndarray", "dtype": "float64"}
    assert found["infer"] == {"outputs": [["b"], [1.0, 1.0, 1.0]], "meta": meta}
    assert found["async"] == [float(number) for number in range(20)]


def test_a_stream_goes_on_after_an_error(found: dict[str, Any]) -> None:
    expected: list[list[Any]] = [[str(number), float(number), True] for number in range(10)]
    expected[5] = ["error", "send something else"]
    assert found["stream"] == expected
    assert found["aio"] == [True, True, 0.0, 1.0, 2.0, 3.0]


def test_metadata_and_readiness_are_told(found: dict[str, Any]) -> None:
    described = [["input", "FP32", [-1, 4]], ["output", "FP32", [-1, 3]]]
    assert ["scores", "READY"] in found["metadata"].pop("index")
    assert found["metadata"] == {
        "live": True,
        "ready": True,
        "model ready": True,
        "server": "dl-inference",
        "model": ["scores", ["1"], "pytorch_eager", described],
    }


def test_each_error_has_its_code_and_its_reason(found: dict[str, Any]) -> None:
    version = 'model echo has no version "7" here: this model server serves version 1'
    no_shared = "shared memory is not supported: send tensors in the message, and take them from there"
    assert {name: value for name, value in found["errors"].items() if name not in ("model", "metadata")} == {
        "version": [NOT_FOUND, version],
        "ready": [NOT_FOUND, version],
        "length": [INVALID, 'input "x" of shape [3, 4] and FP32 needs 48 bytes of raw_input_contents, 32 were sent'],
        "datatype": [INVALID, f'input "x": datatype "FLOAT" is not one of {DATATYPES}'],
        "shared": [INVALID, f'input "x": {no_shared}'],
        "classification": [
            INVALID,
            'output "output": classification is not supported: ask for the scores and sort them',
        ],
        "output": [INVALID, 'there is no output "z": the model gives output'],
        "invalid": [INVALID, "send something else"],
        "hook": ["StatusCode.INTERNAL", "the model failed on this request; request id r-1"],
    }
    # The access service has its own words for a model that it has no route to.
    assert [found["errors"][name][0] for name in ("model", "metadata")] == [NOT_FOUND, NOT_FOUND]
    assert found["scores"]["strings"] == [INVALID, "input 'input' holds bytes: this model takes numbers"]


def test_seldon_gives_the_same_numbers(found: dict[str, Any], addresses: dict[str, str]) -> None:
    rows = np.random.default_rng(SEED).normal(size=(3, 4)).astype(np.float32)
    request = messages.SeldonMessage(data={"tensor": {"shape": rows.shape, "values": rows.ravel()}})
    with grpc.insecure_channel(addresses["scores"]) as channel:
        predict = channel.unary_unary(
            "/seldon.protos.Model/Predict",
            messages.SeldonMessage.SerializeToString,
            messages.SeldonMessage.FromString,
        )
        answer = predict(request, timeout=30, metadata=[("x-model", "scores")])
    assert np.array_equal(np.reshape(answer.data.tensor.values, (3, 3)), found["scores"]["numbers"])


@pytest.fixture(scope="module")
def over_http(addresses: dict[str, str], peer_python: Callable[[str], Path]) -> dict[str, Any]:
    """What the client found there over HTTP."""
    script = SCRIPT.with_name("tritonclient_http_peer.py")
    command = [str(peer_python("triton")), str(script), *(addresses[name] for name in MODELS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_over_http_every_datatype_comes_back_as_binary_data_and_as_json(over_http: dict[str, Any]) -> None:
    sent = [name for name in DATATYPES.split(", ") if name != "BF16"]
    assert over_http["binary"] == dict.fromkeys(sent, True)
    assert over_http["json"] == {name: True for name in sent if name != "FP16"}
    assert over_http["compressed"] == [[2, 3], [2, 3]]
    assert over_http["compressed answers"] == [True] * 4


def test_over_http_models_tell_what_they_are(over_http: dict[str, Any]) -> None:
    assert over_http["response"] == ["scores", "1", "one"]
    assert over_http["shape"] == [2, 3]
    assert over_http["states"] == [True, True, True]
    assert over_http["server"] == "dl-inference"
    assert over_http["model"] == ["scores", ["1"], [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}]]


def test_over_http_errors_have_a_status_and_a_reason(over_http: dict[str, Any]) -> None:
    status, reason = over_http["errors"]["version"]
    assert (status, "7" in reason) == ("404", True)
    assert over_http["errors"]["shape"][0] == "400"
    assert over_http["not ready"] is False
