"""What callers, endpoints and networks that misbehave cost other calls: nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc
import hpack
import pytest
from e2e.calls import FOR_M, ask, tfs_request
from fixtures.access_process import TFS, Access, cluster, wait_until
from fixtures.http2_peer import Endpoint, Peer, Stream, dial, echo, message, request_head, unary
from fixtures.lacking import built, lacking
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


def ask_n(caller: Peer, size: int = 200_000) -> str:
    """Return the status of a call for model n; as it is, of a size that needs the connection's window."""
    stream = unary(caller, request_head(TFS), message(tfs_request("n", size)))
    stream.read_all(5)
    return dict(stream.trailers or stream.headers or [])["grpc-status"]


def test_requests_that_are_not_taken_leave_the_callers_window_open(two_models: Access) -> None:
    with dial(two_models.address) as caller:
        for _ in range(3):
            # Nearly the whole window of a connection, and it is all open again for others.
            streams = leave_untaken(two_models, caller, 7)
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
        wait_until(lambda: two_models.status()["unsent_bytes"] > 900_000, "all that may be kept has come")
        assert two_models.status()["unsent_bytes"] <= MIB
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
        wait_until(lambda: bool(untaking.calls), "the call comes")
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
            leave_untaken(access, caller, 7)
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


# --- what all of these cost callers of another model


class Others:
    """Callers of model n. Whatever callers and endpoints of model m do, their p99 stays within 2 x + 20 ms.

    That is, of the p99 at an access service that they do not call, at the same time: other programs use this machine.
    """

    def __init__(self, run: Callable[..., Process], folder: Path) -> None:
        self._run, self._folder = run, folder
        self.loads: list[Process] = []
        self.bad = [Program(run, built("endpoint"), ("--echo", "yes")) for _ in range(2)]
        good = Program(run, built("endpoint"), ("--echo", "yes"))
        # They call as much as they like, and none is kept away from an endpoint for what it does.
        fleet = {"endpoints": [each.address for each in self.bad], "max_in_flight": 10_000, "eject": False}
        fleet["admit_by_deadline"] = False
        routes = two_clusters(self.bad[0].address, good.address)
        routes["clusters"]["fleet"] = {**fleet, "max_attempts": 3, "timeout_ms": 60_000}
        self.access = self._access("disturbed", routes)
        self.access.wait_live(*[each.address for each in self.bad])
        calm = {**routes, "clusters": {**routes["clusters"], "fleet": {"endpoints": [good.address]}}}
        self.calm = self._access("calm", calm)
        for each in (self.access, self.calm):
            wait_until(lambda each=each: each.endpoint(good.address, "other")["live"], "the other is live")

    def tell(self, command: str) -> None:
        """Have the endpoints of model m misbehave."""
        for each in self.bad:
            each.tell(command)

    def counts(self) -> tuple[int, int]:
        """Return (calls, connections) of the endpoints of model m since their start."""
        calls, connections = zip(*[each.counts() for each in self.bad], strict=True)
        return sum(calls), sum(connections)

    def load(self, body: bytes, *options: str, at: Access | None = None) -> Load:
        """Start calls of the model that the body names."""
        file = self._folder / f"body-{len(body)}-{body[:9].hex()}"
        file.write_bytes(body)
        address = (at or self.access).address
        self.loads.append(self._run([built("load"), address, "--path", TFS, "--body", file, *options]))
        return Load(self.loads[-1])

    def assert_undisturbed(self, seconds: float = 1.5) -> None:
        """Call for a while. None may fail, and none be slow; where one is, up to twice more."""
        measured: list[tuple[float, float, float]] = []
        while len(measured) < 3:
            both = [self._start(seconds, at) for at in (self.access, self.calm)]
            slowness = slowness_of_the_machine()
            beside, alone = (self._p99_ms(load.report()) for load in both)
            if beside <= 2 * alone + 20 * slowness:
                return
            measured.append((beside, alone, slowness))
        raise AssertionError(f"p99 and p99 elsewhere, ms, and how slow the machine is: {measured}")

    def _access(self, name: str, config: dict[str, Any]) -> Access:
        (self._folder / name).mkdir()
        return Access(self._run, self._folder / name, config)

    def _start(self, seconds: float, at: Access) -> Load:
        times = ("--rate", "200", "--seconds", str(seconds), "--deadline-ms", "10000")
        return self.load(tfs_request("n", 1000), *times, "--echo", "yes", at=at)

    def _p99_ms(self, report: dict[str, Any]) -> float:
        assert report["failed"] == 0, report["failures"]
        assert report["calls"] > 100
        return float(report["latency_ms"]["p99"])


