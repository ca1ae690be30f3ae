"""What callers that misbehave cost the others: nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
import pytest
from e2e.calls import FOR_M, ask, tfs_request
from fixtures.access_process import TFS, Access, cluster, wait_until
from fixtures.http2_peer import Endpoint, Peer, Stream, dial, echo, message, request_head, unary

MIB = 1 << 20
UNREAD = message(tfs_request("m", 200_000))
OK_HEAD = [(":status", "200"), ("content-type", "application/grpc")]
# The least that the limits may be, so that few calls are many.
LIMITS = {"max_message_bytes": MIB, "connection_window_bytes": MIB, "max_unread_bytes": MIB}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    it = Endpoint(echo)
    yield it
    it.close()


@pytest.fixture
def access(start_access: Callable[..., Access], endpoint: Endpoint) -> Access:
    it = start_access({**cluster([endpoint.address]), "limits": LIMITS})
    it.wait_live(endpoint.address)
    return it


@pytest.fixture
def unreading(access: Access) -> Iterator[Peer]:
    """A caller whose streams have no window."""
    with dial(access.address, window=0) as caller:
        yield caller


def leave_unread(access: Access, caller: Peer, calls: int) -> list[Stream]:
    """Make calls whose answers the caller does not take; each has all come to the access service."""
    before = access.status()["unread_bytes"]
    streams = [unary(caller, request_head(TFS), UNREAD) for _ in range(calls)]
    # What is sent before the first look at the caller's window is a frame.
    wait_until(lambda: access.status()["unread_bytes"] - before > calls * 100_000, "the answers have come")
    return streams


def test_answers_that_are_not_taken_leave_the_endpoints_window_open(
    access: Access, unreading: Peer, connect: Callable[[str], grpc.Channel]
) -> None:
    channel = connect(access.address)
    for _ in range(3):
        # More than the whole window of a connection, were it closed by what is not taken.
        streams = leave_unread(access, unreading, 6)
        assert ask(channel, body=tfs_request("m", 200_000), timeout_s=5).code is grpc.StatusCode.OK
        for stream in streams:
            stream.reset(8)
        wait_until(lambda: access.status()["unread_bytes"] == 0, "nothing is kept of calls that have ended")


def test_an_answer_beyond_what_may_be_kept_ends_its_call_and_no_other(
    access: Access, unreading: Peer, endpoint: Endpoint, connect: Callable[[str], grpc.Channel]
) -> None:
    leave_unread(access, unreading, 4)
    ends = [unary(unreading, request_head(TFS), UNREAD) for _ in range(4)]
    wait_until(lambda: any(stream.gone for stream in ends), "a call ends")
    assert access.status()["unread_bytes"] <= MIB
    assert ask(connect(access.address), body=tfs_request("m", 200_000), timeout_s=5).code is grpc.StatusCode.OK
    assert access.counter("dl_errors_total", kind="shed") >= 1
    assert access.weight(endpoint.address) == 1.0


def test_a_late_reader_gets_what_came_before_the_endpoint_broke_off(
    access: Access, unreading: Peer, endpoint: Endpoint
) -> None:
    def break_off(stream: Stream) -> None:
        stream.read_all()
        stream.send_headers(OK_HEAD)
        stream.send(UNREAD)
        stream.reset(2)

    endpoint.serve = break_off
    stream = unary(unreading, request_head(TFS), message(FOR_M))
    wait_until(lambda: access.status()["unread_bytes"] > 0, "the answer has come")
    unreading.act(lambda h2: h2.update_settings({4: len(UNREAD)}))
    status = stream.status()
    assert (status["grpc-status"], status["access-error"]) == ("14", "stream_reset")
