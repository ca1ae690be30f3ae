"""Who may call what over HTTP: each form, gRPC-Web, batches, pages, and what one caller learns of another's models."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.access_process import OIP, TFS, wait_until
from fixtures.command_line import command
from fixtures.doors import KEYS, Doors, Keeper, document

from dl_inference import AsyncClient, Client, InputError, Unauthenticated
from dl_inference.messages import ModelInferResponse, ModelMetadataResponse

DOCUMENT = document(
    alice={"allow": [{"models": ["m"], "methods": ["predict"]}]},
    bob={"allow": [{"models": ["m", "secret"], "methods": ["metadata"]}]},
    root={"allow": [{"models": ["*"], "methods": ["predict", "metadata", "admin"]}]},
)
METADATA = "/inference.GRPCInferenceService/ModelMetadata"


def oip_model() -> dict[str, bytes]:
    """Answers of a model of the Open Inference Protocol with the input x and the output y."""
    tensor = {"datatype": "FP32", "shape": [-1]}
    told = ModelMetadataResponse(name="m", inputs=[{"name": "x", **tensor}], outputs=[{"name": "y", **tensor}])
    output = {"name": "y", "datatype": "FP32", "shape": [1]}
    answer = ModelInferResponse(model_name="m", outputs=[output], raw_output_contents=[struct.pack("<f", 2.0)])
    return {METADATA: told.SerializeToString(), OIP: answer.SerializeToString()}


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    keeper = Keeper(oip_model())
    models = {name: {"cluster": "fleet"} for name in ("m", "secret")}
    config = {"clusters": {"fleet": {"endpoints": [keeper.address]}}, "models": models, "admin_methods": True}
    made = Doors(tmp_path_factory.mktemp("doors"), DOCUMENT, config, keeper)
    made.access.wait_live(keeper.address)
    yield made
    made.close()


def ask(
    doors: Doors, key: str | None, path: str, body: Any = None, verb: str | None = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Send a request; return status, body and headers."""
    host, _, port = doors.access.address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        sent["authorization"] = f"Bearer {key}"
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(verb or ("GET" if body is None else "POST"), path, data, sent)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, {name.lower(): value for name, value in answer.getheaders()}


TENSOR = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}
FORMS = [
    ("/v2/models/{}/infer", TENSOR, {}),
    ("/v2/models/{}/versions/3/infer", TENSOR, {}),
    ("/v1/models/{}:predict", {"instances": [1.0]}, {}),
    ("/v1/models/{}/versions/3:predict", {"instances": [1.0]}, {}),
    ("/seldon/ns/{}/api/v1.0/predictions", {"data": {"ndarray": [1.0]}}, {}),
    ("/api/v1.0/predictions", {"data": {"ndarray": [1.0]}}, {"x_model": "{}"}),
    ("/api/v1.0/predictions", {"data": {"ndarray": [1.0]}, "meta": {"tags": {"model": "{}"}}}, {}),
    ("/v1/eval/{}", {"data": [1.0]}, {}),
    ("/api/{}", {"appId": "a", "data": {"x": 1.0}}, {}),
]


def form(number: int, model: str) -> tuple[str, Any, dict[str, str]]:
    path, body, headers = FORMS[number]
    filled = json.loads(json.dumps(body).replace('"{}"', json.dumps(model)))
    return path.replace("{}", model), filled, {name: value.replace("{}", model) for name, value in headers.items()}


@pytest.mark.parametrize("number", range(len(FORMS)), ids=lambda number: FORMS[number][0])
def test_every_form_lets_in_who_may_and_nobody_else(doors: Doors, number: int) -> None:
    path, body, headers = form(number, "m")
    doors.keeper.seen.clear()
    for key in (None, "wrong", KEYS["alice"] + "x"):
        status, content, got = ask(doors, key, path, body, **headers)
        assert (status, b"no valid credential" in content) == (401, True), content
        assert got["www-authenticate"] == "Bearer"
    assert ask(doors, KEYS["bob"], path, body, **headers)[0] == 403
    assert [each for each in doors.keeper.seen if each.path != METADATA] == []
    status, content, _ = ask(doors, KEYS["alice"], path, body, **headers)
    assert status == 200, content
    path, body, headers = form(number, "secret")
    # What another caller has made the service know of the model is not told.
    assert ask(doors, KEYS["root"], path, body, **headers)[0] == 200
    doors.keeper.seen.clear()
    status, content, _ = ask(doors, KEYS["alice"], path, body, **headers)
    assert (status, b"(predict)" in content) == (403, True), content
    assert doors.keeper.seen == []


