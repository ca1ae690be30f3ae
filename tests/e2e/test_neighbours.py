"""What callers, endpoints and networks that misbehave cost other calls: nothing."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from e2e.calls import FOR_M, ask, tfs_request
from fixtures.access_process import TFS, Access, cluster, wait_until
from fixtures.http2_peer import Endpoint, Peer, Stream, dial, echo, message, request_head, unary
from fixtures.lacking import lacking
from fixtures.processes import Endpoint as Program
from fixtures.processes import Load, Process

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


# --- endpoints that take no requests


@pytest.fixture
def untaking() -> Iterator[Endpoint]:
    """An endpoint whose streams have no window."""
    it = Endpoint(hang, window=0)
    yield it
    it.close()


@pytest.fixture
def two_models(start_access: Callable[..., Access], endpoint: Endpoint, untaking: Endpoint) -> Access:
    """Model m is served by the endpoint that takes no requests, n by one that answers."""
    it = start_access({**two_clusters(untaking.address, endpoint.address), "limits": LIMITS})
    it.wait_live(untaking.address)
    wait_until(lambda: it.endpoint(endpoint.address, "other")["live"], "the other is live")
    return it


def two_clusters(bad: str, good: str, **settings: Any) -> dict[str, Any]:
    """Return a configuration with model m at one endpoint, and n at another."""
    return {
        "clusters": {"fleet": {"endpoints": [bad], **settings}, "other": {"endpoints": [good]}},
        "models": {"m": {"cluster": "fleet"}, "n": {"cluster": "other"}},
    }


def hang(stream: Stream) -> None:
    """Answer nothing."""
    stream.wait_gone(60)


def leave_untaken(access: Access, caller: Peer, calls: int) -> list[Stream]:
    """Send requests that the endpoint does not take; each has all come to the access service."""
    before = access.status()["unsent_bytes"]
    streams = [unary(caller, request_head(TFS), UNREAD) for _ in range(calls)]
    # What is sent before the first look at the endpoint's window is some frames.
    wait_until(lambda: access.status()["unsent_bytes"] - before > calls * 100_000, "the requests have come")
    return streams


def ask_n(caller: Peer, timeout_s: float = 5) -> str:
    """Return the status of a call for model n, of a size that needs the connection's window."""
    stream = unary(caller, request_head(TFS), message(tfs_request("n", 200_000)))
    stream.read_all(timeout_s)
    return dict(stream.trailers or stream.headers or [])["grpc-status"]


def test_requests_that_are_not_taken_leave_the_callers_window_open(two_models: Access) -> None:
    with dial(two_models.address) as caller:
        for _ in range(3):
            # Nearly the whole window of a connection, and it is all open again for others.
            streams = leave_untaken(two_models, caller, 5)
            assert ask_n(caller) == "0"
            for stream in streams:
                stream.reset(8)
            wait_until(lambda: two_models.status()["unsent_bytes"] == 0, "nothing is kept of calls that have ended")


def test_requests_beyond_what_may_be_kept_wait_and_cost_no_other_caller_anything(two_models: Access) -> None:
    with dial(two_models.address) as caller, dial(two_models.address) as other:
        leave_untaken(two_models, caller, 5)
        late = [caller.open(request_head(TFS)) for _ in range(8)]
        for stream in late:
            # As much as the connection's window lets out.
            room = caller.h2.local_flow_control_window(stream.number)
            if room:
                stream.send(UNREAD[:room])
        assert ask_n(other) == "0"
        assert 900_000 < two_models.status()["unsent_bytes"] <= MIB
        assert not [stream for stream in late if stream.gone or stream.headers]


def test_a_request_that_was_kept_arrives_unchanged_once_it_is_taken(two_models: Access, untaking: Endpoint) -> None:
    content = message(tfs_request("m") + bytes([0x7A, 0xE0, 0xA7, 0x12]) + os.urandom(300_000))
    untaking.serve = echo
    with dial(two_models.address) as caller:
        stream = caller.open(request_head(TFS))
        for start in range(0, len(content), 7_001):
            stream.send(content[start : start + 7_001])
        wait_until(lambda: two_models.status()["unsent_bytes"] > 200_000, "it is kept")
        stream.send(b"", end=True)
        untaking.last_call().peer.act(lambda h2: h2.update_settings({4: len(content)}))
        assert stream.read_all() == content
    assert two_models.status()["unsent_bytes"] == 0


