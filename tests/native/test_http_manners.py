"""What a web server is expected to do (RFC 9110, RFC 9112, the Fetch standard), byte by byte."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from native.test_rest import INFER, body, data_of, echo, post, raw
from native.test_worker import LIMITS, Served

WAIT_S = 20.0
ALLOWED = "https://app.example"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    limits = {**LIMITS, "max_message_bytes": 8 << 20, "cors_origins": [ALLOWED], "max_metadata_bytes": 16384}
    served = Served(limits=limits).answer(echo)
    yield served
    served.close()


@pytest.fixture(scope="module")
def hasty() -> Iterator[Served]:
    """A server that waits a moment for a head and a body, and longer between requests."""
    limits = {**LIMITS, "header_timeout_ms": 400, "body_timeout_ms": 400, "connection_idle_timeout_ms": 2500}
    served = Served(limits=limits).answer(echo)
    yield served
    served.close()


def connect(served: Served) -> socket.socket:
    host, _, port = served.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=WAIT_S)


def asked(served: Served, verb: str, path: str, data: bytes = b"", **headers: str) -> tuple[int, Any, bytes]:
    """Return status, headers and body as they came."""
    host, _, port = served.address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=WAIT_S)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(verb, path, data or None, {"Accept-Encoding": "identity", **fields})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, answer.headers, text


def large(count: int) -> bytes:
    return body(shape=[count], data=[number % 100 + 0.5 for number in range(count)])


def uncompressed(coding: str | None, data: bytes) -> bytes:
    match coding:
        case "gzip":
            return gzip.decompress(data)
        case "deflate":
            return zlib.decompress(data)
        case "zstd":
            command = ["zstd", "--decompress", "--stdout", "--quiet"]
            return subprocess.run(command, input=data, capture_output=True, check=True, timeout=WAIT_S).stdout
        case None:
            return data
    raise AssertionError(coding)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        pytest.param(
            "gzip, deflate, br, zstd", "zstd", marks=pytest.mark.skipif(not shutil.which("zstd"), reason="no zstd")
        ),
        ("gzip;q=0, deflate;q=0.1", "deflate"),
        ("br", None),
        ("identity, gzip;q=0.9", None),
    ],
)
@pytest.mark.parametrize("count", [500, 200_000], ids=["small", "large"])
def test_an_answer_is_compressed_as_its_caller_wants(
    served: Served, accepted: str, coding: str | None, count: int
) -> None:
    status, headers, data = asked(served, "POST", INFER, large(count), Accept_Encoding=accepted)
    assert (status, headers["content-encoding"]) == (200, coding)
    assert int(headers["content-length"]) == len(data)
    assert "accept-encoding" in headers.get_all("vary")
    answer = json.loads(uncompressed(coding, data))
    assert answer["outputs"][0]["data"][:2] == [0.5, 1.5]
    assert len(answer["outputs"][0]["data"]) == count


def test_a_short_answer_and_one_without_a_wish_are_not_compressed(served: Served) -> None:
    _, headers, data = asked(served, "POST", INFER, body(), Accept_Encoding="gzip")
    assert (headers["content-encoding"], json.loads(data)["outputs"][0]["data"]) == (None, [1, 2])
    _, headers, data = asked(served, "POST", INFER, large(500))
    assert (headers["content-encoding"], data[:1]) == (None, b"{")


def beside() -> set[str]:
    """Return the numbers of the threads that this process has beside its workers."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it ended while we looked
            if (task / "comm").read_text().strip() == "dl-beside":
                found.add(task.name)
    return found


@pytest.mark.parametrize("headers", [{"Accept_Encoding": "gzip"}, {"Content_Encoding": "gzip"}], ids=["out", "in"])
def test_what_takes_long_to_compress_and_inflate_goes_to_a_thread_beside_the_worker(headers: dict[str, str]) -> None:
    fresh = Served(limits={**LIMITS, "max_message_bytes": 8 << 20}).answer(echo)
    try:
        before = beside()
        data = large(20_000)
        data = gzip.compress(data) if "Content_Encoding" in headers else data
        small = body() if "Accept_Encoding" in headers else gzip.compress(body())
        assert asked(fresh, "POST", INFER, small, **headers)[0] == 200
        # Those of other servers may end meanwhile.
        assert beside() <= before
        assert asked(fresh, "POST", INFER, data, **headers)[0] == 200
        # It waits some seconds for the next body.
        assert len(beside() - before) == 1
    finally:
        fresh.close()


