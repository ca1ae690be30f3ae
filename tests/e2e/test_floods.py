"""Floods and stalls with a raw frame client: each ends within a second of its limit, while another caller works on."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import grpc
import hpack
import pytest
from e2e.calls import FOR_M, ask, tfs_request
from fixtures.access_process import OIP_STREAM, TFS, Access, cluster, wait_until
from fixtures.http2_peer import Endpoint, Stream, dial, echo, message, request_head
from fixtures.processes import Process

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 0x1, 0x4
ENHANCE_YOUR_CALM = 11

# Short limits, so that a test need not wait for the defaults; what they limit is the same.
LIMITS = {
    "header_timeout_ms": 500,
    "body_timeout_ms": 700,
    "connection_idle_timeout_ms": 1200,
    "max_connections": 40,
    "max_connections_per_ip": 30,
}
# Beyond its limit a connection has this long.
GRACE_S = 1.0
# A machine that runs other things too may be this late.
SLACK_S = 2.5


def frame(kind: int, payload: bytes = b"", stream: int = 0, flags: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Raw:
    """A socket that writes frames as told, and reads those that come back in a thread."""

    def __init__(self, address: str, preface: bytes = PREFACE + frame(SETTINGS)) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.frames: list[tuple[int, int, bytes]] = []
        self._ended = threading.Event()
        self.is_reading = True
        self._thread: threading.Thread | None = None
        self.encoder = hpack.Encoder()
        self.send(preface)
        self.opened = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        if self._thread:
            self._thread.join(5)

    def read_on(self) -> Self:
        """Begin to read."""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def send(self, data: bytes) -> bool:
        """Write; False once the other side is gone."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def head(self, number: int, *fields: tuple[str, str], flags: int = END_HEADERS) -> bytes:
        """Return a HEADERS frame of a request."""
        return frame(HEADERS, self.encoder.encode([*request_head(TFS), *fields]), number, flags)

    def wait_end(self, timeout_s: float) -> float:
        """Wait until the other side has closed; return when, in s since the connection was opened."""
        assert self._ended.wait(timeout_s), f"still open after {timeout_s} s: {self.frames[-3:]}"
        return time.monotonic() - self.opened

    def wait_a_moment(self) -> bool:
        """Let 50 ms pass, as a slow sender does; True once the other side has closed."""
        return self._ended.wait(0.05)

    def has_ended(self) -> bool:
        """Tell whether the other side has closed."""
        return self._ended.is_set()

    def goaway(self) -> int | None:
        """Return the code of the GOAWAY that came, if one did."""
        codes = [struct.unpack(">I", payload[4:8])[0] for kind, _, payload in self.frames if kind == GOAWAY]
        return codes[-1] if codes else None

    def has(self, kind: int, stream: int) -> bool:
        return any(each[0] == kind and each[1] == stream for each in self.frames)

    def _read(self) -> None:
        buffer = bytearray()
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                break
            buffer += data
            while len(buffer) >= 9 and len(buffer) >= 9 + (length := int.from_bytes(buffer[:3])):
                kind, number = buffer[3], int.from_bytes(buffer[5:9]) & 0x7FFFFFFF
                self.frames.append((kind, number, bytes(buffer[9 : 9 + length])))
                del buffer[: 9 + length]
        self._ended.set()


