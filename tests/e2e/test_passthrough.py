"""What crosses the access service unchanged, both ways, and what does not cross."""

from __future__ import annotations

import gzip
import http.client
import os
import random
import re
import threading
from collections.abc import Callable, Iterator

import pytest
from e2e.calls import FOR_M, tfs_request
from fixtures.access_process import OIP_STREAM, SELDON, TFS, Access, cluster, wait_until
from fixtures.http2_peer import Endpoint, Fields, Peer, Stream, dial, echo, message, request_head, unary

StartAccess = Callable[..., Access]
SEED = int(os.environ.get("TEST_SEED", "20261121"))
OK_HEAD = [(":status", "200"), ("content-type", "application/grpc")]
INFER_M = b"\x0a\x01m"  # inference.ModelInferRequest with model_name = "m"


class Line:
    """A caller, the access service, an endpoint whose behaviour can be changed, all connected."""

    def __init__(self, access: Access, endpoint: Endpoint, caller: Peer) -> None:
        self.access = access
        self.endpoint = endpoint
        self.caller = caller

    def exchange(self, fields: Fields, body: bytes) -> tuple[Stream, Stream, bytes]:
        """Make a call; return it as the caller and as the endpoint saw it, and the answer's body."""
        stream = unary(self.caller, fields, body)
        got = stream.read_all()
        return stream, self.endpoint.last_call(), got


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    from fixtures.processes import Process

    started: list[Process] = []

    def run(command: list[str]) -> Process:
        started.append(Process(command))
        return started[-1]

    endpoint = Endpoint(echo)
    config = cluster([endpoint.address], timeout_ms=20_000)
    access = Access(run, tmp_path_factory.mktemp("access"), config)
    with dial(access.address) as caller:
        yield Line(access, endpoint, caller)
    endpoint.close()
    for process in started:
        process.kill()


@pytest.fixture(autouse=True)
def _echo(line: Line) -> None:
    line.endpoint.serve = echo


def fields_of(received: Fields | None, *without: str) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in received or [] if not name.startswith(":") and name not in without)


# --- bodies


@pytest.mark.parametrize("size", [0, 1, 4, 5, 100, 16383, 16384, 65536, 1 << 20, 8 << 20])
def test_a_body_of_any_size_arrives_unchanged_both_ways(line: Line, size: int) -> None:
    content = random.Random(SEED + size).randbytes(size)
    body = message(content)
    stream, _, got = line.exchange(request_head(TFS, ("x-model", "m")), body)
    assert got == body
    assert dict(stream.trailers or [])["grpc-status"] == "0"


@pytest.mark.parametrize("frame", [1, 3, 1000, 16384])
def test_a_body_in_pieces_of_any_size_is_the_same_body(line: Line, frame: int) -> None:
    body = message(tfs_request("m", 3000 if frame < 10 else 200_000))
    stream = line.caller.open(request_head(TFS))
    stream.send(body, end=True, frame=frame)
    assert stream.read_all() == body


def test_random_bodies_in_random_pieces_arrive_unchanged(line: Line) -> None:
    print(f"seed {SEED}")
    source = random.Random(SEED)
    for _ in range(40):
        body = message(FOR_M + b"\x7a\x04" + source.randbytes(4))
        body += b"".join(message(source.randbytes(source.choice([0, 1, 7, 300, 20_000]))) for _ in range(3))
        stream = line.caller.open(request_head(TFS))
        offset = 0
        while offset < len(body):
            size = source.choice([1, 2, 5, 100, 5000, len(body)])
            stream.send(body[offset : offset + size])
            offset += size
        stream.send(b"", end=True)
        assert stream.read_all() == body
        assert line.endpoint.last_call().has_ended


def test_an_end_of_stream_in_a_frame_of_its_own_and_in_the_last_frame_both_end_the_request(line: Line) -> None:
    for together in (True, False):
        stream = line.caller.open(request_head(TFS))
        stream.send(message(FOR_M), end=together)
        if not together:
            stream.send(b"", end=True)
        assert stream.read_all() == message(FOR_M)


def test_padding_is_not_part_of_the_body(line: Line) -> None:
    stream = line.caller.open(request_head(TFS))
    number, body = stream.number, message(FOR_M)
    line.caller.act(lambda h2: h2.send_data(number, body, end_stream=True, pad_length=200))
    assert stream.read_all() == body


def test_a_compressed_message_passes_as_it_is_with_x_model(line: Line) -> None:
    body = message(os.urandom(1000), compressed=True)
    head = request_head(TFS, ("x-model", "m"), ("grpc-encoding", "of-its-own"))
    _, seen, got = line.exchange(head, body)
    assert got == body
    assert dict(seen.headers or [])["grpc-encoding"] == "of-its-own"


@pytest.mark.parametrize("size", [0, 1000, 300_000])
def test_a_compressed_message_is_routed_by_its_content_and_passes_as_it_is(line: Line, size: int) -> None:
    body = message(gzip.compress(tfs_request("m", size)), compressed=True)
    _, seen, got = line.exchange(request_head(TFS, ("grpc-encoding", "gzip")), body)
    assert got == body
    assert dict(seen.headers or [])["grpc-encoding"] == "gzip"