@pytest.mark.skipif(not shutil.which("zstd"), reason="no zstd")
def test_a_body_of_zstandard_is_inflated_within_the_limit(served: Served) -> None:
    def pressed(data: bytes) -> bytes:
        command = ["zstd", "--stdout", "--quiet"]
        return subprocess.run(command, input=data, capture_output=True, check=True, timeout=WAIT_S).stdout

    status, _, data = asked(served, "POST", INFER, pressed(body()), Content_Encoding="zstd")
    assert (status, json.loads(data)["outputs"][0]["data"]) == (200, [1, 2])
    status, _, data = asked(served, "POST", INFER, pressed(b" " * ((8 << 20) + 1)), Content_Encoding="zstd")
    assert (status, json.loads(data)["kind"]) == (413, "message_too_large")
    status, _, data = asked(served, "POST", INFER, pressed(body())[:-1], Content_Encoding="zstd")
    assert (status, json.loads(data)["kind"]) == (400, "bad_request")


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "gzip, br"])
def test_codings_that_are_not_undone_are_refused_with_those_that_are(served: Served, coding: str) -> None:
    status, headers, data = asked(served, "POST", INFER, gzip.compress(body()), Content_Encoding=coding)
    assert (status, headers["accept-encoding"]) == (415, "gzip, deflate, zstd")
    assert coding in json.loads(data)["detail"]


@pytest.mark.parametrize(
    ("path", "allow"),
    [(INFER, "POST, OPTIONS"), ("/v2", "GET, HEAD, OPTIONS"), ("*", "GET, HEAD, POST, OPTIONS")],
)
def test_options_says_which_verbs_there_are(served: Served, path: str, allow: str) -> None:
    status, headers, data = asked(served, "OPTIONS", path)
    assert (status, headers["allow"], headers["content-length"], data) == (204, allow, None, b"")


@pytest.mark.parametrize("path", ["/inference.GRPCInferenceService/ModelInfer", "/un.Known/Method"])
def test_a_method_of_grpc_with_the_content_type_of_something_else_is_415(served: Served, path: str) -> None:
    status, _, body = asked(served, "POST", path, b"12345678", Content_Type="image/jpeg")
    assert (status, b"application/grpc" in body) == (415, True)


def test_options_of_nothing_is_not_found(served: Served) -> None:
    assert asked(served, "OPTIONS", "/nothing")[0] == 404


def test_a_preflight_of_an_allowed_page_lets_it_call(served: Served) -> None:
    wish = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "x-model,x-evil"}
    for path in (INFER, "/inference.GRPCInferenceService/ModelInfer"):
        status, headers, _ = asked(served, "OPTIONS", path, Origin=ALLOWED, **wish)
        assert (status, headers["access-control-allow-origin"]) == (204, ALLOWED)
        assert "POST" in headers["access-control-allow-methods"]
        known = headers["access-control-allow-headers"].split(", ")
        assert {"content-type", "x-model", "x-grpc-web", "x-request-id", "authorization", "x-api-key"} <= {*known}
        assert "x-evil" not in known
        assert "origin" in headers.get_all("vary")
        assert headers["access-control-allow-credentials"] is None
    status, headers, _ = asked(served, "OPTIONS", INFER, Origin="https://evil.example", **wish)
    assert (status, headers["access-control-allow-origin"]) == (204, None)


def test_an_allowed_page_reads_answers_and_errors_and_another_does_not(served: Served) -> None:
    for path, expected in (("/v2", 200), ("/nothing", 404)):
        status, headers, _ = asked(served, "GET", path, Origin=ALLOWED)
        assert (status, headers["access-control-allow-origin"]) == (expected, ALLOWED)
        assert headers["access-control-expose-headers"] == "*"
        assert "origin" in headers.get_all("vary")
        _, headers, _ = asked(served, "GET", path, Origin=f"{ALLOWED}.evil")
        assert headers["access-control-allow-origin"] is None


