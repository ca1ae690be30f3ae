"""Streams over HTTP: gRPC-Web by bytes, and a model's answers as server-sent events, through the access service."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx2
import pytest

from access import state
from access.config.sections import AccessConfig
from dl_inference import messages
from dl_inference._native import Proxy

WAIT_S = 20.0
SERVICE = "inference.GRPCInferenceService"
STREAM, UNARY = f"/{SERVICE}/ModelStreamInfer", f"/{SERVICE}/ModelInfer"
ORIGIN = "https://app.example"
EVENTS = {"accept": "text/event-stream"}


def answer_of(request: Any, value: int) -> Any:
    raw = struct.pack("<i", value)
    output = {"name": "y", "datatype": "INT32", "shape": [1]}
    return messages.ModelInferResponse(
        model_name=request.model_name, id=request.id, outputs=[output], raw_output_contents=[raw]
    )


class Model:
    """A model that answers a message as its id says: ``3`` with three answers, ``2 fail`` with two and an error."""

    def __init__(self) -> None:
        self.left = threading.Event()
        handlers = {
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream),
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self._unary),
        }
        self.server = grpc.server(ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def _unary(self, data: bytes, context: Any) -> bytes:
        request = messages.ModelInferRequest.FromString(data)
        if request.id == "fail":
            context.set_trailing_metadata([("x-more", "1")])
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no 100 % today")
        return bytes(answer_of(request, 1).SerializeToString())

    def _stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for data in requests:
            request = messages.ModelInferRequest.FromString(data)
            count, _, then = request.id.partition(" ")
            if then == "wait":
                self.left = left = threading.Event()
                context.add_callback(left.set)
            for number in range(int(count)):
                answer = answer_of(request, number)
                if then != "plain":
                    answer = messages.ModelStreamInferResponse(infer_response=answer)
                yield answer.SerializeToString()
            if then == "error":
                yield messages.ModelStreamInferResponse(error_message="it is tired").SerializeToString()
            if then == "fail":
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no 100 % today")
            if then == "wait":
                # Longer than a test waits: this end must not be taken for the caller's.
                assert left.wait(3 * WAIT_S)


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.server.stop(0)


@pytest.fixture(scope="module")
def address(model: Model) -> Iterator[str]:
    models = {"m": {"endpoints": [model.address]}, "gone": {"endpoints": ["127.0.0.1:9"]}}
    limits = {"cors_origins": [ORIGIN], "max_message_bytes": 1 << 16}
    config = AccessConfig.model_validate({"listen": "127.0.0.1:0", "admin": None, "models": models, "limits": limits})
    proxy = Proxy(json.dumps(state.process(config)), messages.DESCRIPTORS)
    (address,) = proxy.start()
    proxy.apply(json.dumps(state.routing(config, {}).state))
    yield address
    proxy.stop()


# --- server-sent events


def infer(address: str, what: str, name: str = "m", **headers: str) -> httpx2.Response:
    tensor = {"name": "x", "datatype": "INT32", "shape": [1], "data": [7]}
    url = f"http://{address}/v2/models/{name}/infer"
    return httpx2.post(url, json={"id": what, "inputs": [tensor]}, headers={**EVENTS, **headers}, timeout=WAIT_S)


def events(text: str) -> list[tuple[str, Any]]:
    """Return the type and the data of each event, read as the HTML standard says."""
    assert text.endswith("\n\n")
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        assert fields.keys() <= {"event", "data"}
        found.append((fields.get("event", "message"), json.loads(fields["data"])))
    return found


@pytest.mark.parametrize("what", ["3", "3 plain"], ids=["as Triton", "as MLServer"])
def test_each_answer_of_a_stream_is_an_event(address: str, what: str) -> None:
    answer = infer(address, what, **{"origin": ORIGIN, "x-request-id": "mine"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    found = events(answer.text)
    assert [kind for kind, _ in found] == ["message"] * 3
    assert [each["outputs"][0]["data"] for _, each in found] == [[0], [1], [2]]
    assert {each["id"] for _, each in found} == {what}


def test_a_model_without_an_answer_sends_no_event(address: str) -> None:
    answer = infer(address, "0")
    assert (answer.status_code, answer.text) == (200, "")


def test_an_error_in_the_middle_is_an_event(address: str) -> None:
    (_, first), (_, second), (kind, problem) = events(infer(address, "2 fail").text)
    assert [first["outputs"][0]["data"], second["outputs"][0]["data"]] == [[0], [1]]
    assert (kind, problem["code"], problem["detail"]) == ("error", "FAILED_PRECONDITION", "no 100 % today")
    (_, _), (kind, problem) = events(infer(address, "1 error").text)
    assert (kind, problem["detail"]) == ("error", "it is tired")


def test_an_error_before_the_first_answer_has_its_own_status(address: str) -> None:
    assert (infer(address, "0 fail").status_code, infer(address, "0 fail").json()["code"]) == (
        400,
        "FAILED_PRECONDITION",
    )
    assert infer(address, "1", name="nomodel").status_code == 404
    assert infer(address, "1", name="gone").status_code == 503
    url = f"http://{address}/v2/models/m/infer"
    assert httpx2.post(url, content=b"{", headers=EVENTS, timeout=WAIT_S).status_code == 400


def test_a_caller_that_leaves_ends_the_call(address: str, model: Model) -> None:
    with httpx2.Client(timeout=WAIT_S) as client:
        tensor = {"name": "x", "datatype": "INT32", "shape": [1], "data": [7]}
        document = {"id": "1 wait", "inputs": [tensor]}
        with client.stream("POST", f"http://{address}/v2/models/m/infer", json=document, headers=EVENTS) as answer:
            pieces = answer.iter_raw()
            assert b"data: " in next(pieces)
            assert not model.left.is_set()
    assert model.left.wait(WAIT_S)


# --- gRPC-Web


def frame(data: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(data)) + data


def frames(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        flag, length = struct.unpack(">BI", data[:5])
        found.append((flag, data[5 : 5 + length]))
        assert len(found[-1][1]) == length
        data = data[5 + length :]
    return found


def trailers(block: bytes) -> dict[str, str]:
    assert block.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in block.decode().removesuffix("\r\n").split("\r\n"))


def request(what: str) -> bytes:
    tensor = {"name": "x", "datatype": "INT32", "shape": [1]}
    raw = [struct.pack("<i", 7)]
    return bytes(
        messages.ModelInferRequest(model_name="m", id=what, inputs=[tensor], raw_input_contents=raw).SerializeToString()
    )


def web(address: str, path: str, data: bytes, form: str = "", http2: bool = False, **headers: str) -> httpx2.Response:
    """Call; ``form`` is ``-text`` for base64."""
    fields = {"content-type": f"application/grpc-web{form}+proto", "x-grpc-web": "1", **headers}
    content = base64.b64encode(data) if form else data
    with httpx2.Client(http1=not http2, http2=http2, timeout=WAIT_S) as client:
        return client.post(f"http://{address}{path}", content=content, headers=fields)


def content_of(answer: httpx2.Response) -> list[tuple[int, bytes]]:
    content_type = answer.headers["content-type"]
    if content_type == "application/grpc-web+proto":
        return frames(answer.content)
    assert content_type == "application/grpc-web-text+proto"
    # Parts that are padded each by itself.
    quads = [answer.content[at : at + 4] for at in range(0, len(answer.content), 4)]
    return frames(b"".join(base64.b64decode(quad, validate=True) for quad in quads))


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("form", ["", "-text"], ids=["binary", "text"])
def test_a_call_of_grpc_web_has_its_message_and_its_trailers_in_the_body(address: str, form: str, http2: bool) -> None:
    answer = web(address, UNARY, frame(request("a")), form, http2, origin=ORIGIN)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-expose-headers"] == "*"
    (flag, message), (last, block) = content_of(answer)
    assert (flag, last) == (0, 0x80)
    assert messages.ModelInferResponse.FromString(message).id == "a"
    assert trailers(block)["grpc-status"] == "0"
    assert trailers(block)["x-request-id"]


@pytest.mark.parametrize("form", ["", "-text"], ids=["binary", "text"])
def test_a_stream_of_grpc_web_comes_message_by_message(address: str, form: str) -> None:
    *answers, (last, block) = content_of(web(address, STREAM, frame(request("3")) + frame(request("2")), form))
    found = [messages.ModelStreamInferResponse.FromString(each) for _, each in answers]
    assert [struct.unpack("<i", each.infer_response.raw_output_contents[0])[0] for each in found] == [0, 1, 2, 0, 1]
    assert (last, trailers(block)["grpc-status"]) == (0x80, "0")


def test_an_error_of_grpc_web_is_in_the_headers_or_in_the_last_frame(address: str) -> None:
    answer = web(address, UNARY, frame(request("fail")))
    assert (answer.status_code, answer.headers["grpc-status"], answer.content) == (200, "9", b"")
    assert answer.headers["grpc-message"] == "no 100 %25 today"
    assert answer.headers["x-more"] == "1"
    (_, _), (last, block) = content_of(web(address, STREAM, frame(request("1 fail"))))
    assert (last, trailers(block)["grpc-status"]) == (0x80, "9")
    assert trailers(block)["grpc-message"] == "no 100 %25 today"


@pytest.mark.parametrize(
    ("path", "data", "status", "kind"),
    [
        ("/no.Such/Method", frame(b""), "12", "unknown_method"),
        (UNARY, frame(b"\xff"), "3", "bad_route_key"),
        (UNARY, bytes(1 << 17), "8", "message_too_large"),
    ],
)
def test_a_bad_call_of_grpc_web_has_a_status_of_grpc(
    address: str, path: str, data: bytes, status: str, kind: str
) -> None:
    answer = web(address, path, data)
    assert (answer.status_code, answer.headers["grpc-status"]) == (200, status)
    assert answer.headers["access-error"] == kind


def test_text_that_is_not_base64_is_a_bad_request(address: str) -> None:
    fields = {"content-type": "application/grpc-web-text"}
    answer = httpx2.post(f"http://{address}{UNARY}", content=b"AAAA&", headers=fields, timeout=WAIT_S)
    assert (answer.headers["grpc-status"], answer.headers["content-type"]) == ("3", "application/grpc-web-text+proto")


def test_a_deadline_of_grpc_web_holds(address: str) -> None:
    (_, _), (_, block) = content_of(web(address, STREAM, frame(request("1 wait")), **{"grpc-timeout": "300m"}))
    assert trailers(block)["grpc-status"] == "4"


def test_a_page_that_leaves_ends_its_call(address: str, model: Model) -> None:
    host, _, port = address.rpartition(":")
    data = frame(request("1 wait"))
    lines = [f"POST {STREAM} HTTP/1.1", "Host: x", "Content-Type: application/grpc-web", f"Content-Length: {len(data)}"]
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as caller:
        caller.sendall("\r\n".join([*lines, "", ""]).encode() + data)
        answer = caller.recv(1 << 16)
        while not answer.partition(b"\r\n\r\n")[2]:
            answer += caller.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert not model.left.is_set()
    assert model.left.wait(WAIT_S)


def test_a_get_of_a_method_is_no_call(address: str) -> None:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=WAIT_S)
    connection.request("GET", UNARY, headers={"content-type": "application/grpc-web"})
    assert connection.getresponse().status == 404
    connection.close()