def test_requests_that_wait_for_a_connect_leave_the_callers_window_open(
    start_access: Callable[..., Access], endpoint: Endpoint
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        # Its backlog takes connects, and nobody speaks.
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        limits = {**LIMITS, "connect_timeout_ms": 10_000}
        access = start_access({**two_clusters(address, endpoint.address), "limits": limits})
        wait_until(lambda: access.endpoint(endpoint.address, "other")["live"], "the other is live")
        with dial(access.address) as caller:
            leave_untaken(access, caller, 5)
            assert ask_n(caller) == "0"


# --- calls that the access service ends


def test_calls_that_run_out_of_time_never_end_their_connection(
    start_access: Callable[..., Access],
    start_endpoint: Callable[..., Program],
    start_load: Callable[..., Load],
    connect: Callable[[str], grpc.Channel],
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    access = start_access(cluster([endpoint.address], timeout_ms=100))
    access.wait_live(endpoint.address)
    connections = endpoint.counts()[1]
    endpoint.tell("hang")
    # Libraries end a connection after 1,024 streams that they reset themselves, or 1,000 at a time.
    options = ("--rate", "1500", "--seconds", "2", "--deadline-ms", "10000")
    report = start_load(access.address, TFS, tfs_request("m"), *options).report()
    assert report["codes"] == {"DEADLINE_EXCEEDED": report["calls"]}
    endpoint.tell("ok")
    access.configure(cluster([endpoint.address], timeout_ms=20_000))
    assert ask(connect(access.address)).code is grpc.StatusCode.OK
    assert endpoint.counts()[1] == connections


# --- a network that loses everything


@pytest.fixture
def far_away(run: Callable[..., Process]) -> Iterator[tuple[Callable[..., Process], str, Callable[[], None]]]:
    """A network of its own: how to start programs there, its address, and how to cut it off."""
    name = f"n{os.getpid() % 100_000}"

    def ip(*words: str, check: bool = False) -> int:
        return subprocess.run(["ip", *words], capture_output=True, timeout=20, check=check).returncode

    if ip("netns", "add", name) != 0:
        lacking("no network namespaces: ip netns add needs root")
    try:
        ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", check=True)
        ip("link", "set", f"{name}b", "netns", name, check=True)
        ip("addr", "add", "198.18.77.1/30", "dev", f"{name}a", check=True)
        ip("link", "set", f"{name}a", "up", check=True)
        ip("-n", name, "addr", "add", "198.18.77.2/30", "dev", f"{name}b", check=True)
        ip("-n", name, "link", "set", f"{name}b", "up", check=True)

        def start(command: list[str], **options: object) -> Process:
            return run(["ip", "netns", "exec", name, *command], **options)

        def cut() -> None:
            ip("-n", name, "link", "set", f"{name}b", "down", check=True)

        yield start, "198.18.77.2", cut
    finally:
        ip("link", "delete", f"{name}a")
        ip("netns", "delete", name)


def test_calls_at_an_endpoint_that_is_gone_without_a_word_move_to_another(
    start_access: Callable[..., Access],
    start_endpoint: Callable[..., Program],
    far_away: tuple[Callable[..., Process], str, Callable[[], None]],
    connect: Callable[[str], grpc.Channel],
) -> None:
    start, host, cut = far_away
    near = start_endpoint("--echo", "yes")
    far = Program(start, Path(near.process.command[0]), ("--echo", "yes"), host)
    limits = {"tcp_user_timeout_ms": 500, "connect_timeout_ms": 500}
    access = start_access({**cluster([far.address, near.address]), "limits": limits})
    access.wait_live(far.address, near.address)
    channel = connect(access.address)
    met = {ask(channel).trailers["access-endpoint"] for _ in range(20)}
    assert met == {far.address, near.address}
    cut()
    answers = [channel.unary_unary(TFS).future(FOR_M, timeout=20) for _ in range(10)]
    assert [each.code() for each in answers] == [grpc.StatusCode.OK] * 10
    wait_until(lambda: not access.endpoint(far.address)["live"], "it is found dead")
