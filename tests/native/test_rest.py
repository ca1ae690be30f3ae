"""HTTP on the port of a model server: what a web server is expected to do, and what it must not let pass."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from native.test_worker import LIMITS, Served

from dl_inference._native import Batch

INFER = "/v2/models/digits/infer"
WAIT_S = 5.0
MAX_BYTES = 1 << 20


def echo(batch: Batch) -> None:
    for index, item in enumerate(batch):
        batch.reply(index, item.kind, item.value, [])


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    limits = {**LIMITS, "max_message_bytes": MAX_BYTES, "header_timeout_ms": 1000, "body_timeout_ms": 1000}
    served = Served(limits=limits).answer(echo)
    yield served
    served.close()


def body(**changes: Any) -> bytes:
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]} | changes
    return json.dumps({"inputs": [tensor]}).encode()


def ask(served: Served, data: bytes, path: str = INFER, **headers: str) -> tuple[int, Any]:
    """POST; return the status and the JSON of the answer."""
    host, _, port = served.address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=WAIT_S)
    connection.request("POST", path, data, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text)


def raw(served: Served, *pieces: bytes) -> bytes:
    """Send bytes; return all that comes until the other side closes."""
    host, _, port = served.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as caller:
        for piece in pieces:
            caller.sendall(piece)
        answer = b""
        while data := caller.recv(1 << 16):
            answer += data
        return answer


def post(data: bytes, *fields: str, close: bool = True) -> bytes:
    """Return the bytes of a request."""
    lines = [f"POST {INFER} HTTP/1.1", "Host: x", *fields, *(["Connection: close"] if close else []), "", ""]
    return "\r\n".join(lines).encode() + data


def data_of(answer: bytes) -> list[float]:
    found: list[float] = json.loads(answer.partition(b"\r\n\r\n")[2])["outputs"][0]["data"]
    return found


def test_requests_follow_each_other_on_one_connection_in_their_order(served: Served) -> None:
    requests = [body(data=[number, 0]) for number in range(5)]
    pieces = [post(each, f"Content-Length: {len(each)}", close=number == 4) for number, each in enumerate(requests)]
    answers = raw(served, b"".join(pieces)).split(b"HTTP/1.1 200 OK")[1:]
    assert [data_of(each)[0] for each in answers] == [0, 1, 2, 3, 4]


def test_a_body_in_chunks_is_one_body(served: Served) -> None:
    data = body()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:7], data[7:])) + b"0\r\n\r\n"
    assert data_of(raw(served, post(chunks, "Transfer-Encoding: chunked"))) == [1, 2]


def test_a_caller_that_asks_first_is_told_to_go_on(served: Served) -> None:
    data = body()
    host, _, port = served.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as caller:
        caller.sendall(post(b"", f"Content-Length: {len(data)}", "Expect: 100-continue"))
        assert caller.recv(1 << 16).startswith(b"HTTP/1.1 100 Continue")
        caller.sendall(data)
        assert caller.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")


def test_http2_with_prior_knowledge_has_the_same_answers(served: Served) -> None:
    with httpx2.Client(http1=False, http2=True, timeout=WAIT_S) as client:
        answer = client.post(f"http://{served.address}{INFER}", content=body())
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
        assert answer.json()["outputs"][0]["data"] == [1, 2]
        problem = client.get(f"http://{served.address}/nothing")
        assert (problem.status_code, problem.json()["kind"]) == (404, "unknown_method")


def test_head_has_the_headers_of_get_and_no_body(served: Served) -> None:
    answer = raw(served, b"HEAD /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 13\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_a_wrong_verb_is_told_the_right_one(served: Served) -> None:
    answer = raw(served, f"GET {INFER} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nallow: POST\r\n" in answer


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_a_compressed_body_is_inflated(served: Served, encoding: str) -> None:
    compress = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[encoding]
    status, answer = ask(served, compress(body()), content_encoding=encoding)
    assert (status, answer["outputs"][0]["data"]) == (200, [1, 2])


def test_an_unknown_compression_is_refused(served: Served) -> None:
    status, problem = ask(served, body(), content_encoding="br")
    assert (status, problem["kind"]) == (415, "unsupported_encoding")


def test_what_is_too_large_is_refused_before_it_is_held(served: Served) -> None:
    fields = [f"Content-Length: {MAX_BYTES + 1}"]
    assert b" 413 " in raw(served, post(b"", *fields)).partition(b"\r\n")[0]
    status, problem = ask(served, gzip.compress(b" " * (MAX_BYTES + 1)), content_encoding="gzip")
    assert (status, problem["kind"]) == (413, "message_too_large")
    assert str(MAX_BYTES) in problem["detail"]


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "the body ends, expected a value"),
        (b"[" * 100_000, "expected an object"),
        (b'{"inputs":' + b"[" * 100_000, "expected an object"),
        (b'{"x":' + b"[" * 100_000, "nested deeper than 64"),
        (b'{"id":"a","id":"b"}', "appears twice"),
        (b'{"inputs":[{"name":"x"}]}', "is none of BOOL"),
        (body(datatype="FLOAT"), 'datatype "FLOAT" is none of BOOL'),
        (body(data=[1]), "it has 1 elements, its shape [2] has 2"),
        (body(shape=[-2]), "-2 is no length"),
        (body(shape=[2**40, 2**40]), "the shape is too large"),
        (body(data=[[1], 2]), "expected an array, as its neighbours are"),
        (body(data=[[1, 2], [3]]), "arrays of one length"),
        (body(data=["a", "b"]), "expected a number"),
        (body(datatype="UINT8", data=[256, 0]), "256 is no UINT8"),
        (body(datatype="INT32", data=[1.5, 0]), "1.5 is no INT32"),
        (body().replace(b"1, 2", b"1e999, 2"), "1e999 is no FP32"),
        (body().replace(b"1, 2", b"1" * 100_000), "100000 characters, limit 512"),
        (body(data=None), "expected a number"),
        (body() + b"x", "expected the end"),
        (b"\xff" + body(), "expected a value"),
    ],
)
def test_a_bad_document_is_a_bad_request_that_says_what_is_wrong(served: Served, data: bytes, detail: str) -> None:
    status, problem = ask(served, data)
    assert (status, problem["code"], problem["kind"]) == (400, "INVALID_ARGUMENT", "bad_request")
    assert detail in problem["detail"]


def test_numbers_beyond_what_json_says_come_back_as_null(served: Served) -> None:
    status, answer = ask(served, body().replace(b"1, 2", b"NaN, -Infinity"))
    assert (status, answer["outputs"][0]["data"]) == (200, [None, None])


@pytest.mark.parametrize("datatype", ["INT64", "UINT64"])
def test_integers_beyond_2_to_53_stay_what_they_are(served: Served, datatype: str) -> None:
    numbers = [2**53 + 1, 2**63 - 1]
    assert ask(served, body(datatype=datatype, data=numbers))[1]["outputs"][0]["data"] == numbers


@pytest.mark.parametrize(
    ("header", "data", "detail"),
    [
        ("x", b"", "is no number of bytes"),
        ("-1", b"", "is no number of bytes"),
        ("99999", b"", "says 99999 bytes of JSON"),
        ("{}", b"", "only 0 bytes are left"),
        ("{}", b"1234567", "only 7 bytes are left"),
        ("{}", b"123456789", "1 bytes behind the JSON belong to no input"),
    ],
)
def test_binary_data_must_be_as_long_as_is_said(served: Served, header: str, data: bytes, detail: str) -> None:
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    document = json.dumps({"inputs": [tensor]}).encode()
    status, problem = ask(served, document + data, Inference_Header_Content_Length=header.format(len(document)))
    assert status == 400
    assert detail in problem["detail"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b"0\r\n\r\n", "Content-Length: 5", "Content-Length: 6"),
        post(b"", "Content-Length: +5"),
        post(b"", "Content-Length: 99999999999999999999"),
        post(b"", "Transfer-Encoding: chunked, x"),
        post(b"zz\r\n", "Transfer-Encoding: chunked"),
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nA\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\n A: b\r\n\r\n",
        b"GET /v2 HTTP/1.1\rHost: x\r\n\r\n",
        b"GET /v2 HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(200)) + b"\r\n",
    ],
    ids=[
        *("two lengths", "a sign", "a huge length", "an unknown coding", "a chunk without length", "no colon"),
        *("a folded line", "a bare CR", "a version", "a long field", "many fields"),
    ],
)
def test_what_could_be_read_in_two_ways_ends_the_connection_without_an_answer(
    served: Served, request_bytes: bytes
) -> None:
    # A second request behind it must not be answered.
    answer = raw(served, request_bytes + b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" not in answer
    assert b"live" not in answer


def test_of_a_length_and_chunks_the_chunks_count_and_the_connection_ends(served: Served) -> None:
    data = body()
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    request = post(chunked, "Content-Length: 3", "Transfer-Encoding: chunked", close=False)
    answer = raw(served, request + b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") <= 2
    assert b'"error"' not in answer


@pytest.mark.parametrize("target", ["http://elsewhere/v2/health/live", "/v2/health/live?x=1"])
def test_the_path_of_an_absolute_form_counts_and_a_query_does_not(served: Served, target: str) -> None:
    answer = raw(served, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 OK")


def test_a_caller_that_stays_in_its_head_or_its_body_is_closed_when_its_time_is_over(served: Served) -> None:
    started = time.monotonic()
    raw(served, b"GET /v2 HTTP/1.1\r\nHost:")
    assert b" 408 " in raw(served, post(b"{", "Content-Length: 100")).partition(b"\r\n")[0]
    assert time.monotonic() - started < 2 * WAIT_S


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (INFER, lambda said: said["detail"]),
        ("/v1/eval/m", lambda said: said["message"] if said["result"] is None else None),
        ("/v1/batch", lambda said: said["message"] if said["result"] is None else None),
        ("/api/m", lambda said: said["data"]["msg"] if said["code"] == 9997 else None),
        ("/v1/embeddings", lambda said: said["error"]["message"]),
        ("/rerank", lambda said: said["error"]["message"]),
    ],
)
def test_a_body_that_comes_too_slowly_is_answered_in_the_form_of_its_path(
    served: Served, path: str, told: Callable[[Any], str]
) -> None:
    request = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode()
    head, _, said = raw(served, request).partition(b"\r\n\r\n")
    assert b" 408 " in head.partition(b"\r\n")[0]
    assert "body_timeout_ms" in told(json.loads(said))


def test_slow_callers_hold_nobody_up(served: Served) -> None:
    host, _, port = served.address.rpartition(":")
    slow = [socket.create_connection((host, int(port)), timeout=WAIT_S) for _ in range(50)]
    for each in slow:
        each.sendall(post(b"{", "Content-Length: 100"))
    assert ask(served, body())[0] == 200
    for each in slow:
        each.close()


def test_grpc_over_http1_is_told_that_it_needs_http2(served: Served) -> None:
    status, problem = ask(
        served, b"\0\0\0\0\0", "/inference.GRPCInferenceService/ModelInfer", content_type="application/grpc"
    )
    assert (status, problem["detail"]) == (400, "a gRPC call is a POST over HTTP/2")


def test_the_request_id_comes_back(served: Served) -> None:
    with httpx2.Client(timeout=WAIT_S) as client:
        answer = client.get(f"http://{served.address}/v2", headers={"x-request-id": "mine"})
        assert answer.headers["x-request-id"] == "mine"


@pytest.mark.parametrize(
    "message",
    [
        {"data": {"names": ["a", "b"], "tensor": {"shape": [1, 2], "values": [0.5, -1e300]}}},
        {"data": {"ndarray": [[1, 2.5, "x", None, True], {"a": [9007199254740991]}]}},
        {"strData": 'é\n"\\'},
        {"binData": "AAH/"},
        {"jsonData": {"a": [1, {"b": None}], "c": "d"}},
    ],
    ids=["tensor", "ndarray", "strData", "binData", "jsonData"],
)
@pytest.mark.parametrize("path", ["/predict", "/api/v1.0/predictions", "/seldon/team/digits/api/v0.1/predictions"])
def test_seldons_messages_come_back_as_they_were_sent(served: Served, message: Any, path: str) -> None:
    tags = {"one": 1, "list": [True, "x"]}
    sent = {**message, "meta": {"puid": "p", "tags": tags}}
    status, answer = ask(served, json.dumps(sent).encode(), path)
    assert status == 200
    assert answer["meta"]["puid"] == "p"
    ((name, value),) = message.items()
    if name == "data":
        ((kind, content),) = [(key, each) for key, each in value.items() if key != "names"]
        assert answer["data"][kind] == content
    else:
        assert answer[name] == value


@pytest.mark.parametrize(
    ("document", "detail"),
    [
        ({"data": {"tensor": {"shape": [3], "values": [1, 2]}}}, "tensor has 2 values, which its shape [3] has not"),
        ({"data": {"tensor": {"shape": [-1], "values": []}}}, "which its shape [-1] has not"),
        ({"data": {"ndarray": [], "tensor": {"shape": [0]}}}, "one of tensor and ndarray, and not both"),
        ({"strData": "a", "binData": ""}, "one of data, binData, strData and jsonData"),
        ({"binData": "&"}, "binData: "),
        ({"date": 1}, '"date" is none of data, binData'),
        ({"meta": {"routing": {"a": 1.5}}}, "1.5 is no INT32"),
    ],
)
def test_a_bad_message_of_seldons_is_a_bad_request(served: Served, document: Any, detail: str) -> None:
    status, problem = ask(served, json.dumps(document).encode(), "/predict")
    assert (status, problem["kind"]) == (400, "bad_request")
    assert detail in problem["detail"]


def test_a_caller_that_stops_reading_its_answer_is_given_up_when_its_time_is_over(served: Served) -> None:
    tensor = {"name": "x", "shape": [MAX_BYTES - 4096], "datatype": "UINT8"}
    tensor["parameters"] = {"binary_data_size": MAX_BYTES - 4096}
    document = json.dumps({"inputs": [tensor]}).encode()
    data = document + b"\xff" * (MAX_BYTES - 4096)
    host, _, port = served.address.rpartition(":")
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.settimeout(WAIT_S)
        caller.connect((host, int(port)))
        fields = [f"Content-Length: {len(data)}", f"Inference-Header-Content-Length: {len(document)}"]
        caller.sendall(post(data, *fields))
        head = caller.recv(1024)
        assert head.startswith(b"HTTP/1.1 200 OK")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        # Longer than body_timeout_ms: that nothing is read is what is tested, and no event ends it.
        time.sleep(2.5)
        read = len(head)
        with contextlib.suppress(ConnectionResetError):
            while part := caller.recv(1 << 16):
                read += len(part)
    assert read < length
