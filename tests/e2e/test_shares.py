"""A share of one server beside another share: what of its calls is lost when it fails (a canary that crashes)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import pytest
from e2e.calls import Answer, ask, tfs_request
from fixtures.access_process import TFS, Access, wait_until
from fixtures.processes import Endpoint

RATE = 200
# Calls between two steps of a case.
STEP = 100
BREAKS = ("rst", "refuse", "close", "unlisten", "garbage", "status 14", "http 503")


class Shares:
    """A canary and two stable endpoints, and the service in front of them."""

    def __init__(self, start_access: Any, start_endpoint: Any, connect: Any, start_load: Any) -> None:
        self.canary: Endpoint = start_endpoint("--echo", "yes")
        self.stable: list[Endpoint] = [start_endpoint("--echo", "yes") for _ in range(2)]
        self._start_access, self._connect, self._start_load = start_access, connect, start_load

    def serve(
        self, canary: str, canary_weight: int, of_stable: Mapping[str, Any] | None = None, **settings: Any
    ) -> None:
        """Start the service with these settings of each cluster, and further ones of the stable one."""
        settings = {"attempt_timeout_ms": 300, **settings}
        stable = {"endpoints": [each.address for each in self.stable], **settings, **(of_stable or {})}
        split = [{"cluster": "canary", "weight": canary_weight}, {"cluster": "stable", "weight": 100 - canary_weight}]
        model = {"split": split, "versions": {"2": {"cluster": "canary"}}}
        config = {"clusters": {"stable": stable, "canary": {"endpoints": [canary], **settings}}, "models": {"m": model}}
        self.access: Access = self._start_access(config)
        self.access.wait_live_model("stable")

    def serve_live(self, canary_weight: int = 20, **settings: Any) -> None:
        """Start the service, and wait until it may use the canary."""
        self.serve(self.canary.address, canary_weight, **settings)
        self.access.wait_live_model("canary")

    def load(self) -> Any:
        """Start load."""
        options = ("--rate", str(RATE), "--seconds", "90", "--deadline-ms", "1000", "--echo", "yes")
        return self._start_load(self.access.address, TFS, tfs_request("m", 1024), *options)

    def ask(self, **options: Any) -> Answer:
        """Make one call."""
        return ask(self._connect(self.access.address), **options)

    def pass_calls(self, number: int = STEP) -> None:
        """Wait until so many more calls have been answered."""
        goal = self.access.counter("dl_requests_total") + number
        wait_until(lambda: self.access.counter("dl_requests_total") >= goal, f"{number} more calls are answered", 20)

    def served_by_canary(self) -> None:
        """Wait until the canary answers again."""

        def answered() -> float:
            return self.access.counter("dl_attempts_total", endpoint=self.canary.address, code="OK")

        goal = answered() + 3
        wait_until(lambda: answered() >= goal, "the canary serves again", 20)


@pytest.fixture
def shares(start_access: Any, start_endpoint: Any, connect: Callable[[str], grpc.Channel], start_load: Any) -> Shares:
    return Shares(start_access, start_endpoint, connect, start_load)


def assert_none_failed(load: Any) -> None:
    report = load.stop()
    assert report["failed"] == 0, report["failures"]
    assert report["corrupt"] == 0
    assert report["calls"] >= 2 * STEP


def test_no_call_fails_when_a_canary_of_one_server_is_killed_and_started_again(shares: Shares) -> None:
    shares.serve_live()
    load = shares.load()
    shares.pass_calls()
    for _ in range(3):
        shares.canary.tell("slow 100")  # so that calls are in flight at any time
        shares.pass_calls()
        shares.canary.kill()
        shares.pass_calls()
        shares.canary.restart()
        shares.served_by_canary()
    assert_none_failed(load)


def test_no_call_fails_while_a_canary_breaks_every_call_or_hangs(shares: Shares) -> None:
    shares.serve_live()
    load = shares.load()
    for command in (*BREAKS, "hang"):
        shares.canary.tell(command)
        shares.pass_calls()
        shares.canary.tell("ok")
        shares.served_by_canary()
    assert shares.access.counter("dl_retries_total", cluster="canary") > 0
    assert_none_failed(load)


@pytest.mark.parametrize("command", ["rst", "status 14"])
def test_where_both_shares_fail_the_caller_gets_the_last_error_after_one_change(shares: Shares, command: str) -> None:
    del shares.stable[1]
    shares.serve_live(canary_weight=99, max_attempts=3)
    for each in (shares.canary, *shares.stable):
        each.tell(command)
    got = shares.ask()
    assert got.code is grpc.StatusCode.UNAVAILABLE
    assert got.attempts == 2  # not the canary again, although a third attempt is allowed
    assert got.trailers["access-endpoint"] == shares.stable[0].address


def test_a_call_for_the_canarys_version_is_answered_by_nobody_else(shares: Shares) -> None:
    shares.serve_live()
    shares.canary.tell("rst")
    got = shares.ask(metadata=[("x-model", "m"), ("x-model-version", "2")])
    assert (got.code, got.trailers["access-endpoint"]) == (grpc.StatusCode.UNAVAILABLE, shares.canary.address)


def test_a_call_that_may_not_be_repeated_stays_with_the_canary_that_had_it(shares: Shares) -> None:
    shares.serve_live(canary_weight=99, idempotent=False)
    shares.canary.tell("rst")
    got = shares.ask()
    assert (got.code, got.trailers["access-endpoint"]) == (grpc.StatusCode.UNAVAILABLE, shares.canary.address)


def test_a_call_goes_to_no_share_that_takes_none_a_second_time(shares: Shares) -> None:
    shares.serve_live(canary_weight=99, of_stable={"idempotent": False})
    shares.canary.tell("rst")
    got = shares.ask()
    assert (got.code, got.trailers["access-endpoint"]) == (grpc.StatusCode.UNAVAILABLE, shares.canary.address)


def test_a_call_that_changed_its_share_has_the_time_that_share_gives(shares: Shares) -> None:
    shares.serve_live(canary_weight=99, of_stable={"timeout_ms": 400, "attempt_timeout_ms": None})
    shares.canary.tell("rst")
    for each in shares.stable:
        each.tell("slow 5000")
    started = time.monotonic()
    got = shares.ask()
    assert (got.code, got.attempts) == (grpc.StatusCode.DEADLINE_EXCEEDED, 2)
    assert time.monotonic() - started < 4


def test_a_share_whose_time_is_over_gets_no_call(shares: Shares) -> None:
    shares.serve_live(canary_weight=99, of_stable={"timeout_ms": 200, "attempt_timeout_ms": None})
    shares.canary.tell("hang")  # for the 300 ms of an attempt
    got = shares.ask()
    assert (got.attempts, got.trailers["access-endpoint"]) == (1, shares.canary.address)
    assert "attempt_timeout_ms" in got.message


def test_the_share_that_gets_the_calls_pays_for_them(shares: Shares) -> None:
    nothing_saved = {"retry_budget_cap": 1, "retry_budget_per_second": 0}
    shares.serve_live(canary_weight=99, **nothing_saved)
    shares.canary.tell("rst")
    answers = [shares.ask() for _ in range(20)]
    assert sum(got.code is grpc.StatusCode.OK for got in answers) <= 3, "the small share would be flooded"
    assert answers[0].code is grpc.StatusCode.OK


def test_a_share_whose_server_takes_connections_and_says_nothing_is_waited_for_and_left(shares: Shares) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        shares.serve(f"127.0.0.1:{silent.getsockname()[1]}", 99)
        got = shares.ask()
    assert got.code is grpc.StatusCode.OK
    assert got.attempts == 1
