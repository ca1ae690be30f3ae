"""Each form of HTTP over models whose servers speak one protocol: the same answer, or what does not map."""

from __future__ import annotations

import itertools
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from fixtures.access_process import Access
from fixtures.one_protocol import OIP, SELDON, TENSORFLOW, Server
from fixtures.processes import Process

WAIT_S = 30.0
PROTOCOLS = (TENSORFLOW, OIP, SELDON)
# Each makes another configuration.
TIMEOUTS = itertools.count(20_000)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    servers = {protocol: Server(protocol) for protocol in PROTOCOLS}
    yield servers
    for each in servers.values():
        each.stop()


@pytest.fixture(scope="module")
def access(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    started: list[Process] = []

    def run(command: Any, **options: Any) -> Process:
        started.append(Process(command, **options))
        return started[-1]

    access = Access(run, tmp_path_factory.mktemp("access"), config(servers))
    for name in servers:
        access.wait_live_model(name)
    yield access
    for process in started:
        process.kill()
        print(process.log)


def config(servers: Mapping[str, Server], **settings: Any) -> dict[str, Any]:
    return {"models": {name: {"endpoints": [each.address], **settings} for name, each in servers.items()}}


def ask(access: Access, path: str, document: Any = None, **headers: str) -> tuple[int, Any]:
    """Return the status and the JSON of an answer; POST where there is a document."""
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(f"http://{access.address}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def infer(*data: Any, name: str = "x", datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    tensor = {"name": name, "datatype": datatype, "shape": [1, len(data)], "data": data}
    return {"id": "7", "inputs": [tensor], **more}


def shaped(shape: list[int], *data: str) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "BYTES", "shape": shape, "data": data}]}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_in_open_inferences_form_reaches_a_model_of_any_protocol(access: Access, protocol: str) -> None:
    status, answer = ask(access, f"/v2/models/{protocol}/infer", infer(1.5, -2))
    ((name, output),) = [(each["name"], each) for each in answer["outputs"]]
    assert (status, answer["model_name"], answer["id"]) == (200, protocol, "7")
    assert (name, output["shape"], output["data"]) == ("output" if protocol == SELDON else "y", [1, 2], [3, -4])
    assert output["datatype"] == ("FP64" if protocol == SELDON else "FP32")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", ["tensor", "ndarray"])
def test_a_request_in_seldons_form_reaches_a_model_of_any_protocol(access: Access, protocol: str, kind: str) -> None:
    rows = {"tensor": {"shape": [1, 2], "values": [1.5, -2]}, "ndarray": [[1.5, -2]]}
    doubled: dict[str, Any] = {"tensor": {"shape": [1, 2], "values": [3, -4]}, "ndarray": [[3, -4]]}
    if protocol == SELDON:
        doubled["ndarray"] = rows["ndarray"]  # it gives lists back as they are
    document = {"data": {kind: rows[kind]}, "meta": {"puid": "p"}}
    for path, headers in (
        (f"/seldon/team/{protocol}/api/v1.0/predictions", {}),
        ("/api/v0.1/predictions", {"x-model": protocol}),
    ):
        status, answer = ask(access, path, document, **headers)
        assert (status, answer["data"][kind], answer["meta"]["puid"]) == (200, doubled[kind], "p")
    document["meta"] = {"tags": {"model": protocol}}
    assert ask(access, "/predict", document)[1]["data"][kind] == doubled[kind]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("wrap", [lambda row: row, lambda row: {"x": row}], ids=["values", "named"])
def test_a_request_in_tf_servings_form_reaches_a_model_of_any_protocol(
    access: Access, protocol: str, wrap: Callable[[Any], Any]
) -> None:
    path = f"/v1/models/{protocol}:predict"
    assert ask(access, path, {"instances": [wrap([1.5, -2]), wrap([0, 1])]}) == (
        200,
        {"predictions": [[3, -4], [0, 2]]},
    )
    assert ask(access, path, {"inputs": wrap([[1.5, -2]])}) == (200, {"outputs": [[3, -4]]})


