"""gRPC's interop cases for servers that misbehave (goaway, rst_after_header, rst_during_data, rst_after_data, ping,
max_streams, padded frames or none), through the access service, with two clients that are not ours.

Source of the cases: grpc/grpc, doc/negative-http2-interop-test-descriptions.md.
"""

from __future__ import annotations

import json
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import h2.settings
import pytest
from e2e.calls import ask, tfs_request
from fixtures.access_process import Access, cluster, wait_until
from fixtures.http2_peer import Endpoint, Stream, message
from fixtures.lacking import lacking
from fixtures.processes import ROOT

Code = grpc.StatusCode
Call = Callable[[], grpc.StatusCode]
OK_HEAD = [(":status", "200"), ("content-type", "application/grpc")]
OK_END = [("grpc-status", "0")]
# Any message is one: what it holds is a field that no client knows.
ANSWER = message(b"\x7a\xe0\xa7\x12" + b"." * 300_000)
GRPCURL = ROOT / ".peers" / "go" / "bin" / "grpcurl"
CODES = {code.value[0]: code for code in grpc.StatusCode}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    it = Endpoint(good)
    yield it
    it.close()


@pytest.fixture
def access(start_access: Callable[..., Access], endpoint: Endpoint) -> Access:
    it = start_access(cluster([endpoint.address]))
    it.wait_live(endpoint.address)
    return it


@pytest.fixture(params=["grpc-python", "grpc-go"])
def call(request: pytest.FixtureRequest, access: Access, connect: Callable[[str], grpc.Channel]) -> Call:
    """Make a unary call with a client, as ``call()``; its code is what the client says."""
    if request.param == "grpc-go":
        return lambda: call_with_go(access.address)
    channel = connect(access.address)
    return lambda: ask(channel, body=tfs_request("m")).code


def call_with_go(address: str) -> grpc.StatusCode:
    if not GRPCURL.exists():
        lacking("no grpcurl: make peers, with Go installed")
    request = json.dumps({"modelSpec": {"name": "m"}})
    command = [GRPCURL, "-plaintext", "-d", request, address, "tensorflow.serving.PredictionService/Predict"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    # It adds 64 to the code of a call that failed.
    assert done.returncode == 0 or done.returncode > 64, done.stderr
    return CODES[max(done.returncode - 64, 0)]


def answer(stream: Stream, *, break_at: int | None = None) -> None:
    """Answer a call; reset it after so many bytes of the answer, where that is said."""
    stream.read_all()
    stream.send_headers(OK_HEAD)
    if break_at is None:
        stream.send(ANSWER)
        stream.send_headers(OK_END, end=True)
        return
    if break_at:
        stream.send(ANSWER[:break_at])
    stream.reset(0)


def good(stream: Stream) -> None:
    answer(stream)


def test_after_a_goaway_the_next_call_goes_over_a_new_connection(call: Call, endpoint: Endpoint) -> None:
    def leave(stream: Stream) -> None:
        # First, so that whoever has the answer knows: the stream itself goes on.
        stream.peer.goaway_after(stream.number)
        answer(stream)

    endpoint.serve = leave
    assert [call() for _ in range(3)] == [Code.OK] * 3
    served = {id(stream.peer) for stream in endpoint.calls}
    assert len(endpoint.calls) == len(served) == 3


@pytest.mark.parametrize("break_at", [0, len(ANSWER) // 2, len(ANSWER)], ids=["header", "half the data", "data"])
def test_an_answer_that_is_reset_is_never_a_success(call: Call, endpoint: Endpoint, break_at: int) -> None:
    endpoint.serve = lambda stream: answer(stream, break_at=break_at)
    # The access service says UNAVAILABLE; grpc-go has its own word for half a message.
    assert call() in (Code.UNAVAILABLE, Code.INTERNAL)
    assert len(endpoint.calls) == 1
    endpoint.serve = good
    assert call() is Code.OK


def test_pings_of_the_endpoint_are_answered_and_change_nothing(call: Call, endpoint: Endpoint) -> None:
    def ping(stream: Stream) -> None:
        knock = lambda: stream.peer.act(lambda it: it.ping(struct.pack(">Q", stream.number)))  # noqa: E731 - four times
        knock()
        stream.read_all()
        knock()
        stream.send_headers(OK_HEAD)
        knock()
        stream.send(ANSWER)
        knock()
        stream.send_headers(OK_END, end=True)

    endpoint.serve = ping
    assert [call() for _ in range(2)] == [Code.OK] * 2
    peer = endpoint.last_call().peer
    wait_until(lambda: peer.pings_answered == 8, "each ping has its answer")
    assert len(endpoint.peers) == 1


def test_calls_beyond_an_endpoints_streams_open_another_connection_and_do_not_queue(
    call: Call, endpoint: Endpoint, access: Access
) -> None:
    limit = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    wait_until(lambda: endpoint.peers, "the endpoint knows of its connection")
    endpoint.peers[0].act(lambda it: it.update_settings(limit))
    all_there = threading.Barrier(3)

    def together(stream: Stream) -> None:
        all_there.wait(20)  # none is answered before all have come
        answer(stream)

    assert call() is Code.OK  # the access service knows of the limit
    endpoint.serve = together
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: call(), range(3))) == [Code.OK] * 3
    assert len({id(stream.peer) for stream in endpoint.calls[1:]}) >= 2


@pytest.mark.parametrize("padding", [None, 0, 255], ids=["none", "of no bytes", "of 255 bytes"])
def test_padding_of_the_answers_frames_changes_nothing(
    call: Call, endpoint: Endpoint, access: Access, connect: Callable[[str], grpc.Channel], padding: int | None
) -> None:
    def pad(stream: Stream) -> None:
        body = stream.read_all()
        stream.send_headers(OK_HEAD)
        for start in range(0, len(body), 1000):
            part = body[start : start + 1000]
            stream.peer.act(lambda it, part=part: it.send_data(stream.number, part, pad_length=padding))
        stream.send_headers(OK_END, end=True)

    endpoint.serve = pad
    assert call() is Code.OK
    request = tfs_request("m", 20_000)
    assert ask(connect(access.address), body=request).body == request