def test_what_is_wrong_with_a_request_is_told_of_no_model_that_the_caller_may_not_call(doors: Doors) -> None:
    for path, wrong in (
        ("/v1/models/secret:predict", {"inputs": {"other": [1.0]}}),
        ("/v1/eval/secret", {"data": {"uri": "data:text/plain,a"}}),
    ):
        status, content, _ = ask(doors, KEYS["root"], path, wrong)
        assert status == 400, content
        assert ask(doors, KEYS["root"], path, wrong)[1][:60] == content[:60]
        status, content, _ = ask(doors, KEYS["alice"], path, wrong)
        assert status == 403, content


def test_what_a_caller_asks_in_vain_makes_nobody_elses_call_dearer(doors: Doors) -> None:
    for _ in range(2):
        doors.keeper.seen.clear()
        assert ask(doors, KEYS["root"], "/v1/eval/secret", {"data": [1.0]})[0] == 200
    assert METADATA not in [each.path for each in doors.keeper.seen], "the signature is known"
    assert ask(doors, KEYS["alice"], "/v1/eval/secret", {"data": {"uri": "data:text/plain,a"}})[0] == 403
    doors.keeper.seen.clear()
    assert ask(doors, KEYS["root"], "/v1/eval/secret", {"data": [1.0]})[0] == 200
    assert METADATA not in [each.path for each in doors.keeper.seen], "it still is"


def test_each_call_of_a_batch_is_judged_by_itself(doors: Doors) -> None:
    calls = [{"op": f"/v1/eval/{name}", "data": [1.0]} for name in ("m", "secret", "m")]
    assert ask(doors, None, "/v1/batch", calls)[0] == 401
    status, content, _ = ask(doors, KEYS["alice"], "/v1/batch", calls)
    assert status == 200
    assert [each["code"] for each in json.loads(content)] == [0, 403, 0]


def test_paths_that_mean_a_model_by_a_trick_mean_what_they_say(doors: Doors) -> None:
    for path, expected in (
        ("/v2/models/%6d/infer", 200),
        ("/v2/models/%73ecret/infer", 403),
        ("/v2/models/m%2f..%2fsecret/infer", 403),
        ("/v2/models/m/../secret/infer", 404),
        ("/v2//models/secret/infer", 404),
        ("//v2/models/secret/infer", 404),
        ("/V2/models/secret/infer", 404),
        ("/v2/models/M/infer", 403),
        ("/v2/models/m%00/infer", 403),
        ("/v2/models/m;/infer", 403),
        ("/v2/models/m?x=secret", 405),
    ):
        status, content, _ = ask(doors, KEYS["alice"], path, TENSOR)
        assert status == expected, (path, content)
    assert ask(doors, KEYS["alice"], "/v2/models/m/infer", TENSOR, x_model="secret")[0] == 400
    # Where the request is translated, its tags do not go on: whatever becomes of it, it is a call of m.
    doors.keeper.seen.clear()
    body = {"data": {"ndarray": [1.0]}, "meta": {"tags": {"model": "secret"}}}
    assert ask(doors, KEYS["alice"], "/seldon/ns/m/api/v1.0/predictions", body)[0] in (200, 400)
    assert not any(b"secret" in message for each in doors.keeper.seen for message in each.messages)


def test_pages_and_lists_need_a_caller_and_health_none(doors: Doors) -> None:
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert ask(doors, None, path)[0] == 200
    for path, of_alice, of_bob in (
        ("/v2", 200, 200),
        ("/docs", 200, 200),
        ("/openapi.json", 403, 403),
        ("/openapi.json?model=secret", 403, 403),
        ("/v2/models/m", 403, 200),
        ("/v2/models/secret", 403, 200),
    ):
        assert ask(doors, None, path)[0] == 401, path
        assert ask(doors, KEYS["root"], path)[0] == 200, path
        assert ask(doors, KEYS["alice"], path)[0] == of_alice, path
        assert ask(doors, KEYS["bob"], path)[0] == of_bob, path
    status, content, _ = ask(doors, KEYS["alice"], "/v2/repository/index", {})
    assert (status, [each["name"] for each in json.loads(content)]) == (200, ["m"])
    assert ask(doors, None, "/v2/repository/index", {})[0] == 401
    assert ask(doors, KEYS["alice"], "/v2/repository/models/m/load", {})[0] == 403
    assert ask(doors, None, "/nothing")[0] == 404


def test_a_request_with_two_credentials_is_nobodys(doors: Doors) -> None:
    key = KEYS["alice"]
    assert ask(doors, key, "/v2/models/m/infer", TENSOR, x_api_key=key)[0] == 401
    assert ask(doors, None, "/v2/models/m/infer", TENSOR, x_api_key=key)[0] == 200
    assert ask(doors, None, "/v2/models/m/infer", TENSOR, x_api_key=f"{key}, {key}")[0] == 401
    assert ask(doors, None, "/v2/models/m/infer", TENSOR, x_caller="root", x_dl_inference_caller="root")[0] == 401
    assert ask(doors, None, f"/v2/models/m/infer?x-api-key={key}", TENSOR)[0] == 401


