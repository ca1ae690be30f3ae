"""Callers that speak something else to the gRPC port: each gets an answer that it understands, and is counted."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from e2e.calls import ask
from fixtures.access_process import Access, cluster, wait_until
from fixtures.http2_peer import Endpoint, echo
from fixtures.processes import Process

LIMITS = {"header_timeout_ms": 1000}
WAIT_S = 5.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    started: list[Process] = []

    def run(command: list[str | Path]) -> Process:
        started.append(Process(command))
        return started[-1]

    endpoint = Endpoint(echo)
    yield Access(run, tmp_path_factory.mktemp("access"), {**cluster([endpoint.address]), "limits": LIMITS})
    for process in started:
        process.kill()
        print(process.log)
    endpoint.close()


def exchange(access: Access, *pieces: bytes) -> bytes:
    """Send pieces one after the other; return all that comes until the other side closes."""
    host, _, port = access.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            caller.sendall(piece)
        answer = b""
        while data := caller.recv(1 << 16):
            answer += data
        return answer


def closed(access: Access, reason: str) -> float:
    return access.counter("dl_connections_closed_total", reason=reason)


def singly(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


@pytest.mark.parametrize("opening", [b"", b"G", PREFACE[:10], b"\x16"], ids=["nothing", "a letter", "half", "TLS"])
def test_a_caller_that_does_not_say_what_it_speaks_is_closed_when_its_time_is_over(
    access: Access, opening: bytes
) -> None:
    before = closed(access, "header_timeout")
    assert exchange(access, opening) == b""
    wait_until(lambda: closed(access, "header_timeout") == before + 1, "the caller is counted")


@pytest.mark.parametrize("opening", [b"\0" * 40, b"SSH-2.0-x\r\n" + b"." * 20, b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"])
def test_garbage_is_closed_and_counted_as_no_protocol_of_ours(access: Access, opening: bytes) -> None:
    before = closed(access, "protocol")
    answer = exchange(access, opening)
    assert not answer.startswith(b"HTTP/1")
    wait_until(lambda: closed(access, "protocol") == before + 1, "the caller is counted")


def test_a_caller_that_says_nothing_and_goes_is_no_failure(access: Access) -> None:
    before = closed(access, "downstream")
    host, _, port = access.address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=WAIT_S).close()
    wait_until(lambda: closed(access, "downstream") == before + 1, "the caller is counted")


def test_a_client_of_tls_is_told_by_an_alert(access: Access) -> None:
    before = closed(access, "tls")
    host, _, port = access.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=WAIT_S) as caller,
        pytest.raises(ssl.SSLError, match=r"(?i)alert handshake failure"),
    ):
        ssl.create_default_context().wrap_socket(caller, server_hostname="localhost")
    wait_until(lambda: closed(access, "tls") == before + 1, "the caller is counted")


def test_the_log_names_callers_that_want_tls(access: Access) -> None:
    exchange(access, b"\x16\x03\x01\x00\x05hello")
    pattern = r"WARNING access: .*127\.0\.0\.1:\d+, asked for TLS: this port speaks gRPC and HTTP without TLS"
    access.process.wait_line(pattern, timeout_s=WAIT_S)


def test_http2_comes_byte_by_byte_too(access: Access, connect: Callable[..., grpc.Channel]) -> None:
    host, _, port = access.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as caller:
        for piece in singly(PREFACE + b"\0\0\0\4\0\0\0\0\0"):
            caller.sendall(piece)
        assert caller.recv(9)[3:4] == b"\4"  # SETTINGS
    assert ask(connect(access.address)).code is grpc.StatusCode.OK
