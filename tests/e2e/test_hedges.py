"""A call that takes longer than most is asked of a second endpoint, within a budget; the first answer counts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from e2e.calls import FEEDBACK, FOR_M, Answer, answer, ask
from fixtures.access_process import TFS, Access, cluster, wait_until
from fixtures.http2_peer import Stream, echo
from fixtures.processes import Endpoint

Code = grpc.StatusCode
TO_M = [("x-model", "m")]
# Enough of them that the cluster knows how long its calls take.
WARM = 120
CANCEL, REFUSED_STREAM = 8, 7
# What the budget holds at first.
SAVED = 20
RESULTS = ("won", "lost", "failed", "no_budget")


class Hedged:
    """Endpoints that have answered quickly, the service that hedges in front of them, a channel to it."""

    def __init__(self, access: Access, channel: grpc.Channel, endpoints: list[Endpoint]) -> None:
        self.access, self.channel, self.endpoints = access, channel, endpoints
        (fleet,) = access.status()["clusters"]
        access.wait_live(*[each["address"] for each in fleet["endpoints"]])
        # One after another: at once, on a busy machine, they take so long that hedges use up the budget.
        for _ in range(WARM):
            assert self.ask().code is Code.OK
        # Some of those may have been hedged, too.
        self.before = {result: self.counted(result) for result in RESULTS}

    def ask(self, path: str = TFS) -> Answer:
        """Make one call."""
        return ask(self.channel, path, FOR_M, metadata=TO_M)

    def start(self, number: int) -> list[Any]:
        """Make calls at the same time."""
        call = self.channel.unary_unary(TFS)
        return [call.future(FOR_M, metadata=TO_M, timeout=20) for _ in range(number)]

    def executions(self) -> int:
        """Return how many calls the endpoints have seen."""
        return sum(each.counts()[0] for each in self.endpoints)

    def hedges(self, result: str) -> float:
        """Return the count of a result since the endpoints were made to answer otherwise."""
        return self.counted(result) - self.before[result]

    def counted(self, result: str) -> float:
        return self.access.counter("dl_hedges_total", result=result)


@pytest.fixture
def hedged(start_access: Any, start_endpoint: Any, connect: Any) -> Callable[..., Hedged]:
    def make(**settings: Any) -> Hedged:
        endpoints = [start_endpoint("--echo", "yes") for _ in range(2)]
        settings = {"hedge": True, **settings}
        access = start_access(cluster([each.address for each in endpoints], **settings))
        return Hedged(access, connect(access.address), endpoints)

    return make


def test_a_call_that_hangs_is_answered_by_another_endpoint(hedged: Callable[..., Hedged]) -> None:
    it = hedged()
    hangs, works = it.endpoints
    hangs.tell("hang")
    answers: list[Answer] = []

    def has_won() -> bool:
        # The balancer says which is asked first; on a busy machine the one that works may be hedged, too.
        started = time.monotonic()
        answers.append(it.ask())
        assert answers[-1].code is Code.OK
        assert time.monotonic() - started < 10
        return it.hedges("won") > 0

    wait_until(has_won, "a hedge has won", 30)
    assert {each.trailers["access-endpoint"] for each in answers} == {works.address}
    assert it.hedges("won") + it.hedges("lost") == sum(each.attempts - 1 for each in answers)
    legs = json.loads(it.access.get(f"/calls/{answers[-1].trailers['x-request-id']}"))["legs"]
    assert {(leg["endpoint"], leg["why"]) for leg in legs} == {
        (hangs.address, "first"),
        (works.address, "hedge"),
    }


def test_the_attempt_that_loses_is_cancelled(
    start_access: Any, start_scripted: Any, start_endpoint: Any, connect: Any
) -> None:
    hangs, ends = threading.Event(), []

    def serve(stream: Stream) -> None:
        if not hangs.is_set():
            return echo(stream)
        stream.read_all()
        ends.append(stream.wait_gone().code)
        return None

    loser, winner = start_scripted(serve), start_endpoint("--echo", "yes")
    access = start_access(cluster([loser.address, winner.address], hedge=True))
    it = Hedged(access, connect(access.address), [winner])
    hangs.set()

    def has_lost() -> bool:
        # It is slower than the other one, being Python, and so seldom asked.
        assert it.ask().code is Code.OK
        return bool(ends)

    wait_until(has_lost, "the loser's stream has ended", 30)
    assert set(ends) == {CANCEL}
    wait_until(lambda: access.endpoint(loser.address)["in_flight"] == 0, "nothing is left of it")


def test_an_endpoint_that_is_asked_second_and_fails_leaves_the_call_to_the_first(
    hedged: Callable[..., Hedged],
) -> None:
    it = hedged(eject=False)  # after three failures the broken one would not be asked
    slow, broken = it.endpoints
    slow.tell("slow 300")
    broken.tell("status 14")
    answers = [it.ask() for _ in range(4)]
    assert {each.code for each in answers} == {Code.OK}
    assert {each.trailers["access-endpoint"] for each in answers} == {slow.address}
    # Asked first on a busy machine, the broken one may fail only after the slow one was asked, too.
    assert it.hedges("won") + it.hedges("lost") + it.access.counter("dl_retries_total") >= 4


def test_a_first_attempt_that_fails_late_leaves_the_call_to_the_second(hedged: Callable[..., Hedged]) -> None:
    it = hedged(attempt_timeout_ms=250)
    for endpoint in it.endpoints:
        endpoint.tell("slow 200")
    it.endpoints[0].tell("hang")
    answers = [it.ask() for _ in range(4)]
    assert {each.code for each in answers} == {Code.OK}
    assert {each.attempts for each in answers} <= {1, 2}


def test_hedges_stay_within_their_budget(hedged: Callable[..., Hedged]) -> None:
    it = hedged(hedge_budget_ratio=0)
    for endpoint in it.endpoints:
        endpoint.tell("slow 100")
    before = it.executions()
    calls = 2 * SAVED
    answers = [answer(each) for each in it.start(calls)]
    assert [each.code for each in answers] == [Code.OK] * calls
    used = it.counted("won") + it.counted("lost") + it.counted("failed")
    assert used <= SAVED
    assert it.hedges("no_budget") > 0
    assert it.executions() - before == calls + sum(each.attempts - 1 for each in answers)
    assert max(each.attempts for each in answers) <= 2


@pytest.mark.parametrize(
    ("path", "settings"),
    [(FEEDBACK, {}), (TFS, {"idempotent": False}), (TFS, {"max_attempts": 1}), (TFS, {"hedge": False})],
    ids=["feedback", "not idempotent", "one attempt", "off"],
)
def test_a_call_that_may_not_be_made_twice_is_not(
    hedged: Callable[..., Hedged], path: str, settings: dict[str, Any]
) -> None:
    it = hedged(**settings)
    for endpoint in it.endpoints:
        endpoint.tell("slow 150")
    got = it.ask(path)
    assert (got.code, got.attempts) == (Code.OK, 1)
    assert [it.hedges(result) for result in RESULTS] == [0] * len(RESULTS)


@pytest.mark.parametrize("pause_s", [0.0, 0.3])
def test_an_attempt_that_never_reached_an_endpoint_does_not_cost_the_call_its_hedge(
    pause_s: float, start_access: Any, start_scripted: Any, start_endpoint: Any, connect: Any
) -> None:
    """Whether it is refused before or after the hedge has begun."""
    refuses = threading.Event()

    def serve(stream: Stream) -> None:
        if not refuses.is_set():
            return echo(stream)
        threading.Event().wait(pause_s)
        return stream.reset(REFUSED_STREAM)

    full, hangs, answers = start_scripted(serve), start_endpoint("--echo", "yes"), start_endpoint("--echo", "yes")
    # Without a key maglev goes by chance, so that the one that hangs goes on being asked, before and after the other.
    chance = {"policy": "maglev", "eject": False}
    endpoints = [full.address, hangs.address, answers.address]
    access = start_access(cluster(endpoints, hedge=True, hedge_budget_ratio=1, **chance))
    it = Hedged(access, connect(access.address), [hangs, answers])
    refuses.set()
    hangs.tell("hang")
    answered = [ask(it.channel, TFS, FOR_M, metadata=TO_M, timeout_s=5) for _ in range(25)]
    assert {each.code for each in answered} == {Code.OK}
    assert {each.trailers["access-endpoint"] for each in answered} == {answers.address}
    assert max(each.attempts for each in answered) == 3
