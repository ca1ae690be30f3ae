"""The real MLServer behind the access service, called by its own stubs, by Triton's client and with our messages."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from fixtures.access_process import OIP, Access, wait_until
from fixtures.processes import ROOT, Process

from dl_inference import Client, messages

HERE = Path(__file__).parent
START_S = 200
pytestmark = pytest.mark.timeout(START_S + 60)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Keep a port for MLServer, which binds it too (SO_REUSEPORT); this socket does not listen."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@pytest.fixture(scope="module")
def access(
    port: int,
    peer_python: Callable[[str], Path],
    run_shared: Callable[..., Process],
    shared_access: Callable[[Mapping[str, Any]], Access],
    open_channel: Callable[[str], grpc.Channel],
) -> Access:
    python = peer_python("mlserver")
    settings = {"HOST": "127.0.0.1", "GRPC_PORT": str(port), "HTTP_PORT": "0", "METRICS_ENDPOINT": ""}
    settings["PARALLEL_WORKERS"] = "0"  # the models run in the server's own process
    environment = {f"MLSERVER_{name}": value for name, value in settings.items()} | {"PYTHONPATH": str(ROOT)}
    run_shared([python, python.with_name("mlserver"), "start", HERE / "mlserver_models"], env=environment)
    endpoint = f"127.0.0.1:{port}"
    direct = open_channel(endpoint)
    grpc.channel_ready_future(direct).result(START_S)
    ready = direct.unary_unary("/inference.GRPCInferenceService/ServerReady")
    wait_until(lambda: messages.ServerReadyResponse.FromString(ready(b"", timeout=30)).ready, "models load", START_S)
    # MLServer does not know the ghost.
    models = {name: {"cluster": "fleet"} for name in ("echo", "double", "ghost")}
    fleet = {"endpoints": [endpoint], "protocol": "oip"}
    access = shared_access({"clusters": {"fleet": fleet}, "models": models, "admin_methods": True})
    access.wait_live(endpoint)
    return access


@pytest.fixture
def ask(peer_python: Callable[[str], Path], access: Access) -> Callable[[str, str], dict[str, Any]]:
    def run(environment: str, script: str) -> dict[str, Any]:
        command = [str(peer_python(environment)), str(HERE / script), access.address]
        paths = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_S, env=paths)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return run


def test_mlservers_own_stubs_and_codecs_work_unchanged(ask: Callable[[str, str], dict[str, Any]]) -> None:
    assert ask("mlserver", "mlserver_client.py") == {
        "typed": [True, "one", "3", 0],
        "raw": [True, "one", "3", 1],
        "doubled, typed": True,
        "doubled, raw": True,
        "text": ["plain", "gärtner"],
        "version": "3",
        "errors": {
            "inference": ["INVALID_ARGUMENT", "the input does not do"],
            "exception": ["INTERNAL", "boom"],
            "unknown to the endpoint": ["NOT_FOUND", "Model ghost with version  not found"],
            "unknown version": ["NOT_FOUND", "Model echo with version 9 not found"],
            "unknown to the proxy": ["NOT_FOUND"],
        },
        "our messages beside": ["echo", [2, 2]],
        "stream": [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]],
        "metadata": ["test", ["3"], [-1, 2]],
        "ready": True,
        "live": True,
        "repository": [["double", "echo"], "NOT_FOUND", []],
    }


def test_tritons_client_works_unchanged_in_each_way_it_can_call(ask: Callable[[str, str], dict[str, Any]]) -> None:
    dtypes = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]
    assert ask("triton", "triton_client.py") == {
        "dtypes": dtypes,
        "text": ["plain", "gärtner"],
        "doubled": True,
        "typed": ["typed", [0.1, -0.0], 0],
        "version": "3",
        "callbacks": [str(number) for number in range(8)],
        "live": True,
        "ready": True,
        "model ready": True,
        "metadata": ["test", ["3"], ["-1", "2"]],
        "errors": {
            "inference": ["StatusCode.INVALID_ARGUMENT", "the input does not do"],
            "unknown to the endpoint": ["StatusCode.NOT_FOUND", "Model ghost with version  not found"],
            "unknown to the proxy": ["StatusCode.NOT_FOUND"],
            "deadline": ["StatusCode.DEADLINE_EXCEEDED"],
        },
        "unloaded": ["StatusCode.NOT_FOUND"],
        "loaded": [],
        "asyncio": list(range(8)),
    }


def request(model: str, *, raw: bool) -> Any:
    message = messages.ModelInferRequest(model_name=model, id="7")
    tensor = message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    if raw:
        message.raw_input_contents.append(struct.pack("<2f", 1.5, -2.5))
    else:
        tensor.contents.fp32_contents.extend([1.5, -2.5])
    return message


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
@pytest.mark.parametrize("path", [OIP, "/com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService/TisPredict"])
def test_our_messages_reach_it_by_both_methods(
    access: Access, open_channel: Callable[[str], grpc.Channel], path: str, raw: bool
) -> None:
    body = request("double", raw=raw).SerializeToString()
    answer = messages.ModelInferResponse.FromString(open_channel(access.address).unary_unary(path)(body, timeout=30))
    assert (answer.model_name, answer.id, list(answer.outputs[0].shape)) == ("double", "7", [1, 2])
    if raw:
        assert struct.unpack("<2f", answer.raw_output_contents[0]) == (3.0, -5.0)
    else:
        assert list(answer.outputs[0].contents.fp32_contents) == [3.0, -5.0]


def test_its_error_to_a_model_it_lacks_passes_on_as_it_is(
    access: Access, open_channel: Callable[[str], grpc.Channel], port: int
) -> None:
    ready = messages.ModelReadyRequest(name="ghost").SerializeToString()
    found = []
    for address in (access.address, f"127.0.0.1:{port}"):
        with pytest.raises(grpc.RpcError) as caught:
            open_channel(address).unary_unary("/inference.GRPCInferenceService/ModelReady")(ready, timeout=30)
        found.append((caught.value.code(), caught.value.details()))
    assert found[0] == found[1]
    assert found[0][0] is grpc.StatusCode.UNKNOWN


def test_our_clients_stream_reads_mlservers_answers(access: Access) -> None:
    with Client(access.address, timeout_ms=60_000) as client:
        found = list(client.stream_oip("echo", ({"x": np.float32([[count, 0]])} for count in range(5))))
    assert [next(iter(each.outputs.values())).tolist() for each in found] == [[[count, 0]] for count in range(5)]