def test_without_a_list_no_page_reads_anything(hasty: Served) -> None:
    _, headers, _ = asked(hasty, "GET", "/v2", Origin=ALLOWED)
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_a_body_that_comes_too_slowly_is_408_and_the_last_of_its_connection(hasty: Served) -> None:
    answer = raw(hasty, post(b"{", "Content-Length: 100", close=False))
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"\r\nconnection: close\r\n" in answer
    assert b"(body_timeout_ms)" in answer


def test_an_idle_connection_ends_after_the_idle_limit_and_not_the_heads(hasty: Served) -> None:
    with connect(hasty) as caller:
        caller.sendall(LIVE.replace(b"Connection: close\r\n", b""))
        started = time.monotonic()
        assert caller.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
        assert caller.recv(1) == b""
        # The head's limit is 0.4 s, the idle limit 2.5 s.
        assert 1.5 < time.monotonic() - started < WAIT_S


def test_a_second_head_that_stays_half_ends_its_connection_after_the_heads_limit(hasty: Served) -> None:
    with connect(hasty) as caller:
        caller.sendall(LIVE.replace(b"Connection: close\r\n", b""))
        assert caller.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
        started = time.monotonic()
        caller.sendall(b"GET /v2")
        assert caller.recv(1) == b""
        # Long before the idle limit, which it would otherwise wait for.
        assert time.monotonic() - started < 2.0


def test_a_call_may_take_longer_than_a_connection_may_idle(served: Served) -> None:
    limits = {**LIMITS, "header_timeout_ms": 300, "connection_idle_timeout_ms": 300}
    gate = threading.Event()

    def slow(batch: Any) -> None:
        gate.wait(1.0)
        echo(batch)

    slowly = Served(limits=limits).answer(slow)
    try:
        data = body()
        answer = raw(slowly, post(data, f"Content-Length: {len(data)}"))
        assert data_of(answer) == [1, 2]
    finally:
        gate.set()
        slowly.close()


def statuses(served: Served, *pieces: bytes) -> list[int]:
    """Return the status of each answer until the connection ends."""
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3}) ", raw(served, *pieces))]