# --- metadata


def test_metadata_passes_with_all_values_in_order_and_binary_untouched(line: Line) -> None:
    own = [
        ("trace-bin", "AAECAwQ"),
        ("trace-bin", "/+8="),
        ("many", "one"),
        ("many", "two"),
        ("many", "one"),
        ("grpc-accept-encoding", "identity, gzip"),
        ("grpc-of-tomorrow", "1"),
        ("user-agent", "test/1"),
        ("authorization", "Bearer x.y.z"),
        ("empty", ""),
        ("x-text", "caf\xc3\xa9".encode("latin-1").decode()),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-request-id", "my-own_id.1"),
    ]
    stream, seen, _ = line.exchange(request_head(TFS, *own), message(FOR_M))
    # The wire has bytes; this side reads each as one character.
    wire = [(name, value.encode().decode("latin-1")) for name, value in own]
    assert fields_of(seen.headers, "grpc-timeout") == sorted(
        [("content-type", "application/grpc"), ("te", "trailers"), ("x-dl-inference-hops", "1"), *wire]
    )
    assert [value for name, value in seen.headers or [] if name == "many"] == ["one", "two", "one"]
    assert dict(stream.trailers or [])["x-request-id"] == "my-own_id.1"


def test_a_content_type_of_a_subtype_passes(line: Line) -> None:
    head = [field for field in request_head(TFS) if field[0] != "content-type"]
    _, seen, _ = line.exchange([*head, ("content-type", "application/grpc+json")], message(FOR_M))
    assert dict(seen.headers or [])["content-type"] == "application/grpc+json"


@pytest.mark.parametrize("form", ["grpc-web", "grpc-web-text"])
@pytest.mark.parametrize(("codec", "said"), [("", "+proto"), ("+proto", "+proto"), ("+json; charset=x", "+json")])
def test_a_subtype_of_grpc_web_passes_both_ways(line: Line, form: str, codec: str, said: str) -> None:
    def mirror(stream: Stream) -> None:
        stream.read_all()
        content_type = dict(stream.headers or [])["content-type"]
        stream.send_headers([(":status", "200"), ("content-type", content_type), ("grpc-status", "0")], end=True)

    line.endpoint.serve = mirror
    connection = http.client.HTTPConnection(line.access.address, timeout=20)
    connection.request("POST", TFS, headers={"content-type": f"application/{form}{codec}", "x-model": "m"})
    content_type = connection.getresponse().headers["content-type"]
    connection.close()
    assert content_type == f"application/{form}{said}"
    seen = dict(line.endpoint.last_call().headers or [])["content-type"]
    assert seen == f"application/grpc{codec.partition(';')[0]}"


def test_what_is_tied_to_a_connection_or_ours_to_say_does_not_pass(line: Line) -> None:
    def tell(stream: Stream) -> None:
        stream.read_all()
        of_error = [("access-error", "hook"), ("access-error-number", "-7")]
        ours = [*of_error, ("access-attempts", "77"), ("access-endpoint", "elsewhere")]
        stream.send_headers([*OK_HEAD, *ours, ("kept", "1")])
        stream.send(message(b""))
        stream.send_headers([("grpc-status", "0"), *ours, ("kept-too", "1")], end=True)

    line.endpoint.serve = tell
    theirs = [("access-endpoint", "x"), ("access-attempts", "9"), ("access-of-tomorrow", "1"), ("host", "elsewhere")]
    stream, seen, _ = line.exchange(request_head(TFS, *theirs), message(FOR_M))
    assert fields_of(seen.headers, "grpc-timeout", "x-request-id") == [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("x-dl-inference-hops", "1"),
    ]
    assert fields_of(stream.headers) == [
        ("access-error", "hook"),
        ("access-error-number", "-7"),
        ("content-type", "application/grpc"),
        ("kept", "1"),
    ]
    trailers = dict(stream.trailers or [])
    assert trailers.pop("x-request-id")
    assert trailers == {
        "grpc-status": "0",
        "kept-too": "1",
        "access-error": "hook",
        "access-error-number": "-7",
        "access-attempts": "1",
        "access-endpoint": line.endpoint.address,
    }


def test_headers_and_trailers_of_the_answer_pass(line: Line) -> None:
    headers = [("grpc-encoding", "gzip"), ("a-bin", "AAE"), ("same", "1"), ("same", "2"), ("grpc-of-tomorrow", "x")]
    trailers = [("grpc-status", "9"), ("grpc-message", "%E2%82%AC%20x"), ("grpc-status-details-bin", "CAkSAXg")]
    trailers += [("b-bin", "/w=="), ("same", "3"), ("same", "4")]

    def tell(stream: Stream) -> None:
        stream.read_all()
        stream.send_headers([*OK_HEAD, *headers])
        stream.send(message(b"part"))
        stream.send_headers(trailers, end=True)

    line.endpoint.serve = tell
    stream, _, got = line.exchange(request_head(TFS), message(FOR_M))
    assert got == message(b"part")
    assert fields_of(stream.headers) == sorted([("content-type", "application/grpc"), *headers])
    ours = ("access-attempts", "access-endpoint", "x-request-id")
    assert fields_of(stream.trailers, *ours) == sorted(trailers)


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 65, 'a"b'])
def test_a_request_id_is_made_where_the_caller_brings_no_good_one(line: Line, given: str | None) -> None:
    extra = [("x-request-id", given)] if given is not None else []
    stream, seen, _ = line.exchange(request_head(TFS, *extra), message(FOR_M))
    made = dict(stream.trailers or [])["x-request-id"]
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", made)
    assert [value for name, value in seen.headers or [] if name == "x-request-id"] == [made]