@pytest.mark.parametrize(
    ("protocol", "described"),
    [
        (TENSORFLOW, ["tensorflow_savedmodel", ["3"], [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]]),
        (OIP, ["test", [], [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]]),
        (SELDON, ["seldon", ["v"], [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]]),
    ],
)
def test_open_inferences_questions_reach_a_model_of_any_protocol(
    access: Access, protocol: str, described: list[Any]
) -> None:
    status, told = ask(access, f"/v2/models/{protocol}")
    assert (status, told["name"]) == (200, protocol)
    assert [told["platform"], told["versions"], told["inputs"]] == described
    assert ask(access, f"/v2/models/{protocol}/ready") == (200, {"ready": True})


def test_text_and_flags_reach_a_model_of_seldons_and_come_back(access: Access) -> None:
    path = f"/v2/models/{SELDON}/infer"
    for datatype, data in (("BYTES", ["é", ""]), ("BOOL", [True, False])):
        output = ask(access, path, infer(*data, datatype=datatype))[1]["outputs"][0]
        assert (output["datatype"], output["shape"], output["data"]) == (datatype, [1, 2], data)
    path = f"/v1/models/{SELDON}:predict"
    for rows in ([["é", "a"]], [[True, False]]):
        assert ask(access, path, {"instances": rows}) == (200, {"predictions": rows})


@pytest.mark.parametrize(
    ("path", "document", "detail"),
    [
        ("/v2/models/tensorflow/infer", infer(1, 2, name="z"), 'the model has no input "z"; it has x'),
        (
            "/v2/models/tensorflow/infer",
            infer(1, 2, datatype="INT64"),
            'input "x" is INT64, the model takes FP32: send',
        ),
        ("/v2/models/tensorflow/infer", infer(1, 2, outputs=[{"name": "z"}]), 'no output "z"; it has y'),
        (
            "/v2/models/seldon/infer",
            infer(2**53 + 1, datatype="INT64"),
            'input "x" has 9007199254740993, which is no double',
        ),
        (
            "/v2/models/seldon/infer",
            {"inputs": infer(1)["inputs"] + infer(1, name="z")["inputs"]},
            "takes one tensor; the request has 2: x, z: send one of them",
        ),
        ("/v2/models/seldon/infer", shaped([2**30, 0]), "no element and more than 65536 empty arrays"),
        ("/v2/models/seldon/infer", shaped([2**40, 0]), "length 1099511627776 is over that of a tensor of Seldon's"),
        ("/v2/models/seldon/infer", shaped([1] * 10_000, "a"), "a tensor of 10000 dimensions is no nested arrays"),
        ("/v1/models/seldon:predict", {"instances": [{"a": 1, "b": 2}]}, "the request has a, b: send one of them"),
        ("/v1/models/seldon:predict", {"instances": [[1], [1, 2]]}, "arrays of one length"),
        ("/v1/models/seldon:predict", {"instances": [1], "signature_name": "s"}, 'signature_name is "s", but model'),
        (
            "/seldon/t/oip/api/v1.0/predictions",
            {"strData": "a"},
            'send data.tensor or data.ndarray, the model\'s input "x"',
        ),
        ("/seldon/t/oip/api/v1.0/predictions", {"jsonData": {}}, "only data.tensor, data.ndarray, strData and binData"),
        ("/seldon/t/tensorflow/api/v1.0/predictions", {"data": {"ndarray": [["a"]]}}, "expected a number"),
    ],
)
def test_what_does_not_map_is_said(access: Access, path: str, document: Any, detail: str) -> None:
    status, problem = ask(access, path, document)
    assert (status, problem["code"]) == (400, "INVALID_ARGUMENT"), problem
    assert detail in problem["detail"]


@pytest.fixture
def unknown(access: Access, servers: dict[str, Server]) -> dict[str, Server]:
    """The servers, of which the access service knows nothing: its routing state has just changed."""
    timeout = next(TIMEOUTS)
    access.configure(config(servers, timeout_ms=timeout))
    for name, each in servers.items():
        access.wait_live_model(name)
        each.taken()
    return servers


def test_a_model_is_asked_for_its_protocol_and_its_signature_once(access: Access, unknown: dict[str, Server]) -> None:
    for protocol in PROTOCOLS:
        for _ in range(5):
            assert ask(access, f"/v1/models/{protocol}:predict", {"instances": [[1, 2]]})[0] == 200
    assert unknown[TENSORFLOW].taken() == ["GetModelMetadata", *["Predict"] * 5]
    assert unknown[OIP].taken() == ["GetModelMetadata", "ModelMetadata", *["ModelInfer"] * 5]
    assert unknown[SELDON].taken() == ["GetModelMetadata", "ModelMetadata", *["Predict"] * 5]
    for _ in range(5):
        assert ask(access, f"/v2/models/{TENSORFLOW}/infer", infer(1, 2))[0] == 200
    assert unknown[TENSORFLOW].taken() == ["ModelInfer", *["Predict"] * 5]