GET = "GET /v2/health/live HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        # RFC 9112#3.2: Host.
        (b"GET /v2 HTTP/1.1\r\n\r\n", [400]),
        (b"GET /v2 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", [400]),
        (b"GET /v2 HTTP/1.0\r\n\r\n", [200]),
        # 2.2 and 5: no whitespace before a colon, no folded lines, no bare CR, no NUL.
        (GET.encode() + b"A : b\r\n\r\n", [400]),
        (GET.encode() + b"A: b\r\n c\r\n\r\n", [400]),
        (GET.encode() + b"A: b\rc\r\n\r\n", [400]),
        (GET.encode() + b"A: b\0c\r\n\r\n", [400]),
        (GET.encode() + b"A\0: b\r\n\r\n", [400]),
        (GET.encode() + b"A(: b\r\n\r\n", [400]),
        (b"GET  /v2 HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
        (b"GET /v2\0 HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
        (b"GET /v2 HTTP/2.0\r\nHost: x\r\n\r\n", [400]),
        # 6.1: transfer codings.
        (post(b"", "Transfer-Encoding: gzip, chunked"), [501]),
        (post(b"", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), [501]),
        (post(b"", "Transfer-Encoding: chunked, gzip"), [400]),
        (post(b"", "Transfer-Encoding: xchunked"), [400]),
        (b"POST /v2 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
        # 6.3: lengths.
        (post(b"abcdef", "Content-Length: 5", "Content-Length: 6"), [400]),
        (post(b"abcdef", "Content-Length: 5, 6"), [400]),
        (post(b"abcdef", "Content-Length: 0x5"), [400]),
        (post(b"abcdef", "Content-Length: -1"), [400]),
        # 7.1: chunks.
        (post(b"5;a\nb\r\n", "Transfer-Encoding: chunked"), [400]),
        (post(b"fffffffffffffffff\r\n", "Transfer-Encoding: chunked"), [400]),
        # RFC 6585#5: more than what is held.
        (GET.encode() + b"A: " + b"x" * 100_000 + b"\r\n\r\n", [431]),
        (GET.encode() + b"".join(b"X-%d: y\r\n" % each for each in range(200)) + b"\r\n", [431]),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", [431]),
    ],
)
def test_what_breaks_the_rules_gets_its_status_and_ends_the_connection(
    served: Served, request_bytes: bytes, expected: list[int]
) -> None:
    # Some of it ends the connection while more is being sent, which may reset it.
    try:
        found = statuses(served, request_bytes)
    except (ConnectionResetError, BrokenPipeError):
        found = []
    assert found in (expected, []) if len(request_bytes) > 50_000 else found == expected


@pytest.mark.parametrize(
    "request_bytes",
    [
        # Extensions of chunks and trailers are read and mean nothing.
        post(
            b"%x;name=value;x\r\n%s\r\n0;last\r\nx-model: other\r\n\r\n" % (len(body()), body()),
            "Transfer-Encoding: chunked",
        ),
        post(b"%X\r\n%s\r\n0\r\n\r\n" % (len(body()), body()), "Transfer-Encoding: CHUNKED"),
        post(body(), *[f"Content-Length: {len(body())}"] * 2),
        post(body(), f"Content-Length: {len(body())}").replace(
            INFER.encode(), b"http://elsewhere.example" + INFER.encode()
        ),
        b"\r\n" + post(body(), f"Content-Length: {len(body())}"),
    ],
    ids=["extensions and trailers", "upper case", "two lengths alike", "absolute form", "an empty line first"],
)
def test_what_the_rules_allow_is_a_request(served: Served, request_bytes: bytes) -> None:
    answer = raw(served, request_bytes)
    assert answer.startswith(b"HTTP/1.1 200 OK"), answer[:200]
    assert data_of(answer) == [1, 2]


def test_http_1_0_keeps_a_connection_only_where_it_is_asked_to(served: Served) -> None:
    line = b"GET /v2/health/live HTTP/1.0\r\n"
    assert statuses(served, line + b"\r\n", line + b"\r\n") == [200]
    kept = line + b"Connection: keep-alive\r\n\r\n"
    assert statuses(served, kept + line + b"\r\n") == [200, 200]


@pytest.mark.parametrize("target", ["example.com:443", "example.com"])
def test_this_is_no_proxy_for_other_addresses(served: Served, target: str) -> None:
    (status,) = statuses(served, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode(), LIVE)[:1]
    assert status >= 400


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
@pytest.mark.parametrize("option", ["--http1.0", "--http1.1", "--http2-prior-knowledge"])
def test_curl_has_the_same_answer_by_every_version(served: Served, option: str) -> None:
    command = ["curl", "--silent", "--show-error", "--compressed", option, "--max-time", str(WAIT_S)]
    command += ["--data-binary", "@-", f"http://{served.address}{INFER}"]
    done = subprocess.run(command, input=large(500), capture_output=True, check=True, timeout=2 * WAIT_S)
    assert len(json.loads(done.stdout)["outputs"][0]["data"]) == 500


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_an_answer_that_needs_no_body_reaches_who_is_still_sending_one(served: Served) -> None:
    # curl drops the answer where its stream is reset before it has sent all: about every second time.
    command = ["curl", "--silent", "--show-error", "--http2-prior-knowledge", "--max-time", str(WAIT_S), "--data", "{}"]
    command += ["--output", "/dev/null", "--write-out", "%{http_code}", f"http://{served.address}/nothing"]
    for _ in range(20):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * WAIT_S)
        assert (done.stdout, done.stderr) == ("404", "")


@pytest.mark.skipif(not shutil.which("nghttp"), reason="no nghttp")
def test_nghttp_and_h2load_are_served(served: Served) -> None:
    url = f"http://{served.address}/v2/health/live"
    done = subprocess.run(["nghttp", url], capture_output=True, check=True, timeout=WAIT_S)
    assert json.loads(done.stdout) == {"live": True}
    for version in ([], ["--h1"]):
        command = ["h2load", *version, "--requests=200", "--clients=4", url]
        done = subprocess.run(command, capture_output=True, check=True, timeout=WAIT_S)
        assert b"200 succeeded, 0 failed, 0 errored" in done.stdout
