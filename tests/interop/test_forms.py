"""The forms of HTTP that are nobody's protocol of gRPC, over real model servers behind the access service."""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fixtures import forms_model, oip_models
from fixtures.access_process import Access
from fixtures.processes import Process

pytestmark = pytest.mark.timeout(200)
WAIT_S = 60.0
PNG = b"\x89PNG\r\n\x1a\n\0\xff"


def data_uri(data: bytes, media_type: str = "application/octet-stream") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


class Pictures(http.server.BaseHTTPRequestHandler):
    """Answers every path with a picture, but what is no picture."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html" if self.path == "/page" else "image/png")
        self.send_header("content-length", str(len(PNG)))
        self.end_headers()
        self.wfile.write(PNG)


@pytest.fixture(scope="module")
def pictures() -> Iterator[str]:
    """Where a server of pictures listens."""
    with http.server.ThreadingHTTPServer(("localhost", 0), Pictures) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, pictures: str) -> Iterator[httpx2.Client]:
    """A client of an access service in front of three models: ``told`` tells what its hooks got."""
    root = tmp_path_factory.mktemp("forms")
    started: list[Process] = []

    def run(command: Any, **options: Any) -> Process:
        started.append(Process(command, **options))
        return started[-1]

    try:
        servers = {
            "told": forms_model.write(root / "told"),
            "plain": forms_model.write_plain(root / "plain"),
            "scores": oip_models.scores(root / "scores"),
        }
        processes = {name: oip_models.start(folder) for name, folder in servers.items()}
        started += processes.values()
        addresses = {name: oip_models.wait(process) for name, process in processes.items()}
        models = {name: {"endpoints": [address]} for name, address in addresses.items()}
        uris = {"hosts": [pictures], "networks": ["127.0.0.0/8", "::1/128"], "types": ["image/*"]}
        access = Access(run, root, {"models": models, "uris": uris})
        for name in models:
            access.wait_live_model(name)
        with httpx2.Client(base_url=f"http://{access.address}", timeout=WAIT_S) as client:
            yield client
    finally:
        for process in started:
            process.kill()
            print(process.log)


def post(client: httpx2.Client, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    """POST; return the status and the JSON of the answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    answer = client.post(path, content=content, headers=named)
    return answer.status_code, answer.json()


# --- AtServing ---


def test_a_datum_by_uri_reaches_the_hooks_with_its_attribute_and_params(client: httpx2.Client) -> None:
    data = {"uri": data_uri(PNG, "image/png"), "attribute": {"id": 7}}
    status, answer = post(client, "/v1/eval/told", {"data": data, "params": {"limit": 3, "more": [1]}})
    assert (status, answer["code"], answer["message"]) == (200, 0, "success")
    asked = {"attribute": '{"id": 7}', "limit": 3, "media_type": "image/png", "more": "[1]"}
    assert answer["result"] == {"type": "bytes", "data": PNG.decode("latin1"), "asked": asked}


def test_a_group_reaches_the_hooks_as_one_batch(client: httpx2.Client) -> None:
    data = [{"uri": "data:,a"}, {"uri": "data:,b", "attribute": "second"}]
    _, answer = post(client, "/v1/eval/told", {"data": data})
    assert answer["result"]["data"] == ["a", "b"]
    assert json.loads(answer["result"]["asked"]["attribute"]) == [None, "second"]


def test_data_come_from_a_host_that_the_operator_names(client: httpx2.Client, pictures: str) -> None:
    data = [{"uri": f"http://{pictures}/a.png"}, {"uri": "data:,b"}, {"uri": f"http://{pictures}/c.png"}]
    status, answer = post(client, "/v1/eval/told", {"data": data})
    assert (status, answer["result"]["data"]) == (200, [PNG.decode("latin1"), "b", PNG.decode("latin1")])
    assert json.loads(answer["result"]["asked"]["media_type"]) == ["image/png", None, "image/png"]
    data[2] = {"uri": f"http://{pictures}/page"}
    status, answer = post(client, "/v1/eval/told", {"data": data})
    assert (status, answer["kind"]) == (403, "uri_denied")
    assert answer["message"].startswith("data[2]: ")
    calls = [{"op": "/v1/eval/told", "data": {"uri": f"http://{pictures}{path}"}} for path in ("/a.png", "/page")]
    status, answers = post(client, "/v1/batch", calls)
    assert (status, [answer["code"] for answer in answers]) == (200, [0, 403])