def test_a_request_in_the_form_of_the_models_protocol_asks_for_nothing(
    access: Access, unknown: dict[str, Server]
) -> None:
    assert ask(access, f"/v2/models/{OIP}/infer", infer(1, 2))[0] == 200
    assert unknown[OIP].taken() == ["ModelInfer"]
    assert ask(access, "/predict", {"data": {"ndarray": [1]}}, **{"x-model": SELDON})[0] == 200
    assert unknown[SELDON].taken() == ["Predict"]


def test_a_model_that_says_unimplemented_for_its_own_reason_is_not_taken_for_another_protocols(
    access: Access, unknown: dict[str, Server]
) -> None:
    unknown[OIP].refusal = "this model streams: call ModelStreamInfer"
    try:
        status, problem = ask(access, f"/v2/models/{OIP}/infer", infer(1, 2))
    finally:
        reason, unknown[OIP].refusal = unknown[OIP].refusal, None
    assert (status, problem["code"], problem["detail"]) == (501, "UNIMPLEMENTED", reason)
    assert ask(access, f"/v2/models/{OIP}/infer", infer(1, 2))[0] == 200
    assert unknown[OIP].taken() == ["ModelInfer", "ModelInfer"]


def test_a_swapped_model_is_asked_again_when_a_call_does_not_do(access: Access, unknown: dict[str, Server]) -> None:
    path, server = f"/v1/models/{TENSORFLOW}:predict", unknown[TENSORFLOW]
    assert ask(access, path, {"instances": [[1, 2]]}) == (200, {"predictions": [[2, 4]]})
    try:
        # Its input is now of whole numbers: by the old signature the call fails there.
        server.dtype = 9
        assert ask(access, path, {"instances": [[2**53 + 1, 0]]}) == (200, {"predictions": [[2**54 + 2, 0]]})
        # And now it has another name: by the old signature the request fails here.
        server.input_name = "rows"
        assert ask(access, path, {"instances": [{"rows": [1, 2]}]}) == (200, {"predictions": [[2, 4]]})
        server.taken()
        # What is wrong stays so: the server is asked once more, and the call is not made twice.
        status, problem = ask(access, path, {"instances": [{"x": [1, 2]}]})
        assert (status, problem["detail"]) == (400, 'the model has no input "x"; it has rows')
        assert server.taken() == ["GetModelMetadata"]
    finally:
        server.dtype, server.input_name = 1, "x"


def test_a_model_of_another_protocol_behind_the_name_is_found_at_once(
    access: Access, unknown: dict[str, Server]
) -> None:
    path = "/v1/models/tensorflow:predict"
    assert ask(access, path, {"instances": [[1, 2]]})[0] == 200
    swapped = {**unknown, TENSORFLOW: unknown[OIP], OIP: unknown[TENSORFLOW]}
    access.configure(config(swapped, timeout_ms=next(TIMEOUTS)))
    for name in swapped:
        access.wait_live_model(name)
    assert ask(access, path, {"instances": [[1, 2]]}) == (200, {"predictions": [[2, 4]]})
    assert ask(access, f"/v2/models/{OIP}/infer", infer(1, 2))[1]["outputs"][0]["data"] == [2, 4]


def test_a_prediction_of_seldons_that_names_no_model_is_for_the_only_one(
    access: Access, unknown: dict[str, Server]
) -> None:
    document = {"data": {"ndarray": [[1.5, -2]]}}
    status, problem = ask(access, "/predict", document)
    assert (status, problem["kind"]) == (400, "bad_route_key")
    access.configure(config({OIP: unknown[OIP]}, timeout_ms=next(TIMEOUTS)))
    access.wait_live_model(OIP)
    assert ask(access, "/predict", document)[1]["data"]["ndarray"] == [[3, -4]]
    # As Seldon's own client sends it.
    form = urllib.parse.urlencode({"json": json.dumps(document)}).encode()
    with urllib.request.urlopen(f"http://{access.address}/predict", form, timeout=WAIT_S) as answer:
        assert json.load(answer)["data"]["ndarray"] == [[3, -4]]