# --- time


def timeout_ms(seen: Stream) -> float:
    text = dict(seen.headers or [])["grpc-timeout"]
    number, unit = int(text[:-1]), text[-1]
    assert number < 10**8
    return number * {"H": 3.6e6, "M": 6e4, "S": 1e3, "m": 1, "u": 1e-3, "n": 1e-6}[unit]


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [("5S", 3000, 5000), ("900m", 200, 900), ("1H", 18_000, 20_000), (None, 18_000, 20_000)],
)
def test_the_endpoint_is_told_the_time_left_and_never_more_than_the_clusters(
    line: Line, given: str | None, least: int, most: int
) -> None:
    extra = [("grpc-timeout", given)] if given else []
    _, seen, _ = line.exchange(request_head(TFS, *extra), message(FOR_M))
    assert least <= timeout_ms(seen) <= most


def test_time_spent_waiting_for_the_route_key_is_taken_off(line: Line) -> None:
    stream = line.caller.open(request_head(TFS, ("grpc-timeout", "10S")))
    before = len(line.endpoint.calls)
    # Whole milliseconds have to pass: that they do is what is tested.
    threading.Event().wait(0.3)
    stream.send(message(FOR_M), end=True)
    wait_until(lambda: len(line.endpoint.calls) > before, "the call is forwarded")
    stream.read_all()
    assert timeout_ms(line.endpoint.last_call()) <= 9_700


# --- order and streams


def test_a_stream_flows_both_ways_before_either_side_has_ended(line: Line) -> None:
    def converse(stream: Stream) -> None:
        stream.wait_headers()
        stream.send_headers(OK_HEAD)
        while (chunk := stream.read()) is not None:
            stream.send(chunk[:5] + chunk[:4:-1] if chunk else chunk)
        stream.send(message(b"after the half-close"))
        stream.send_headers([("grpc-status", "0"), ("late", "1")], end=True)

    line.endpoint.serve = converse
    stream = line.caller.open(request_head(OIP_STREAM))
    for number in range(20):
        part = INFER_M + bytes([0x7A, 1, number])
        stream.send(message(part))
        assert stream.read() == message(part[::-1])
    stream.send(b"", end=True)
    assert stream.read() == message(b"after the half-close")
    assert stream.read() is None
    assert dict(stream.trailers or [])["late"] == "1"


def test_an_endpoint_may_answer_before_the_request_has_ended(line: Line) -> None:
    def early(stream: Stream) -> None:
        stream.wait_headers()
        head = [*OK_HEAD, ("grpc-status", "8"), ("grpc-message", "too big")]
        stream.send_headers(head, end=True)

    line.endpoint.serve = early
    stream = line.caller.open(request_head(TFS))
    stream.send(message(tfs_request("m", 100_000))[:50_000])
    status = stream.status()
    assert (status["grpc-status"], status["grpc-message"]) == ("8", "too big")


def test_the_endpoint_sees_the_callers_half_close_only_when_it_comes(line: Line) -> None:
    stream = line.caller.open(request_head(TFS))
    before = len(line.endpoint.calls)
    stream.send(message(FOR_M))
    wait_until(lambda: len(line.endpoint.calls) > before, "the call is forwarded")
    upstream = line.endpoint.last_call()
    # A second exchange on the same connections takes longer than a forwarded END_STREAM would.
    line.exchange(request_head(TFS), message(FOR_M))
    assert not upstream.has_ended
    stream.send(b"", end=True)
    assert stream.read_all() == message(FOR_M)


def test_a_slow_reader_slows_the_endpoint_down_and_gets_every_byte(line: Line) -> None:
    sent = 0

    def pour(stream: Stream) -> None:
        nonlocal sent
        stream.wait_headers()
        stream.send_headers(OK_HEAD)
        for _ in range(64):
            stream.send(message(b"." * (1 << 20)))
            sent += 1
        stream.send_headers([("grpc-status", "0")], end=True)

    line.endpoint.serve = pour
    with dial(line.access.address) as caller:
        # This caller's window is opened by hand.
        caller.is_taking = False
        stream = caller.open(request_head(OIP_STREAM))
        stream.send(message(INFER_M))
        wait_until(lambda: sent >= 8, "the endpoint sends")
        line.endpoint.serve = echo
        line.exchange(request_head(SELDON, ("x-model", "m")), message(b""))
        assert sent < 60
        caller.take()
        total = len(stream.read_all())
    assert total == 64 * ((1 << 20) + 5)