def slowness_of_the_machine() -> float:
    """Return how long work takes in comparison with a machine that has nothing else to do."""
    wall, cpu = time.monotonic(), time.thread_time()
    while (worked := time.thread_time() - cpu) < 0.1:
        pass
    return (time.monotonic() - wall) / worked


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Others]:
    started: list[Process] = []

    def run(command: list[str | Path]) -> Process:
        started.append(Process(command))
        return started[-1]

    yield Others(run, tmp_path_factory.mktemp("others"))
    for process in started:
        process.kill()


@pytest.fixture
def others(scene: Others) -> Iterator[Others]:
    yield scene
    for load in scene.loads:
        load.kill()
    scene.tell("ok")
    wait_until(lambda: scene.access.status()["in_flight"] == 0, "no call is left")


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", number) + payload


class Caller:
    """One that writes frames by hand, many calls at a time, and looks for a GOAWAY in what comes back."""

    BODY = message(tfs_request("m"))

    def __init__(self, address: str) -> None:
        # Kept out of the table, each head is the same.
        fields = [hpack.NeverIndexedHeaderTuple(name, value) for name, value in request_head(TFS)]
        self._head = hpack.Encoder().encode(fields)
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._received = bytearray()
        self._next = 1
        self._pings = 0
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def open(self, calls: int, body: bytes = BODY) -> range:
        """Open so many calls, which are not ended; return their streams once they have been read."""
        numbers = range(self._next, self._next + 2 * calls, 2)
        self._next = numbers.stop
        self._send(frame(1, 4, number, self._head) + (frame(0, 0, number, body) if body else b"") for number in numbers)
        self._pings += 1
        self._socket.sendall(frame(6, 0, 0, b"12345678"))
        wait_until(self.are_read, "the calls are read")
        return numbers

    def cancel(self, numbers: range) -> None:
        self._send(frame(3, 0, number, struct.pack(">I", 8)) for number in numbers)

    def trickle(self, numbers: range, byte: bytes) -> None:
        self._send(frame(0, 0, number, byte) for number in numbers)

    def are_read(self) -> bool:
        """Look at what has come: the connection is not to end. True when all that was opened has been read."""
        with contextlib.suppress(BlockingIOError):
            while data := self._socket.recv(1 << 16, socket.MSG_DONTWAIT):
                self._received += data
            raise AssertionError("the connection has ended")
        received = self._received
        while len(received) >= 9 and len(received) >= 9 + (length := int.from_bytes(received[:3])):
            assert received[3] != 7, f"GOAWAY {bytes(received[9 : 9 + length])!r}"
            self._pings -= received[3] == 6
            del received[: 9 + length]
        return self._pings == 0

    def _send(self, frames: Iterator[bytes]) -> None:
        self._socket.sendall(b"".join(frames))


@pytest.fixture
def callers(others: Others) -> Iterator[list[Caller]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Caller(others.access.address)) for _ in range(10)]


