"""MLServer and seldon-core's wrapper, asked over their own REST ports and over ours in front of them: the same answers.

What differs on purpose is in ``DIFFERENT``, with both statuses; docs/http.md says why.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fixtures.access_process import Access, wait_until
from fixtures.processes import ROOT, Process

HERE = Path(__file__).parent
START_S = 200
pytestmark = pytest.mark.timeout(START_S + 60)

BIG = 2**53 + 1


def infer(datatype: str, data: str, shape: list[int], more: str = "") -> bytes:
    """Write a request as text: much of what is sent here is what Python's own writer does not write."""
    return (
        f'{{"id": "1", "inputs": [{{"name": "x", "shape": {shape}, "datatype": "{datatype}", "data": {data}}}]{more}}}'
    ).encode()


OPEN_INFERENCE = {
    "FP32": infer("FP32", "[0.1, 1e-7, 16777216, 3.4e38]", [4]),
    "FP64": infer("FP64", "[0.1, 1e300, 5e-324, 100.0]", [4]),
    "INT64 beyond 2^53": infer("INT64", f"[{BIG}, {-(2**63)}, {2**63 - 1}]", [3]),
    "UINT64": infer("UINT64", f"[{2**64 - 1}]", [1]),
    "UINT8": infer("UINT8", "[0, 255]", [2]),
    "INT8": infer("INT8", "[-128]", [1]),
    "INT32": infer("INT32", f"[{-(2**31)}]", [1]),
    "BOOL": infer("BOOL", "[true, false]", [2]),
    "FP16": infer("FP16", "[0.5]", [1]),
    "BYTES": infer("BYTES", r'["é", "", "a\n\"\\", "\ud83d\ude00"]', [4]),
    "nested": infer("FP32", "[[1, 2], [3, 4]]", [2, 2]),
    "empty": infer("FP32", "[]", [0]),
    "empty rows": infer("FP32", "[]", [0, 2]),
    "parameters": infer("FP32", "[1]", [1], ', "parameters": {"a": 1, "b": "x", "c": true, "d": 1.5}'),
    "null parameters": infer("FP32", "[1]", [1], ', "parameters": null'),
    "an unknown key": infer("FP32", "[1]", [1], ', "foo": {"bar": [1]}'),
    "an error of the model's": infer("FP32", "[1]", [1], ', "parameters": {"fail": "inference"}'),
    "NaN": infer("FP32", "[NaN, 0]", [2]),
    "1e999": infer("FP32", "[1e999]", [1]),
    "too large for its type": infer("UINT8", "[256]", [1]),
    "a fraction of an integer": infer("INT32", "[1.5]", [1]),
    "text for a number": infer("FP32", '["1"]', [1]),
    "null for a number": infer("FP32", "[null]", [1]),
    "an unknown datatype": infer("FLOAT", "[1]", [1]),
    "ragged": infer("FP32", "[[1, 2], [3]]", [2, 2]),
    "a wrong shape": infer("FP32", "[1, 2, 3]", [2]),
    "a negative shape": infer("FP32", "[1, 2]", [-1]),
    "no UTF-8": infer("BYTES", '["?"]', [1]).replace(b"?", b"\xff"),
    "half a surrogate pair": infer("BYTES", r'["\ud800"]', [1]),
    "a key twice": b'{"id": "a", "id": "b", "inputs": []}',
    "broken JSON": b'{"inputs": [',
    "no inputs": b"{}",
    "no body": b"",
}
SELDON = {
    "tensor": b'{"data": {"tensor": {"shape": [1, 2], "values": [1, 0.1]}}}',
    "ndarray": b'{"data": {"ndarray": [[1, 2.5]]}}',
    "ndarray of integers": b'{"data": {"ndarray": [[1, 2]]}}',
    "mixed": b'{"data": {"ndarray": [[1, "x", null, true]]}}',
    "names": b'{"data": {"names": ["a", "b"], "ndarray": [[1, 2.5]]}}',
    "text in a list": '{"data": {"ndarray": ["é"]}}'.encode(),
    "strData": '{"strData": "gä\\n"}'.encode(),
    "binData": b'{"binData": "AAH/"}',
    "jsonData": b'{"jsonData": {"a": [1, null, 1.5]}}',
    "meta": b'{"data": {"ndarray": [1]}, "meta": {"puid": "p", "tags": {"a": 1, "b": "x"}}}',
    "an empty list": b'{"data": {"ndarray": []}}',
    "an empty tensor": b'{"data": {"tensor": {"shape": [0], "values": []}}}',
    "nothing": b"{}",
    "an unknown key": b'{"date": 1}',
    "broken JSON": b'{"data":',
    "no UTF-8": b'{"strData": "\xff"}',
    "no body": b"",
    "beyond 2^53": f'{{"data": {{"ndarray": [{BIG}]}}}}'.encode(),
    "beyond 2^53 in a tensor": f'{{"data": {{"tensor": {{"shape": [1], "values": [{BIG}]}}}}}}'.encode(),
    "NaN in a tensor": b'{"data": {"tensor": {"shape": [1], "values": [NaN]}}}',
    "quoted NaN in a tensor": b'{"data": {"tensor": {"shape": [1], "values": ["NaN"]}}}',
    "NaN in a list": b'{"data": {"ndarray": [NaN]}}',
    "text in a tensor": b'{"data": {"tensor": {"shape": [1], "values": ["1"]}}}',
    "ragged": b'{"data": {"ndarray": [[1], [1, 2]]}}',
    "a wrong shape": b'{"data": {"tensor": {"shape": [3], "values": [1, 2]}}}',
    "tensor and ndarray": b'{"data": {"ndarray": [1], "tensor": {"shape": [1], "values": [1]}}}',
    "a key twice": b'{"strData": "a", "strData": "b"}',
}
# Status there, and ours. Both documents differ where both are 200.
DIFFERENT_OIP = {
    "NaN": (422, 200),
    "1e999": (422, 400),
    "too large for its type": (200, 400),
    "a fraction of an integer": (200, 400),
    "text for a number": (200, 400),
    "null for a number": (200, 400),
    "an unknown datatype": (422, 400),
    "ragged": (200, 400),
    "a wrong shape": (200, 400),
    "a negative shape": (200, 400),
    "no UTF-8": (422, 400),
    "half a surrogate pair": (422, 400),
    "a key twice": (200, 400),
    "broken JSON": (422, 400),
    "no inputs": (422, 400),
    "no body": (422, 400),
}
DIFFERENT_SELDON = {
    "beyond 2^53": (200, 400),
    "beyond 2^53 in a tensor": (200, 400),
    "NaN in a tensor": (200, 200),
    "quoted NaN in a tensor": (200, 200),
    "NaN in a list": (200, 400),
    "text in a tensor": (200, 400),
    "a wrong shape": (500, 400),
    "tensor and ndarray": (200, 400),
    "a key twice": (200, 400),
}


