"""When a call is sent again, where to, and how long after: what endpoints and callers say of it is obeyed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from e2e.calls import FOR_M, Answer, ask
from fixtures.access_process import TFS, Access, cluster
from fixtures.http2_peer import Endpoint as ScriptedEndpoint
from fixtures.http2_peer import Stream, dial, echo, message, request_head
from fixtures.processes import Endpoint

Code = grpc.StatusCode
HEAD = [(":status", "200"), ("content-type", "application/grpc")]


class Pair:
    """Two endpoints of one cluster: the first call that reaches either gets a status, later ones their own message."""

    def __init__(self, start_access: Any, start_scripted: Any, connect: Any) -> None:
        self.times: list[float] = []
        self.heads: list[dict[str, str]] = []
        self._status: list[tuple[str, str]] = []
        self._failing = 1
        self._start_access, self._start_scripted, self._connect = start_access, start_scripted, connect

    def serve(self, *status: tuple[str, str], failing: int = 1, **settings: Any) -> None:
        """Start the service; the first ``failing`` calls get this status."""
        self._status, self._failing = list(status), failing
        endpoints: list[ScriptedEndpoint] = [self._start_scripted(self._answer) for _ in range(2)]
        self.access: Access = self._start_access(cluster([each.address for each in endpoints], **settings))
        self.access.wait_live(*[each.address for each in endpoints])

    def ask(self, **options: Any) -> Answer:
        """Make one call."""
        return ask(self._connect(self.access.address), **options)

    def _answer(self, stream: Stream) -> None:
        self.times.append(time.monotonic())
        self.heads.append(dict(stream.wait_headers()))
        if len(self.times) > self._failing:
            return echo(stream)
        stream.read_all()
        stream.send_headers([*HEAD, *self._status], end=True)
        return None


@pytest.fixture
def pair(start_access: Any, start_scripted: Any, connect: Callable[[str], grpc.Channel]) -> Pair:
    return Pair(start_access, start_scripted, connect)


# --- an endpoint that is full


def test_a_call_that_meets_a_full_endpoint_goes_to_another(pair: Pair) -> None:
    pair.serve(("grpc-status", "8"), ("grpc-message", "queue is full"))
    got = pair.ask()
    assert (got.code, got.attempts) == (Code.OK, 2)
    assert pair.access.counter("dl_retries_total", kind="full") == 1


def test_where_all_are_full_the_caller_is_told_so_after_one_change(pair: Pair) -> None:
    pair.serve(("grpc-status", "8"), ("access-error", "shed"), ("grpc-message", "full"), failing=9, max_attempts=3)
    got = pair.ask()
    assert (got.code, got.message, got.error, got.attempts) == (Code.RESOURCE_EXHAUSTED, "full", "shed", 2)


@pytest.mark.parametrize(
    "status",
    [("access-error", "message_too_large"), ("grpc-message", "Received message larger than max (9 vs. 4)")],
    ids=["ours", "grpc's"],
)
def test_a_message_that_is_too_large_for_one_endpoint_is_sent_to_no_other(pair: Pair, status: tuple[str, str]) -> None:
    pair.serve(("grpc-status", "8"), status)
    got = pair.ask()
    assert (got.code, got.attempts) == (Code.RESOURCE_EXHAUSTED, 1)


# --- pushback


def test_an_endpoint_that_wants_no_retry_gets_none_anywhere(pair: Pair) -> None:
    pair.serve(("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1"))
    got = pair.ask()
    assert (got.code, got.attempts) == (Code.UNAVAILABLE, 1)
    assert got.trailers["grpc-retry-pushback-ms"] == "-1"


def test_a_retry_waits_as_long_as_the_endpoint_asked(pair: Pair) -> None:
    pair.serve(("grpc-status", "14"), ("grpc-retry-pushback-ms", "300"))
    assert pair.ask().attempts == 2
    assert pair.times[1] - pair.times[0] >= 0.295


def test_a_wait_beyond_the_deadline_is_not_begun(pair: Pair) -> None:
    pair.serve(("grpc-status", "14"), ("grpc-retry-pushback-ms", "60000"))
    started = time.monotonic()
    got = pair.ask(timeout_s=10)
    assert (got.code, got.attempts) == (Code.UNAVAILABLE, 1)
    assert time.monotonic() - started < 5


def test_a_caller_that_goes_during_the_wait_ends_the_call(pair: Pair) -> None:
    pair.serve(("grpc-status", "14"), ("grpc-retry-pushback-ms", "15000"))
    with dial(pair.access.address) as caller:
        call = caller.open(request_head(TFS))
        call.send(message(FOR_M), end=True)
        while not pair.times:
            time.sleep(0.01)
        call.reset(8)
        while pair.access.status()["in_flight"]:
            time.sleep(0.01)
    assert len(pair.times) == 1


# --- how often it was tried before


def test_an_endpoint_is_told_of_the_callers_attempts_and_ours(pair: Pair) -> None:
    pair.serve(("grpc-status", "14"))
    # grpc-python keeps this name to itself.
    with dial(pair.access.address) as caller:
        call = caller.open(request_head(TFS, ("grpc-previous-rpc-attempts", "2")))
        call.send(message(FOR_M), end=True)
        assert call.status()["grpc-status"] == "0"
    assert [head["grpc-previous-rpc-attempts"] for head in pair.heads] == ["2", "3"]


@pytest.mark.parametrize(("said", "retries"), [("0", 1), ("1", 0)])
def test_a_call_that_its_caller_retries_costs_the_budget_two_tokens(pair: Pair, said: str, retries: int) -> None:
    budget = {"retry_budget_cap": 1, "retry_budget_per_second": 0, "retry_budget_ratio": 0}
    pair.serve(("grpc-status", "14"), **budget)
    with dial(pair.access.address) as caller:
        call = caller.open(request_head(TFS, ("grpc-previous-rpc-attempts", said)))
        call.send(message(FOR_M), end=True)
        assert call.status()["access-attempts"] == str(1 + retries)


# --- the time that is left


def test_no_retry_goes_to_an_endpoint_that_needs_more_than_the_time_left(
    start_access: Callable[..., Access], start_endpoint: Callable[..., Endpoint], connect: Callable[..., grpc.Channel]
) -> None:
    slow, broken = start_endpoint("--echo", "yes"), start_endpoint("--echo", "yes")
    access = start_access(cluster([slow.address]))
    slow.tell("slow 400")
    channel = connect(access.address)
    for _ in range(3):
        assert ask(channel).code is Code.OK
    broken.tell("status 14")
    access.configure(cluster([slow.address, broken.address]))
    access.wait_live(slow.address, broken.address)
    answers = [ask(channel, timeout_s=0.25) for _ in range(4)]
    failed = [each for each in answers if each.code is Code.UNAVAILABLE]
    assert failed
    assert {each.attempts for each in failed} == {1}