def test_a_body_of_bytes_is_the_datum(client: httpx2.Client) -> None:
    status, answer = post(client, "/v1/eval/told", PNG, content_type="image/png")
    assert (status, answer["result"]["data"]) == (200, PNG.decode("latin1"))
    assert answer["result"]["asked"] == {"media_type": "image/png"}


def test_bytes_are_answered_as_they_are_or_as_a_uri_in_json(client: httpx2.Client) -> None:
    body = {"data": {"uri": "data:,a"}, "params": {"do": "bytes"}}
    stream = client.post("/v1/eval/told", json=body)
    assert (stream.headers["content-type"], stream.content) == ("application/octet-stream", b"\xffa")
    status, answer = post(client, "/v1/eval/told", body, accept="application/json")
    assert (status, answer["result"]) == (200, data_uri(b"\xffa"))
    body["params"]["do"] = "text"
    assert post(client, "/v1/eval/told", body)[1]["result"] == "text"
    stream = client.post("/v1/eval/told", json=body, headers={"accept": "application/octet-stream"})
    assert stream.content == b"text"


def test_arrays_of_numbers_reach_models_of_numbers(client: httpx2.Client) -> None:
    status, answer = post(client, "/v1/eval/scores", {"data": [[1, 2, 3, 4], [0, 0, 0, 0]]})
    assert (status, [len(row) for row in answer["result"]["output"]]) == (200, [3, 3])
    status, answer = post(client, "/v1/eval/told", {"data": [1, 2], "params": {"do": "array"}})
    assert (status, answer["result"]) == (200, {"output": [2.0, 4.0]})


def test_a_classification_has_as_many_classes_as_the_caller_asks_for(client: httpx2.Client) -> None:
    body = {"data": {"uri": "data:,"}, "params": {"do": "classes", "limit": 1}}
    status, answer = post(client, "/v1/eval/told", body)
    assert (status, answer["result"]) == (200, {"confidences": [{"index": 1, "class": "dog", "score": 0.75}]})


def test_numbers_that_json_has_no_words_for_are_null(client: httpx2.Client) -> None:
    status, answer = post(client, "/v1/eval/told", {"data": {"uri": "data:,"}, "params": {"do": "nan"}})
    assert (status, answer["result"]) == (200, {"nan": None, "inf": None})


@pytest.mark.parametrize(
    ("path", "body", "expected", "text"),
    [
        ("/v1/eval/nobody", {"data": {"uri": "data:,"}}, (404, 404), "no route for model nobody"),
        ("/v1/eval/told/7", {"data": {"uri": "data:,"}}, (404, 404), "7"),
        ("/v1/eval/told", {"data": {"uri": "http://127.0.0.1/x"}}, (403, 403), "not in uris.hosts"),
        ("/v1/eval/told", {"data": {"uri": "qiniu://z/b/k"}}, (400, 400), 'the scheme "qiniu"'),
        ("/v1/eval/told", {"params": {}}, (400, 400), "a request has data"),
        ("/v1/eval/told", b"{", (400, 400), "the body ends"),
        ("/v1/eval/scores", {"data": {"uri": "data:,"}}, (400, 400), "is of FP32, and no bytes"),
        ("/v1/eval/scores", {"data": [[1, 2]]}, (400, 400), "shape"),
        ("/v1/eval/told", {"data": {"uri": "data:,"}, "params": {"do": "number"}}, (400, 4711), "not now"),
        ("/v1/eval/told", {"data": {"uri": "data:,"}, "params": {"do": "raise"}}, (500, 500), "the model failed"),
    ],
)
def test_an_error_has_a_status_and_a_code_and_says_what_is_wrong(
    client: httpx2.Client, path: str, body: Any, expected: tuple[int, int], text: str
) -> None:
    status, problem = post(client, path, body)
    assert (status, problem["code"], problem["result"]) == (*expected, None)
    assert text in problem["message"]
    assert "secret" not in json.dumps(problem)