def test_grpc_web_is_judged_as_grpc_is(doors: Doors) -> None:
    def call(key: str | None, path: str, message: bytes) -> str:
        body = b"\0" + struct.pack(">I", len(message)) + message
        status, content, headers = ask(doors, key, path, body, content_type="application/grpc-web+proto")
        assert status == 200
        return headers.get("grpc-status") or content.partition(b"grpc-status: ")[2].split(b"\r")[0].decode()

    for key, message, expected in (
        (None, b"\x0a\x01m", "16"),
        ("wrong", b"\x0a\x01m", "16"),
        (KEYS["alice"], b"\x0a\x01m", "0"),
        (KEYS["alice"], b"\x0a\x06secret", "7"),
        (KEYS["bob"], b"\x0a\x01m", "7"),
    ):
        assert call(key, OIP, message) == expected, (key, message)
    assert call(None, "/grpc.health.v1.Health/Check", b"") == "0"
    assert call(None, TFS, b"") == "16"


def test_streams_of_events_are_judged_as_calls_are(doors: Doors) -> None:
    for key, model, expected in ((None, "m", 401), (KEYS["bob"], "m", 403), (KEYS["alice"], "secret", 403)):
        status, _, _ = ask(doors, key, f"/v2/models/{model}/infer", TENSOR, accept="text/event-stream")
        assert status == expected, (key, model)


def test_no_key_reaches_an_endpoint_or_a_page(doors: Doors) -> None:
    doors.keeper.seen.clear()
    for headers in ({"x_api_key": KEYS["root"]}, {"authorization": f"Bearer {KEYS['root']}"}):
        assert ask(doors, None, "/v2/models/m/infer", TENSOR, x_request_id="web", **headers)[0] == 200
    assert doors.keeper.seen
    assert not any({"x-api-key", "authorization"} & each.metadata.keys() for each in doors.keeper.seen)
    call = json.loads(doors.access.get("/calls/web"))
    assert call["caller"] == "root"
    pages = "".join(doors.access.get(page) for page in ("/status", "/metrics", "/calls", "/config"))
    assert KEYS["root"] not in pages + doors.log_path.read_text() + doors.access.process.log


def test_the_client_and_the_command_call_with_a_key(doors: Doors, tmp_path: Path) -> None:
    x = {"x": np.ones(1, np.float32)}
    for make in (Client, AsyncClient):
        assert KEYS["alice"] not in repr(make(doors.access.address, api_key=KEYS["alice"])._settings)
    with Client(doors.access.address, api_key=KEYS["alice"]) as client:
        assert client.predict_oip("m", x).outputs["y"].tolist() == [2.0]
        with pytest.raises(Unauthenticated):
            client.predict_oip("m", x, metadata=[("authorization", "Bearer another")])
        # A call's own credential stands in place of the client's.
        assert client.predict_oip("secret", x, metadata=[("authorization", f"Bearer {KEYS['root']}")]).outputs
    with Client(doors.access.address) as client, pytest.raises(Unauthenticated):
        client.predict_oip("m", x)
    for wrong in ("", " key", "k\u00e9y", "a\nb"):
        with pytest.raises(InputError):
            Client(doors.access.address, api_key=wrong)
    file = tmp_path / "key"
    file.write_text(KEYS["alice"] + "\n")
    words = ("call", "m", '{"x": [1.0]}', "--protocol", "oip", "--to", doors.access.address)
    for more in ((), ("--http",)):
        called = command(*words, "--api-key-file", str(file), *more)
        assert called.exit_code == 0, called.stderr
        refused = command(*words, *more)
        assert (refused.exit_code, "no valid credential" in refused.stderr) == (1, True)
    missing = command(*words, "--api-key-file", str(tmp_path / "nokey"))
    assert (missing.exit_code, "cannot be read" in missing.stderr) == (2, True)


def test_a_request_that_becomes_no_call_has_its_caller_in_the_access_log(doors: Doors) -> None:
    infer = "/v2/models/m/infer"
    given = [("broken", "alice", infer, b"{", 400), ("denied", "alice", "/openapi.json", None, 403)]
    given += [("nowhere", "bob", "/nowhere/at/all", None, 404), ("nobody", None, infer, TENSOR, 401)]
    for name, caller, path, body, status in given:
        key = KEYS[caller] if caller else None
        assert ask(doors, key, path, body, x_request_id=name)[0] == status, name

    def named() -> dict[str, Any]:
        lines = [json.loads(each) for each in doors.log_path.read_text().splitlines()]
        return {each["request_id"]: each.get("caller") for each in lines}

    wanted = {name: caller for name, caller, *_ in given}
    wait_until(lambda: wanted.items() <= named().items(), f"they are named, {named()}")