def test_twenty_thousand_cancels_cost_no_other_call_and_no_connection(others: Others, callers: list[Caller]) -> None:
    others.tell("hang")
    calls, connections = others.counts()
    # Libraries end a connection after 1,024 streams that were reset, or 1,000 at a time.
    with ThreadPoolExecutor(1) as pool:
        measured = pool.submit(others.assert_undisturbed, 6)
        opened = [range(0)] * len(callers)
        pace, started = threading.Event(), time.monotonic()
        for number in range(335):
            # 300 a second of each caller: of 500 and more half would be an attack.
            pace.wait(max(0.0, started + number * 0.02 - time.monotonic()))
            each = number % len(callers)
            callers[each].cancel(opened[each])
            opened[each] = callers[each].open(60)
        for caller, last in zip(callers, opened, strict=True):
            caller.cancel(last)
        wait_until(lambda: others.counts()[0] - calls == 20_100, "the endpoint has had every call")
        measured.result()
    wait_until(lambda: others.access.status()["in_flight"] == 0, "every call is cancelled")
    assert all(caller.are_read() for caller in callers)
    assert others.counts()[1] == connections


def test_callers_that_send_nothing_or_a_byte_at_a_time_cost_others_nothing(
    others: Others, callers: list[Caller]
) -> None:
    others.tell("hang")
    for caller in callers:
        caller.open(40, b"")
    trickling = [caller.open(40, message(tfs_request("m", 100_000))[:500]) for caller in callers]
    with ThreadPoolExecutor(1) as pool:
        measured = pool.submit(others.assert_undisturbed)
        pace = threading.Event()
        while not measured.done():
            for caller, numbers in zip(callers, trickling, strict=True):
                caller.trickle(numbers, b".")
            pace.wait(0.05)
        measured.result()
    assert all(caller.are_read() for caller in callers)


@pytest.mark.parametrize(
    ("command", "size", "rate", "code"),
    [
        ("ok", (16 << 20) - 100, 2, "OK"),
        ("hang", 1000, 200, "DEADLINE_EXCEEDED"),
        ("rst", 1000, 200, "UNAVAILABLE"),
        ("half", 1000, 200, "UNAVAILABLE"),
    ],
    ids=["messages of 16 MiB", "endpoints that hang", "endpoints that reset", "endpoints that reset half way"],
)
def test_calls_of_another_model_cost_others_nothing(
    others: Others, command: str, size: int, rate: int, code: str
) -> None:
    others.tell(command)
    # The large ones take their time on a busy machine.
    deadline_ms = 500 if command == "hang" else 20_000
    load = others.load(
        tfs_request("m", size), "--rate", str(rate), "--seconds", "30", "--deadline-ms", str(deadline_ms)
    )
    others.assert_undisturbed()
    report = load.stop()
    assert report["codes"] == {code: report["calls"]}


def test_a_storm_of_retries_stays_within_its_budget_and_costs_others_nothing(others: Others) -> None:
    others.tell("status 14")
    before, started = others.counts()[0], time.monotonic()
    load = others.load(tfs_request("m"), "--rate", "500", "--seconds", "30", "--deadline-ms", "5000")
    others.assert_undisturbed()
    report = load.stop()
    attempts = others.counts()[0] - before
    assert report["codes"] == {"UNAVAILABLE": report["calls"]}
    # 20 % of the calls and 10 a second, after what was saved up (docs/configuration.md, retry_budget_*).
    budget = 0.2 * report["calls"] + 10 * (time.monotonic() - started) + 100
    assert report["calls"] < attempts <= report["calls"] + budget


def test_requests_that_are_not_taken_cost_their_callers_other_calls_nothing(
    start_access: Callable[..., Access], endpoint: Endpoint, untaking: Endpoint
) -> None:
    limits = {**LIMITS, "max_unread_bytes": 16 * MIB}
    access = start_access({**two_clusters(untaking.address, endpoint.address), "limits": limits})
    access.wait_live(untaking.address)
    wait_until(lambda: access.endpoint(endpoint.address, "other")["live"], "the other is live")
    with dial(access.address) as caller:

        def p99_ms() -> float:
            times = []
            for _ in range(200):
                started = time.monotonic()
                assert ask_n(caller, 1000) == "0"
                times.append((time.monotonic() - started) * 1e3)
            return sorted(times)[197]

        alone_ms = p99_ms()
        # More than the window of the caller's connection.
        leave_untaken(access, caller, 12)
        assert p99_ms() <= 2 * alone_ms + 20