def test_a_batch_answers_in_the_order_of_its_calls_each_for_itself(client: httpx2.Client) -> None:
    calls = [{"op": "/v1/eval/told", "data": {"uri": f"data:,{number}"}} for number in range(40)]
    calls[3] = {"op": "/v1/eval/nobody", "data": {"uri": "data:,"}}
    calls[5] = {"op": "/v1/eval/told", "data": {"uri": "data:;base64,&"}}
    calls[7] = {"op": "/v1/elsewhere", "data": {"uri": "data:,"}}
    calls[9] = {"op": "/v1/eval/scores", "data": [[1, 2, 3, 4]]}
    calls[11] = {"op": "/v1/eval/told", "data": {"uri": "data:,a"}, "params": {"do": "bytes"}}
    status, answers = post(client, "/v1/batch", calls)
    assert status == 200
    special = {3: 404, 5: 400, 7: 400}
    assert {place: each["code"] for place, each in enumerate(answers) if each["code"]} == special
    assert len(answers[9]["result"]["output"][0]) == 3
    assert answers[11]["result"] == data_uri(b"\xffa")
    others = [place for place in range(40) if place not in {*special, 9, 11}]
    assert [answers[place]["result"]["data"] for place in others] == [str(place) for place in others]


def test_a_batch_whose_time_is_over_says_so_of_each_call_that_was_late(client: httpx2.Client) -> None:
    calls = [{"op": "/v1/eval/told", "data": {"uri": "data:,"}}] * 40
    status, answers = post(client, "/v1/batch", calls, grpc_timeout="1u")
    assert status == 200
    assert {each["code"] for each in answers} == {504}


@pytest.mark.parametrize(("body", "text"), [({}, "expected an array"), ([1] * 1025, "more than 1024 calls")])
def test_what_is_no_batch_is_refused_as_a_whole(client: httpx2.Client, body: Any, text: str) -> None:
    status, problem = post(client, "/v1/batch", body)
    assert (status, problem["code"]) == (400, 400)
    assert text in problem["message"]


# --- go-infer ---


def envelope(data: Any, **more: Any) -> dict[str, Any]:
    head = {"appId": "3EA2", "version": "1", "signType": "SHA256", "signData": "x", "encType": "plain"}
    return {**head, "timestamp": 1658716494, "data": data, **more}


def test_an_envelope_brings_its_data_to_the_hooks_and_the_answer_in_another(client: httpx2.Client) -> None:
    status, answer = post(client, "/api/told", envelope({"text": "测试", "image": ""}), x_request_id="r-1")
    assert (status, answer["code"], answer["success"], answer["appId"]) == (200, 0, True, "3EA2")
    assert (answer["signType"], answer["encType"]) == ("plain", "plain")
    assert answer["timestamp"] > 1658716494
    assert (answer["data"]["msg"], answer["data"]["requestId"]) == ("success", "r-1")
    assert (answer["data"]["type"], answer["data"]["data"]) == ("dict", {"text": "测试", "image": ""})


def test_fields_of_an_envelope_are_inputs_of_models_of_tensors(client: httpx2.Client) -> None:
    status, answer = post(client, "/api/scores", envelope({"input": [[1, 2, 3, 4]]}))
    assert (status, len(answer["data"]["output"][0])) == (200, 3)


@pytest.mark.parametrize(
    ("path", "body", "expected", "text"),
    [
        ("/api/nobody", envelope({}), (404, 9900), "no route for model nobody"),
        ("/api/told", envelope([]), (400, 9801), "an object as data"),
        ("/api/told", envelope({}, version="2"), (400, 9806), 'version "2"'),
        ("/api/told", envelope({}, signType="MD5"), (400, 9803), "none of SHA256, SM2, plain"),
        ("/api/scores", envelope({"x": 1}), (400, 9701), "none of the model's inputs: input"),
        ("/api/scores", envelope({"input": [[1]]}), (400, 9701), "shape"),
    ],
)
def test_an_error_has_go_infers_number_in_an_envelope(
    client: httpx2.Client, path: str, body: Any, expected: tuple[int, int], text: str
) -> None:
    status, problem = post(client, path, body)
    assert (status, problem["code"], problem["success"], problem["appId"]) == (*expected, False, "3EA2")
    assert text in problem["data"]["msg"]