class Stage(NamedTuple):
    """The addresses of the REST ports of both, and of the access service in front of their gRPC ports."""

    mlserver: str
    wrapper: str
    access: str


def reserve() -> Iterator[int]:
    """Keep a port of gRPC's for a server that binds it too (SO_REUSEPORT); this socket does not listen."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@pytest.fixture(scope="module")
def grpc_port() -> Iterator[int]:
    yield from reserve()


def free_port() -> int:
    """Return a port that was free: MLServer's REST port shares none."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def stage(
    grpc_port: int,
    peer_python: Callable[[str], Path],
    run_shared: Callable[..., Process],
    shared_access: Callable[[Mapping[str, Any]], Access],
) -> Stage:
    python, http_port = peer_python("mlserver"), free_port()
    settings = {"HOST": "127.0.0.1", "GRPC_PORT": str(grpc_port), "HTTP_PORT": str(http_port), "METRICS_ENDPOINT": ""}
    settings["PARALLEL_WORKERS"] = "0"  # the models run in the server's own process
    environment = {f"MLSERVER_{name}": value for name, value in settings.items()} | {"PYTHONPATH": str(ROOT)}
    wrapper = run_shared([peer_python("seldon"), HERE / "seldon_rest_peer.py", "serve"])
    run_shared([python, python.with_name("mlserver"), "start", HERE / "mlserver_models"], env=environment)
    wrapped, wrapper_rest = wrapper.wait_line(r"^listening (\S+) (\S+)$", timeout_s=START_S).groups()
    mlserver = f"127.0.0.1:{http_port}"
    wait_until(lambda: is_ready(mlserver), "MLServer's models are loaded", START_S)
    fleet, seldon = {"endpoints": [f"127.0.0.1:{grpc_port}"]}, {"endpoints": [wrapped]}
    # MLServer does not know the ghost.
    models = {"wrapped": {"cluster": "seldon"}} | {
        name: {"cluster": "mlserver"} for name in ("echo", "double", "ghost")
    }
    access = shared_access({"clusters": {"mlserver": fleet, "seldon": seldon}, "models": models, "admin_methods": True})
    for name in ("mlserver", "seldon"):
        access.wait_live_model(name)
    return Stage(mlserver, wrapper_rest, access.address)


def is_ready(address: str) -> bool:
    try:
        return ask(address, "/v2/models/double/ready")[0] == 200
    except OSError:
        return False


