"""Endpoints whose metadata is beyond the limit, or never ends: the call gets a prompt error, and the others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
import pytest
from e2e.calls import Answer, ask
from fixtures.access_process import Access, cluster, wait_until
from fixtures.http2_peer import Endpoint, Stream, echo

Code = grpc.StatusCode
HEADERS, CONTINUATION = 1, 9
END_STREAM, END_HEADERS = 0x1, 0x4
HEAD = [(":status", "200"), ("content-type", "application/grpc")]
LIMIT = 16_384
STUCK_S = 0.5


def integer(number: int) -> bytes:
    """Return the length of a string in HPACK, not compressed."""
    if number < 127:
        return bytes([number])
    out, number = bytearray([127]), number - 127
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(name: str, value: str) -> bytes:
    """Return a field in HPACK as it is: what packs it in Python takes seconds for a megabyte."""
    parts = [name.encode(), value.encode()]
    return b"\x00" + b"".join(integer(len(part)) + part for part in parts)


# The same head in HPACK.
RAW_HEAD = b"\x88" + field("content-type", "application/grpc")
STATUS = field("grpc-status", "0")
NOT_FOUND = field("grpc-status", "5")
MANY = b"".join(field(f"x-{number}", "v" * 400) for number in range(50))


def one(size: int) -> bytes:
    return field("x-big", "v" * size)


def blocks(block: bytes, end: bool, flags: int = 0) -> list[tuple[int, int, bytes]]:
    """Return a header block as frames of 16 KiB; without its end if that is wanted."""
    parts = [block[start : start + LIMIT] for start in range(0, len(block), LIMIT)]
    kinds = [HEADERS, *[CONTINUATION] * (len(parts) - 1)]
    last = len(parts) - 1
    return [
        (kind, (END_HEADERS if end and number == last else 0) | (0 if number else flags), part)
        for number, (kind, part) in enumerate(zip(kinds, parts, strict=True))
    ]


class Beside:
    """Serves calls badly, but those with the metadata ``beside``: they wait until they are let go."""

    def __init__(self, bad: Callable[[Stream], None]) -> None:
        self.bad = bad
        self.has_come = threading.Event()
        self.may_go = threading.Event()

    def __call__(self, stream: Stream) -> None:
        if "beside" not in dict(stream.wait_headers()):
            stream.read_all()
            return self.bad(stream)
        self.has_come.set()
        self.may_go.wait(20)
        return echo(stream)


def trailers(block: bytes, end: bool = True) -> Callable[[Stream], None]:
    def serve(stream: Stream) -> None:
        stream.send_headers(HEAD)
        stream.send_frames(*blocks(block, end, END_STREAM))

    return serve


def head(block: bytes, end: bool = True) -> Callable[[Stream], None]:
    return lambda stream: stream.send_frames(*blocks(RAW_HEAD + block, end))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    it = Endpoint(echo)
    yield it
    it.close()


@pytest.fixture
def access(start_access: Callable[..., Access], endpoint: Endpoint) -> Access:
    limits = {"keepalive_timeout_ms": int(STUCK_S * 1000)}
    it = start_access({**cluster([endpoint.address]), "limits": limits})
    it.wait_live(endpoint.address)
    return it


@pytest.fixture
def together(
    access: Access, endpoint: Endpoint, connect: Callable[[str], grpc.Channel]
) -> Callable[[Callable[[Stream], None]], tuple[Answer, float, Answer]]:
    """Make a call that is served badly beside one that waits; return its answer, how long it took, and the other's."""
    channel = connect(access.address)

    def make(bad: Callable[[Stream], None]) -> tuple[Answer, float, Answer]:
        endpoint.serve = serve = Beside(bad)
        with ThreadPoolExecutor(1) as pool:
            other: Future[Answer] = pool.submit(ask, channel, metadata=[("beside", "1")])
            assert serve.has_come.wait(10)
            started = time.monotonic()
            got = ask(channel)
            took = time.monotonic() - started
            serve.may_go.set()
            return got, took, other.result()

    return make