# --- OpenAI's embeddings, and rerank ---


@pytest.fixture(scope="module")
def found(client: httpx2.Client, peer_python: Callable[[str], Path]) -> dict[str, Any]:
    """What the real clients found there."""
    script = Path(__file__).with_name("openai_peer.py")
    command = [str(peer_python("openai")), str(script), client.base_url.netloc.decode(), "told"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_openais_client_gets_a_vector_for_each_text(found: dict[str, Any]) -> None:
    assert found["kind"] == ["list", "told", [["embedding", 0], ["embedding", 1]]]
    assert found["vectors"][0] == pytest.approx([0, 0.5**0.5, 0.5**0.5, 0, 0, 0, 0, 0])
    assert found["usage"] == [5, 5]
    assert (found["same"], found["tokens"], found["one of tokens"]) == (True, True, True)
    assert found["dimensions"] == [3, 8]


def test_openais_and_coheres_clients_raise_their_own_errors(found: dict[str, Any]) -> None:
    kind, status, code, name, message = found["errors"]["model"]
    assert (kind, status, code, name) == ("NotFoundError", 404, "model_not_found", "invalid_request_error")
    assert "no route for model nobody" in message
    assert found["errors"]["input"][:4] == ["BadRequestError", 400, "bad_request", "invalid_request_error"]
    assert found["errors"]["nan"][:4] == ["InternalServerError", 502, "bad_upstream_response", "server_error"]
    assert "embeddings of 2 texts are [2, n]" in found["errors"]["few"][4]
    assert "gives vectors of 8 dimensions" in found["errors"]["dimensions"][4]
    for version in ("v1", "v2"):
        kind, status, message = found["errors"][version]
        assert (kind, status) == ("NotFoundError", 404)
        assert "no route for model nobody" in message


def test_coheres_clients_get_the_best_documents_first(found: dict[str, Any]) -> None:
    assert found["v1"] == found["v2"]
    assert [index for index, _ in found["v1"]] == [1, 2]
    assert [score for _, score in found["v1"]] == pytest.approx([1, 0.5**0.5], rel=1e-6)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
def test_documents_come_back_where_they_are_asked_for(client: httpx2.Client, path: str) -> None:
    asked = {"model": "told", "query": "ab", "documents": ["z", {"text": "ab", "id": 7}], "return_documents": True}
    status, answer = post(client, path, asked, x_request_id="r-2")
    assert (status, answer["id"], answer["model"]) == (200, "r-2", "told")
    assert [each["document"] for each in answer["results"]] == [{"text": "ab", "id": 7}, {"text": "z"}]


def test_a_model_that_takes_texts_and_gives_vectors_needs_no_adapter(client: httpx2.Client) -> None:
    status, answer = post(client, "/v1/embeddings", {"model": "plain", "input": ["banana", "x"]})
    assert (status, [each["embedding"] for each in answer["data"]]) == (200, [[6, 3], [1, 0]])
    assert answer["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_a_model_that_makes_no_vectors_says_what_it_takes(client: httpx2.Client) -> None:
    status, problem = post(client, "/v1/embeddings", {"model": "scores", "input": "a"})
    assert (status, problem["error"]["code"]) == (400, "bad_request")
    assert "this model takes" in problem["error"]["message"]


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/v1/embeddings", ("error", "message")),
        ("/v2/rerank", ("error", "message")),
        ("/v1/eval/told", ("message",)),
        ("/v1/batch", ("message",)),
        ("/api/told", ("data", "msg")),
    ],
)
def test_a_body_that_is_too_large_is_told_in_the_callers_form(
    client: httpx2.Client, path: str, where: tuple[str, ...]
) -> None:
    connection = http.client.HTTPConnection(client.base_url.netloc.decode(), timeout=WAIT_S)
    connection.putrequest("POST", path)
    connection.putheader("content-length", str(1 << 40))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    told = json.loads(answer.read())
    for name in where:
        told = told[name]
    assert "max_message_bytes" in told
    connection.close()