class Neighbour:
    """Another caller, who calls all the time and must not notice."""

    def __init__(self, access: Access) -> None:
        self._channel = grpc.insecure_channel(access.address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.latencies: list[float] = []
        self.failures: list[object] = []

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: len(self.latencies) >= 3, "the neighbour calls")
        return self

    def __exit__(self, *_: object) -> None:
        calls = len(self.latencies)
        wait_until(lambda: len(self.latencies) >= calls + 3 or self.failures, "the neighbour calls on")
        self._stop.set()
        self._thread.join()
        self._channel.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            start = time.monotonic()
            got = ask(self._channel, timeout_s=5)
            if got.code is not grpc.StatusCode.OK:
                self.failures.append(got)
                return
            self.latencies.append(time.monotonic() - start)

    def assert_undisturbed(self) -> None:
        assert not self.failures
        assert sorted(self.latencies)[len(self.latencies) // 2] < 0.1


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint(echo)
    yield endpoint
    endpoint.close()


@pytest.fixture(scope="module")
def access(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    started: list[Process] = []

    def run(command: list[str | Path]) -> Process:
        started.append(Process(command))
        return started[-1]

    yield Access(run, tmp_path_factory.mktemp("access"), {**cluster([endpoint.address]), "limits": LIMITS})
    for process in started:
        process.kill()
        print(process.log)


@pytest.fixture(autouse=True)
def neighbour(access: Access, endpoint: Endpoint) -> Iterator[Neighbour]:
    endpoint.serve = echo
    with Neighbour(access) as neighbour:
        yield neighbour
    neighbour.assert_undisturbed()


# --- frame accounting


def flood_of(access: Access, frames: bytes, most: int, opening: bytes = b"") -> Raw:
    """Send the same frames again and again until the other side has enough, at most so many times."""
    raw = Raw(access.address).read_on()
    raw.send(opening or raw.head(1))
    batch = 200
    for _ in range(most // batch):
        if not raw.send(frames * batch) or raw.goaway() is not None:
            break
    raw.wait_end(GRACE_S + SLACK_S)
    return raw


@pytest.mark.parametrize(
    "frames",
    [
        frame(PING, b"12345678"),
        frame(PING, b"12345678", flags=1),
        frame(SETTINGS),
        frame(SETTINGS, struct.pack(">HI", 4, 65535)),
        frame(PRIORITY, struct.pack(">IB", 0, 1), stream=1),
        frame(PRIORITY, struct.pack(">IB", 0, 1), stream=9),
        frame(WINDOW_UPDATE, struct.pack(">I", 1)),
        frame(WINDOW_UPDATE, struct.pack(">I", 1), stream=1),
        frame(DATA, b"", stream=1),
        frame(DATA, bytes([3, 0, 0, 0]), stream=1, flags=8),
        frame(0xBE, b"x"),
    ],
    ids=[
        "PING",
        "PING answers",
        "SETTINGS",
        "SETTINGS with a value",
        "PRIORITY",
        "PRIORITY of idle streams",
        "WINDOW_UPDATE",
        "WINDOW_UPDATE of a stream",
        "empty DATA",
        "padding only",
        "unknown",
    ],
)
def test_frames_that_carry_nothing_end_the_connection(access: Access, frames: bytes) -> None:
    with flood_of(access, frames, 20_000) as raw:
        assert raw.goaway() == ENHANCE_YOUR_CALM


def test_rapid_resets_end_the_connection(access: Access, endpoint: Endpoint) -> None:
    before = len(endpoint.calls)
    with Raw(access.address).read_on() as raw:
        sent = 0
        for first in range(1, 200_000, 200):
            pairs = [
                raw.head(number) + frame(RST_STREAM, struct.pack(">I", 8), number)
                for number in range(first, first + 200, 2)
            ]
            if not raw.send(b"".join(pairs)) or raw.goaway() is not None:
                break
            sent += len(pairs)
        raw.wait_end(GRACE_S + SLACK_S)
        assert raw.goaway() == ENHANCE_YOUR_CALM
    assert sent < 20_000
    assert not [call for call in endpoint.calls[before:] if call.headers is None]


def test_rapid_resets_of_forwarded_calls_end_the_connection_and_are_cancelled_upstream(
    access: Access, endpoint: Endpoint
) -> None:
    def hang(stream: Stream) -> None:
        if dict(stream.headers or []).get("who") != "attacker":
            return echo(stream)
        stream.wait_gone()
        return None

    endpoint.serve = hang
    with Raw(access.address).read_on() as raw:
        body = message(FOR_M)
        for first in range(1, 40_000, 40):
            numbers = range(first, first + 40, 2)
            opened = b"".join(raw.head(n, ("who", "attacker")) + frame(DATA, body, n) for n in numbers)
            resets = b"".join(frame(RST_STREAM, struct.pack(">I", 8), n) for n in numbers)
            if not (raw.send(opened) and raw.send(resets)) or raw.goaway() is not None:
                break
        raw.wait_end(GRACE_S + SLACK_S)
        assert raw.goaway() == ENHANCE_YOUR_CALM
    wait_until(lambda: access.status()["in_flight"] <= 1, "all calls but the neighbour's are over")


def test_a_peer_that_makes_the_service_reset_its_calls_is_cut_off(access: Access) -> None:
    """CVE-2025-8671: each call is made invalid by its sender, so that it is our side that resets it."""
    with Raw(access.address).read_on() as raw:
        for first in range(1, 40_000, 40):
            numbers = range(first, first + 40, 2)
            invalid = [raw.head(n, ("content-length", "1")) + frame(DATA, message(FOR_M), n) for n in numbers]
            if not raw.send(b"".join(invalid)) or raw.goaway() is not None:
                break
        raw.wait_end(GRACE_S + SLACK_S)
        assert raw.goaway() == ENHANCE_YOUR_CALM
    wait_until(lambda: access.status()["in_flight"] <= 1, "all calls but the neighbour's are over")


def test_a_flood_by_a_peer_that_does_not_read_ends_too(access: Access, endpoint: Endpoint) -> None:
    def pour(stream: Stream) -> None:
        if dict(stream.headers or []).get("who") != "attacker":
            return echo(stream)
        stream.send_headers([(":status", "200"), ("content-type", "application/grpc")])
        while True:
            stream.send(message(b"." * (1 << 20)))

    endpoint.serve = pour
    window = frame(SETTINGS, struct.pack(">HI", 4, 0x7FFFFFFF)) + frame(
        WINDOW_UPDATE, struct.pack(">I", 0x7FFF0000 - 65535)
    )
    with Raw(access.address, PREFACE + window) as raw:
        raw.send(raw.head(1, ("who", "attacker")) + frame(DATA, message(FOR_M), 1))
        number = len(endpoint.calls)
        wait_until(lambda: access.status()["connections"] >= 2, "both are connected")
        before = access.status()["connections"]
        while raw.send(frame(PRIORITY, struct.pack(">IB", 0, 1), 9) * 200):
            number += 1
            assert number < 100_000
        wait_until(lambda: access.status()["connections"] < before, "the connection is gone", GRACE_S + SLACK_S)


# --- headers


def test_a_header_block_that_never_ends_ends_the_connection(access: Access) -> None:
    with Raw(access.address).read_on() as raw:
        raw.send(raw.head(1, flags=0))
        for _ in range(2000):
            if not raw.send(frame(CONTINUATION, b"\x00\x01a\x01b" * 100, 1) * 10):
                break
        raw.wait_end(GRACE_S + SLACK_S)
        assert raw.goaway() is not None


def test_a_header_list_beyond_16_kib_is_refused(access: Access, endpoint: Endpoint) -> None:
    before = [call for call in endpoint.calls if ("big", "1") in (call.headers or [])]
    with dial(access.address) as caller:
        call = caller.open(request_head(TFS, ("big", "1"), *[(f"x-{n}", "v" * 400) for n in range(50)]), end=True)
        refused = call.status()
        assert refused["grpc-status"] == "8"
        assert "limits.max_metadata_bytes" in refused["grpc-message"]
        # The connection is none the worse for it.
        good = caller.open(request_head(TFS))
        good.send(message(FOR_M), end=True)
        assert good.status()["grpc-status"] == "0"
    assert [call for call in endpoint.calls if ("big", "1") in (call.headers or [])] == before


def test_a_header_list_beyond_16_kib_is_refused_as_grpc_where_its_type_comes_last(access: Access) -> None:
    # As grpc-js and tonic send it.
    *pseudo, kind, trailers = request_head(TFS)
    with dial(access.address) as caller:
        call = caller.open([*pseudo, ("x-long", "l" * 20_000), trailers, kind], end=True)
        refused = call.status()
        assert (call.headers or [])[0] == (":status", "200")
        assert refused["grpc-status"] == "8"
        assert "limits.max_metadata_bytes" in refused["grpc-message"]


def test_a_few_bytes_that_unpack_to_a_large_list_are_refused(access: Access) -> None:
    with Raw(access.address).read_on() as raw:
        # One entry of 4,000 bytes goes into the table; one byte each names it again.
        block = raw.encoder.encode([*request_head(TFS), ("bomb", "x" * 3900)]) + b"\xbe" * 4000
        started = time.monotonic()
        raw.send(frame(HEADERS, block, 1, END_HEADERS | END_STREAM))
        wait_until(lambda: raw.has(HEADERS, 1) or raw.has(RST_STREAM, 1) or raw.goaway() is not None, "it is refused")
        assert time.monotonic() - started < GRACE_S


def test_calls_beyond_the_metadata_that_a_connection_may_have_are_refused_and_its_other_calls_go_on(
    access: Access, endpoint: Endpoint
) -> None:
    calls, each = 400, 3 * 3900
    with Raw(access.address).read_on() as raw:
        fields = [*request_head(TFS), ("bomb", "x" * 3900)]
        # From the second on a few bytes name what is in the table, and the long one three times.
        first, others = (raw.encoder.encode(fields) + b"\xbe" * 2 for _ in range(2))
        blocks = [first, *[others] * (calls - 1)]
        assert raw.send(b"".join(frame(HEADERS, it, 2 * n + 1, END_HEADERS) for n, it in enumerate(blocks)))
        wait_until(lambda: sum(kind == HEADERS for kind, *_ in list(raw.frames)) == calls, "all are answered")
        decoder = hpack.Decoder()
        answers = [dict(decoder.decode(payload)) for kind, _, payload in raw.frames if kind == HEADERS]
        refused = [answer for answer in answers if answer.get("access-error") == "shed"]
        assert all("limits.max_connection_bytes" in answer["grpc-message"] for answer in refused)
        # Half of 4 MiB is the metadata's.
        assert calls - (2 << 20) / each < len(refused) < calls - 0.8 * (2 << 20) / each
        # The others wait for their bodies, which do not come.
        assert {answer["access-error"] for answer in answers} == {"shed", "deadline_exceeded"}
        last = 2 * calls + 1
        raw.send(raw.head(last) + frame(DATA, message(FOR_M), last, END_STREAM))
        wait_until(lambda: raw.has(DATA, last), "there is room again")
        assert raw.goaway() is None


@pytest.mark.parametrize("name", ["x-many", "cookie"])
def test_more_than_128_fields_are_refused_cookies_counted_one_by_one(access: Access, name: str) -> None:
    with dial(access.address) as caller:
        call = caller.open(request_head(TFS, *[(name, "a=1")] * 130), end=True)
        status = call.status()
    assert (status["grpc-status"], status["access-error"]) == ("3", "bad_request")


# --- stalls


def test_a_connection_without_a_preface_ends_at_the_header_timeout(access: Access) -> None:
    with Raw(access.address, b"").read_on() as raw:
        assert raw.wait_end(0.5 + GRACE_S + SLACK_S) > 0.4


@pytest.mark.parametrize(
    "said",
    [PREFACE[:10], PREFACE + frame(SETTINGS), PREFACE + frame(SETTINGS) + frame(HEADERS, b"\x83" * 40, 1)[:20]],
    ids=["half a preface", "settings only", "half a frame"],
)
def test_a_connection_without_a_whole_request_head_ends_at_the_header_timeout(access: Access, said: bytes) -> None:
    with Raw(access.address, said).read_on() as raw:
        assert raw.wait_end(0.5 + GRACE_S + SLACK_S) > 0.4


def test_a_head_that_comes_byte_by_byte_ends_at_the_header_timeout(access: Access) -> None:
    with Raw(access.address).read_on() as raw:
        for byte in raw.head(1):
            if not raw.send(bytes([byte])) or raw.wait_a_moment():
                break
        assert raw.wait_end(0.5 + GRACE_S + SLACK_S) < 0.5 + GRACE_S + SLACK_S
        assert not raw.has(HEADERS, 1)


@pytest.mark.parametrize("sent", [b"", message(FOR_M)[:3], message(tfs_request("m", 100_000))[:500]])
def test_a_body_that_stops_coming_ends_the_call(access: Access, sent: bytes) -> None:
    with dial(access.address) as caller:
        call = caller.open(request_head(TFS))
        if sent:
            call.send(sent)
        started = time.monotonic()
        status = call.status()
        took = time.monotonic() - started
    assert (status["grpc-status"], status["access-error"]) == ("4", "deadline_exceeded")
    assert 0.5 < took < 0.7 * 2 + GRACE_S + SLACK_S


def test_a_body_that_trickles_ends_the_call(access: Access) -> None:
    with dial(access.address) as caller:
        call = caller.open(request_head(TFS))
        call.send(message(tfs_request("m", 100_000))[:500])
        started = time.monotonic()
        while call.trailers is None and not call.has_ended and time.monotonic() - started < 10:
            call.send(b".")
            threading.Event().wait(0.02)
        assert time.monotonic() - started < 0.7 * 2 + GRACE_S + SLACK_S
        assert call.status()["grpc-status"] == "4"


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_an_answer_that_is_not_read_ends_the_call(access: Access, endpoint: Endpoint, size: int) -> None:
    def answer(stream: Stream) -> None:
        if dict(stream.headers or []).get("who") != "attacker":
            return echo(stream)
        stream.send_headers([(":status", "200"), ("content-type", "application/grpc")])
        stream.send(message(b"." * size))
        stream.send_headers([("grpc-status", "0")], end=True)
        return None

    endpoint.serve = answer
    no_window = frame(SETTINGS, struct.pack(">HI", 4, 0))
    with Raw(access.address, PREFACE + no_window).read_on() as raw:
        started = time.monotonic()
        raw.send(raw.head(1, ("who", "attacker")) + frame(DATA, message(FOR_M), 1, END_STREAM))
        wait_until(lambda: raw.has(RST_STREAM, 1), "the call is reset", 0.7 * 2 + GRACE_S + SLACK_S)
        assert time.monotonic() - started > 0.5
    wait_until(lambda: access.status()["in_flight"] <= 1, "only the neighbour's call is left")
    assert access.weight(endpoint.address) == 1.0


def test_two_hundred_calls_whose_windows_stay_closed_end_each_by_itself(access: Access) -> None:
    closed = frame(SETTINGS, struct.pack(">HI", 4, 0))
    numbers = range(1, 400, 2)
    with Raw(access.address, PREFACE + closed).read_on() as raw:
        raw.send(b"".join(raw.head(n) + frame(DATA, message(FOR_M), n, END_STREAM) for n in numbers))
        wait_until(lambda: all(raw.has(HEADERS, n) for n in numbers), "all answers have begun")
        assert not any(raw.has(DATA, n) for n in numbers)
        wait_until(lambda: all(raw.has(RST_STREAM, n) for n in numbers), "each has ended", 0.7 * 2 + GRACE_S + SLACK_S)
        assert raw.goaway() is None
        # Its connection goes on.
        raw.send(frame(SETTINGS, struct.pack(">HI", 4, 65_535)) + raw.head(401))
        raw.send(frame(DATA, message(FOR_M), 401, END_STREAM))
        wait_until(lambda: raw.has(DATA, 401), "it is answered")
    wait_until(lambda: access.status()["in_flight"] <= 1, "all calls but the neighbour's are over")


def test_an_idle_connection_ends_at_its_timeout(access: Access) -> None:
    with dial(access.address) as caller:
        call = caller.open(request_head(TFS))
        call.send(message(FOR_M), end=True)
        assert call.status()["grpc-status"] == "0"
        started = time.monotonic()
        wait_until(lambda: caller.has_ended, "the connection ends", 1.2 + GRACE_S + SLACK_S)
        assert time.monotonic() - started > 1.0
        assert caller.goaway == (call.number, 0)


# --- connections


def test_connections_beyond_the_limit_of_an_address_are_closed_and_the_others_stay(access: Access) -> None:
    refused = access.counter("dl_connections_refused_total", reason="max_connections_per_ip")
    wait_until(lambda: access.status()["connections"] == 1, "only the neighbour is connected")
    with contextlib.ExitStack() as stack:
        raws = [stack.enter_context(Raw(access.address).read_on()) for _ in range(35)]
        # One is the neighbour's.
        wait_until(lambda: sum(raw.has_ended() for raw in raws) >= 35 - 29, "six are closed", 0.4)
        assert sum(raw.has_ended() for raw in raws) == 35 - 29
    assert access.counter("dl_connections_refused_total", reason="max_connections_per_ip") - refused == 35 - 29


def test_connections_beyond_the_limit_in_all_are_closed(access: Access) -> None:
    refused = access.counter("dl_connections_refused_total", reason="max_connections")
    wait_until(lambda: access.status()["connections"] == 1, "only the neighbour is connected")
    port = int(access.address.rpartition(":")[2])
    with contextlib.ExitStack() as stack:
        for number in range(45):
            # Every address of 127.0.0.0/8 is this machine.
            source = (f"127.0.0.{2 + number}", 0)
            stack.enter_context(socket.create_connection(("127.0.0.1", port), source_address=source))
        wait_until(
            lambda: access.counter("dl_connections_refused_total", reason="max_connections") - refused == 6,
            "six are refused",
        )


# --- what is no HTTP/2


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", os.urandom(64), PREFACE[:-1] + b"x", PREFACE.lower()],
    ids=["HTTP/1", "noise", "a preface with a flaw", "a preface in lower case"],
)
def test_a_wrong_preface_closes_the_connection_at_once(access: Access, said: bytes) -> None:
    with Raw(access.address, said).read_on() as raw:
        assert raw.wait_end(GRACE_S + SLACK_S) < 0.5 + SLACK_S


@pytest.mark.parametrize(
    "said",
    [
        b"\xff" * 64,
        frame(DATA, b"x", 0),
        frame(HEADERS, b"\x83", 2, END_HEADERS),
        frame(HEADERS, b"\xff\xff\xff\xff\xff", 1, END_HEADERS),
        frame(SETTINGS, b"12345"),
        frame(WINDOW_UPDATE, b"\0\0\0\0"),
        frame(PING, b"short"),
        frame(CONTINUATION, b"", 1),
        frame(GOAWAY, b""),
        frame(5, b"\0\0\0\2", 1),
    ],
    ids=["ff", "DATA 0", "even stream", "bad HPACK", "SETTINGS 5", "WINDOW 0", "PING 5", "CONT", "GOAWAY 0", "PUSH"],
)
def test_garbage_after_the_preface_gets_a_goaway_at_once(access: Access, said: bytes) -> None:
    with Raw(access.address, PREFACE + frame(SETTINGS) + said).read_on() as raw:
        assert raw.wait_end(GRACE_S + SLACK_S) < 0.5 + SLACK_S
        assert raw.goaway() not in (None, 0)


def test_a_caller_that_still_sends_is_not_reset_before_it_has_read_why_its_connection_ends(access: Access) -> None:
    with Raw(access.address, PREFACE + frame(SETTINGS) + b"\xff" * 64) as raw:
        raw.send(bytes(1 << 20))
        raw.read_on().wait_end(SLACK_S)
        assert raw.goaway() not in (None, 0)
        assert raw.send(bytes(1 << 10))
        wait_until(lambda: not raw.send(bytes(1 << 10)), "the connection is closed", GRACE_S + SLACK_S)


# --- and an honest client


def test_a_real_client_that_streams_large_answers_sees_no_goaway(access: Access, endpoint: Endpoint) -> None:
    answers = 0

    def pour(stream: Stream) -> None:
        if dict(stream.headers or [])[":path"] != OIP_STREAM:
            return echo(stream)
        stream.send_headers([(":status", "200"), ("content-type", "application/grpc")])
        while not done.is_set():
            stream.send(message(b"." * (1 << 20)))
        stream.send_headers([("grpc-status", "0")], end=True)
        return None

    done = threading.Event()
    endpoint.serve = pour
    seconds = float(os.environ.get("TEST_STREAM_SECONDS", "10"))
    closed = access.counter("dl_connections_closed_total", reason="flood")
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(access.address, options=options) as channel:
        stream = channel.stream_stream(OIP_STREAM)(iter([b"\x0a\x01m"]), timeout=seconds + 60)
        end = time.monotonic() + seconds
        for answer in stream:
            assert len(answer) == 1 << 20
            answers += 1
            if time.monotonic() > end:
                done.set()
        assert stream.code() is grpc.StatusCode.OK
    assert answers > 10 * seconds
    assert access.counter("dl_connections_closed_total", reason="flood") == closed
