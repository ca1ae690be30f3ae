"""What many calls come to at endpoints that fail in every way: one status each, and no execution too many."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from e2e.calls import FEEDBACK, tfs_request
from fixtures.access_process import TFS, Access, cluster
from fixtures.http2_peer import WAIT_S, Endpoint, Gone, Peer, Stream, dial, message, request_head, unary

SEED = int(os.environ.get("TEST_SEED", "20261129"))
CALLS = 300
AT_ONCE = 12
MAX_ATTEMPTS = 2
OK_HEAD = [(":status", "200"), ("content-type", "application/grpc")]
REFUSED_STREAM, CANCEL, INTERNAL_ERROR = 7, 8, 2
ANSWER = message(b"." * 2000)


class History:
    """Executions of each call, by its name: how often an endpoint took it up."""

    def __init__(self) -> None:
        self.executions: Counter[str] = Counter()
        self._random = random.Random(SEED)
        self._last_served: dict[Peer, int] = {}
        self._left: set[Peer] = set()
        self._lock = threading.Lock()

    def serve(self, stream: Stream) -> None:
        """Serve a call in a way drawn by lot; those that refuse it have not executed it."""
        with self._lock:
            last = self._last_served.setdefault(stream.peer, 0)
            way = self._random.choice([*[good] * 3, *REFUSALS, *FAILURES])
            if stream.peer in self._left or (way is leave_before_it and last > stream.number):
                way = refuse  # what a GOAWAY excludes is not executed, and what was executed it may not exclude
            if way is leave_before_it:
                self._left.add(stream.peer)
                way(stream)
                return
            if way is not refuse:
                self.executions[dict(stream.headers or [])["x-call"]] += 1
                self._last_served[stream.peer] = max(last, stream.number)
        way(stream)


def good(stream: Stream) -> None:
    stream.read_all()
    stream.send_headers(OK_HEAD)
    stream.send(ANSWER)
    stream.send_headers([("grpc-status", "0")], end=True)


def refuse(stream: Stream) -> None:
    stream.reset(REFUSED_STREAM)


def leave_before_it(stream: Stream) -> None:
    stream.peer.goaway_after(max(stream.number - 2, 0))


def reset(stream: Stream) -> None:
    stream.reset(INTERNAL_ERROR)


def reset_late(stream: Stream) -> None:
    stream.read_all()
    stream.reset(CANCEL)


def say_unavailable(stream: Stream) -> None:
    stream.read_all()
    stream.send_headers([*OK_HEAD, ("grpc-status", "14"), ("grpc-message", "busy")], end=True)


def say_unknown(stream: Stream) -> None:
    stream.read_all()
    stream.send_headers([*OK_HEAD, ("grpc-status", "2")], end=True)


def answer_503(stream: Stream) -> None:
    stream.send_headers([(":status", "503")], end=True)


def break_off_after_headers(stream: Stream) -> None:
    stream.send_headers(OK_HEAD)
    stream.reset(INTERNAL_ERROR)


def break_off_in_the_body(stream: Stream) -> None:
    stream.send_headers(OK_HEAD)
    stream.send(ANSWER[:1000])
    stream.reset(INTERNAL_ERROR)


def forget_the_status(stream: Stream) -> None:
    stream.read_all()
    stream.send_headers(OK_HEAD)
    stream.send(ANSWER, end=True)


def lose_the_connection(stream: Stream) -> None:
    stream.read_all()
    with contextlib.suppress(OSError):  # another call may have lost it
        stream.peer.abort()


def hang(stream: Stream) -> None:
    with stream.peer.changed:
        stream.peer.changed.wait_for(lambda: stream.gone is not None or stream.peer.has_ended, WAIT_S)


REFUSALS = (refuse, leave_before_it)
FAILURES = (
    reset,
    reset_late,
    say_unavailable,
    say_unknown,
    answer_503,
    break_off_after_headers,
    break_off_in_the_body,
    forget_the_status,
    lose_the_connection,
    hang,
)


@pytest.fixture
def endpoints() -> Iterator[list[Endpoint]]:
    started = [Endpoint(good) for _ in range(3)]
    yield started
    for endpoint in started:
        endpoint.close()


def test_each_call_has_one_status_and_no_execution_too_many(
    start_access: Callable[..., Access], endpoints: list[Endpoint]
) -> None:
    settings = {"attempt_timeout_ms": 300, "timeout_ms": 3000, "max_attempts": MAX_ATTEMPTS, "retry_budget_cap": 1e6}
    addresses = [each.address for each in endpoints]
    access = start_access(cluster(addresses, **settings))
    access.wait_live(*addresses)
    history = History()
    for endpoint in endpoints:
        endpoint.serve = history.serve
    ends: dict[str, dict[str, str]] = {}

    with dial(access.address) as caller:

        def make(number: int) -> None:
            path, name = (FEEDBACK if number % 2 else TFS), str(number)
            head = request_head(path, ("x-call", name), ("x-model", "m"))
            body = message(b"" if number % 2 else tfs_request("m", number * 50))
            try:
                ends[name] = unary(caller, head, body).status()
            except Gone as gone:
                ends[name] = {"gone": str(gone)}

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(make, range(CALLS)))

    statuses = Counter(end.get("grpc-status") for end in ends.values())
    assert None not in statuses, f"seed {SEED}: {[end for end in ends.values() if 'gone' in end][:3]}"
    assert statuses["0"] > CALLS / 8, f"seed {SEED}: {statuses}"
    for name, end in ends.items():
        what, executions = f"seed {SEED}, call {name}: {end}", history.executions[name]
        is_idempotent = int(name) % 2 == 0
        assert executions <= (MAX_ATTEMPTS if is_idempotent else 1), f"{executions} executions, {what}"
        assert executions <= int(end["access-attempts"]), what
        assert executions >= 1 or end["grpc-status"] != "0", what
    twice = [name for name, count in history.executions.items() if count == MAX_ATTEMPTS]
    assert len(twice) > CALLS / 20, "calls that may be made again are"
    assert access.status()["in_flight"] == 0