@pytest.mark.parametrize(
    "bad",
    [trailers(STATUS + MANY), trailers(MANY + STATUS), trailers(STATUS + one(60_000)), head(MANY), head(one(60_000))],
    ids=["trailers", "status behind them", "one value", "head", "one value in the head"],
)
def test_metadata_beyond_the_limit_is_told_and_never_cut_and_no_other_call_ends(
    together: Callable[..., tuple[Answer, float, Answer]], endpoint: Endpoint, bad: Callable[[Stream], None]
) -> None:
    got, took, other = together(bad)
    assert (got.code, got.error, got.attempts) == (Code.INTERNAL, "bad_upstream_response", 1)
    assert endpoint.address in got.message
    assert "limits.max_metadata_bytes" in got.message
    assert took < 1
    assert other.code is Code.OK
    assert len(endpoint.peers) == 1


@pytest.mark.parametrize(
    "bad",
    [trailers(STATUS + one(1 << 20)), head(one(1 << 20)), head(MANY * 60), head(one(1 << 20), end=False)],
    ids=["trailers", "one value in the head", "many in the head", "a head that never ends"],
)
def test_metadata_of_a_mebibyte_ends_its_connection_at_once_and_the_next_call_has_a_new_one(
    together: Callable[..., tuple[Answer, float, Answer]],
    access: Access,
    endpoint: Endpoint,
    connect: Callable[[str], grpc.Channel],
    bad: Callable[[Stream], None],
) -> None:
    got, took, other = together(bad)
    assert (got.code, got.error) == (Code.UNAVAILABLE, "connection_lost")
    assert "limits.max_metadata_bytes" in got.message
    assert took < 2
    # What packs the headers has a state, which is the connection's: it cannot be left out for one call.
    assert (other.code, other.error) == (Code.UNAVAILABLE, "connection_lost")
    endpoint.serve = echo
    assert ask(connect(access.address)).code is Code.OK


@pytest.mark.parametrize("bad", [trailers(STATUS, end=False), head(STATUS, end=False)], ids=["trailers", "head"])
def test_a_header_block_that_stops_coming_ends_its_connection_and_the_next_call_has_a_new_one(
    together: Callable[..., tuple[Answer, float, Answer]],
    access: Access,
    endpoint: Endpoint,
    connect: Callable[[str], grpc.Channel],
    bad: Callable[[Stream], None],
) -> None:
    got, took, _ = together(bad)
    assert (got.code, got.error) == (Code.UNAVAILABLE, "connection_lost")
    assert STUCK_S * 0.9 < took < STUCK_S * 2 + 1
    endpoint.serve = echo
    wait_until(lambda: access.endpoint(endpoint.address)["live"], "it is connected again")
    assert ask(connect(access.address)).code is Code.OK


def refusal(block: bytes) -> Callable[[Stream], None]:
    """A status and nothing else."""
    return lambda stream: stream.send_frames(*blocks(RAW_HEAD + block, True, END_STREAM))


@pytest.mark.parametrize(
    "bad", [trailers(NOT_FOUND + MANY), refusal(NOT_FOUND + one(60_000))], ids=["trailers", "head"]
)
def test_an_error_with_metadata_beyond_the_limit_stays_that_error(
    together: Callable[..., tuple[Answer, float, Answer]], bad: Callable[[Stream], None]
) -> None:
    got, _, other = together(bad)
    assert (got.code, got.error) == (Code.NOT_FOUND, None)
    assert "limits.max_metadata_bytes" in got.message
    assert other.code is Code.OK


def test_a_text_that_is_too_long_for_the_caller_is_cut_and_the_error_stays(
    access: Access, endpoint: Endpoint, connect: Callable[[str], grpc.Channel]
) -> None:
    def fail(stream: Stream) -> None:
        stream.read_all()
        text = field("grpc-message", "no such thing, " * 900)
        stream.send_headers(HEAD)
        stream.send_frames(*blocks(NOT_FOUND + text, True, END_STREAM))

    endpoint.serve = fail
    # What grpcio takes unless it is told otherwise; from half of it on it refuses at random.
    channel = connect(access.address, ("grpc.absolute_max_metadata_size", 16 * 1024))
    for _ in range(20):
        got = ask(channel)
        assert (got.code, got.attempts) == (Code.NOT_FOUND, 1)
        assert got.message.startswith("no such thing, no such thing")
        assert got.message.endswith("... (cut)")