def ask(address: str, path: str, data: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Return the status and the document; POST where there are data."""
    headers = {"content-type": "application/json", **headers}
    request = urllib.request.Request(f"http://{address}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()


def plain(document: Any) -> Any:
    """Return an answer of Open Inference without what says nothing: empty parameters, and how flat data are nested."""

    def flat(data: Any) -> list[Any]:
        return [each for row in data for each in flat(row)] if isinstance(data, list) else [data]

    document = {key: value for key, value in document.items() if (key, value) != ("parameters", {})}
    return {
        **document,
        "outputs": [{**each, "data": flat(each["data"])} for each in document.get("outputs", [])],
    }


@pytest.mark.parametrize("name", OPEN_INFERENCE)
def test_mlservers_answer_over_its_port_is_its_answer_over_ours(stage: Stage, name: str) -> None:
    path, body = "/v2/models/echo/infer", OPEN_INFERENCE[name]
    (status, theirs), (our_status, ours) = (ask(each, path, body) for each in (stage.mlserver, stage.access))
    if name in DIFFERENT_OIP:
        assert (status, our_status) == DIFFERENT_OIP[name], (theirs, ours)
    else:
        assert our_status == status
        assert ours["error"] == theirs["error"] if status != 200 else plain(ours) == plain(theirs)


@pytest.mark.parametrize("name", SELDON)
def test_the_wrappers_answer_over_its_port_is_its_answer_over_ours(stage: Stage, name: str) -> None:
    path, body = "/api/v1.0/predictions", SELDON[name]
    theirs = ask(stage.wrapper, path, body)
    ours = ask(stage.access, path, body, **{"x-model": "wrapped"})
    if name in DIFFERENT_SELDON:
        assert (theirs[0], ours[0]) == DIFFERENT_SELDON[name], (theirs, ours)
        # NaN equals nothing.
        assert ours[1] != theirs[1] or name == "NaN in a tensor"
    elif theirs[0] == 200:
        assert ours == theirs
    else:
        assert ours[0] == theirs[0]


@pytest.mark.parametrize(
    "path",
    ["/echo", "/echo/ready", "/echo/versions/3", "/echo/versions/3/ready", "/ghost", "/echo/versions/9", "/nobody"],
)
def test_mlserver_is_asked_for_its_models_over_our_port(stage: Stage, path: str) -> None:
    (status, theirs), (our_status, ours) = (ask(each, f"/v2/models{path}") for each in (stage.mlserver, stage.access))
    assert our_status == status
    if status == 200 and not path.endswith("/ready"):
        assert ours == {key: value for key, value in theirs.items() if key != "parameters"}


def test_models_are_listed_loaded_and_unloaded_as_at_mlserver(stage: Stage) -> None:
    listed = {each["name"] for each in ask(stage.access, "/v2/repository/index", b"{}")[1]}
    assert {each["name"] for each in ask(stage.mlserver, "/v2/repository/index", b"{}")[1]} == {"echo", "double"}
    assert listed == {"echo", "double", "ghost", "wrapped"}
    for address in (stage.access, stage.mlserver):
        assert ask(address, "/v2/repository/models/double/unload", b"") == (200, "")
        assert ask(address, "/v2/models/double")[0] == 404
        assert ask(address, "/v2/repository/models/double/load", b"") == (200, "")
        assert ask(address, "/v2/models/double")[0] == 200
        assert ask(address, "/v2/repository/models/ghost/load", b"")[0] == 404


def test_each_form_reaches_both(stage: Stage) -> None:
    rows = {"instances": [[1.5, -2], [0, 1]]}
    assert (
        ask(stage.access, "/v1/models/echo:predict", json.dumps(rows).encode())[1]["predictions"] == rows["instances"]
    )
    assert (
        ask(stage.access, "/v1/models/wrapped:predict", json.dumps(rows).encode())[1]["predictions"]
        == rows["instances"]
    )
    body = infer("FP32", "[1.5, -2]", [1, 2])
    output = {"name": "output", "datatype": "FP64", "shape": [1, 2], "data": [1.5, -2]}
    assert ask(stage.access, "/v2/models/wrapped/infer", body)[1]["outputs"] == [output]
    data = {"tensor": {"shape": [1, 2], "values": [1.5, -2]}}
    answer = ask(stage.access, "/seldon/team/echo/api/v1.0/predictions", json.dumps({"data": data}).encode())
    assert answer == (200, {"data": {"names": [], **data}, "meta": {}})
    assert ask(stage.access, "/v2/models/wrapped/ready") == (200, {"ready": True})
    assert ask(stage.access, "/v2/models/wrapped")[1]["name"] == "wrapped"


def test_seldons_own_client_works_unchanged_over_rest(stage: Stage, peer_python: Callable[[str], Path]) -> None:
    command = [str(peer_python("seldon")), str(HERE / "seldon_rest_peer.py"), "call", stage.access]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_S, env={**os.environ})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    rows = [[1.0, 2.5], [3.0, 4.0]]
    names = ["t:0", "t:1"]
    for namespace in ("None", "team"):
        tensor = {"names": names, "tensor": {"shape": [2, 2], "values": [1.0, 2.5, 3.0, 4.0]}}
        assert found[f"{namespace} tensor"][:2] == [True, tensor]
        assert found[f"{namespace} ndarray"][:2] == [True, {"names": names, "ndarray": rows}]
        assert found[f"{namespace} strData"]["strData"] == "gärtner"
        assert found[f"{namespace} jsonData"]["jsonData"] == {"a": [1]}
    # Two kinds of endpoints, four models: a call that names none has none.
    assert found["microservice"][0] is False
