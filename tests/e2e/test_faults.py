"""Three endpoints of weight 1 under an open loop of 200 calls/s, deadline 1 s: what fails when an endpoint does.

Half of the calls have messages of 1 KB, the others of 150 KB.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Self

import grpc
import pytest
from e2e.calls import ask, tfs_request, unforgiven
from fixtures.access_process import TFS, Access, cluster, wait_until
from fixtures.processes import Endpoint, Load

StartAccess = Callable[..., Access]
StartEndpoint = Callable[..., Endpoint]
StartLoad = Callable[..., Load]

RATE = 200
SIZES = (1024, 150 * 1024)
# Calls between two steps of a case: half a second of load.
STEP = 100


class Scene:
    """Endpoints, the service, and load on it."""

    def __init__(self, endpoints: list[Endpoint], access: Access, loads: Sequence[Load] = ()) -> None:
        self.endpoints = endpoints
        self.access = access
        self.loads = loads
        self.first = endpoints[0]

    def pass_calls(self, number: int = STEP) -> None:
        """Wait until so many more calls have been answered."""
        goal = self._answered() + number
        wait_until(lambda: self._answered() >= goal, f"{number} more calls are answered", 20)

    def _answered(self) -> float:
        return self.access.counter("dl_requests_total")

    def served_by(self, endpoint: Endpoint, number: int) -> None:
        """Wait until an endpoint has answered so many more attempts."""

        def answered() -> float:
            return self.access.counter("dl_attempts_total", endpoint=endpoint.address, code="OK")

        goal = answered() + number
        wait_until(lambda: answered() >= goal, f"{endpoint.address} serves again", 20)

    def end(self) -> dict[str, Any]:
        """End the load; return its report."""
        return together([load.stop() for load in self.loads])


def together(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums of reports, and their lists behind each other."""
    assert all(each["calls"] >= STEP / 2 for each in reports), "calls of each size are made"
    sums = {key: sum(each[key] for each in reports) for key in ("calls", "failed", "corrupt")}
    lists = {key: [one for each in reports for one in each[key]] for key in ("failures", "timeline", "endpoints")}
    return {**sums, **lists, "codes": sum((Counter(each["codes"]) for each in reports), Counter())}


@pytest.fixture
def scene(start_access: StartAccess, start_endpoint: StartEndpoint, start_load: StartLoad) -> Callable[..., Scene]:
    def make(sizes: Sequence[int] = SIZES, **settings: Any) -> Scene:
        endpoints = [start_endpoint("--echo", "yes") for _ in range(3)]
        settings = {"attempt_timeout_ms": 300, **settings}
        access = start_access(cluster([each.address for each in endpoints], **settings))
        access.wait_live(*[each.address for each in endpoints])
        it = Scene(endpoints, access, start_loads(start_load, access, sizes, seconds=60, deadline_ms=1000))
        it.pass_calls()
        return it

    return make


def start_loads(
    start_load: StartLoad, access: Access, sizes: Sequence[int], *, seconds: int, deadline_ms: int
) -> list[Load]:
    rate = ("--rate", str(RATE // len(sizes)), "--seconds", str(seconds), "--deadline-ms", str(deadline_ms))
    messages = [tfs_request("m", size) for size in sizes]
    return [start_load(access.address, TFS, message, *rate, "--echo", "yes") for message in messages]


def assert_none_failed(report: dict[str, Any], *killed: Endpoint) -> None:
    """Assert that no call failed, but for the one that may have been in the midst of its answer at each kill."""
    failed = unforgiven(report, killed)
    assert not failed, failed
    assert report["corrupt"] == 0
    assert report["calls"] >= 2 * STEP


def test_no_call_fails_when_an_endpoint_is_killed_and_started_again(scene: Callable[..., Scene]) -> None:
    it = scene()
    for _ in range(2):
        it.first.kill()
        it.pass_calls()
        it.first.restart()
        it.served_by(it.first, 10)
    assert_none_failed(it.end(), *[it.first] * 2)


def test_no_call_fails_over_a_rolling_restart_of_all_endpoints(scene: Callable[..., Scene]) -> None:
    it = scene(SIZES[:1])
    for endpoint in it.endpoints * 2:
        endpoint.kill()
        endpoint.restart()
        it.served_by(endpoint, 10)
    assert_none_failed(it.end(), *it.endpoints * 2)


def test_no_call_fails_while_an_endpoint_breaks_every_call(scene: Callable[..., Scene]) -> None:
    it = scene()
    for command in ("rst", "refuse", "close", "unlisten", "garbage", "status 14", "http 503"):
        it.first.tell(command)
        it.pass_calls()
        it.first.tell("ok")
        it.served_by(it.first, 10)
    assert_none_failed(it.end())


def test_no_call_fails_over_goaways_and_resets_of_connections(scene: Callable[..., Scene]) -> None:
    it = scene()
    for event in ("goaway", "goaway0", "goaway", "goaway0", "reset"):
        for endpoint in it.endpoints:
            endpoint.tell(event)
            it.pass_calls(20)
    for endpoint in it.endpoints:
        endpoint.tell("goaway-every 3")
    it.pass_calls(2 * STEP)
    assert_none_failed(it.end())


# --- an endpoint that hangs, and comes back


class Sampler:
    """Attempts begun on each endpoint, looked at again and again while the test runs."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._samples: list[tuple[float, dict[str, int]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def share(self, address: str, start: float, end: float) -> float:
        """Return an endpoint's share of the attempts begun between two times of ``time.monotonic``."""
        inside = [counts for at, counts in self._samples if start <= at <= end]
        begun = {key: inside[-1][key] - inside[0][key] for key in inside[0]}
        assert sum(begun.values()) > RATE / 2, f"too few attempts to tell a share: {begun}"
        return begun[address] / sum(begun.values())

    def _run(self) -> None:
        while not self._stop.is_set():
            status = self._access.status()
            counts = {
                each["address"]: each["requests"] + each["in_flight"] for each in status["clusters"][0]["endpoints"]
            }
            self._samples.append((time.monotonic(), counts))
            self._stop.wait(0.05)


def freeze_and_thaw(it: Scene) -> tuple[float, float, float]:
    """Freeze the first endpoint under load, 3 s beyond its first time-out; thaw it, and 6 s more.

    Returns: the three times, of ``time.monotonic``.
    """

    def failures() -> float:
        return it.access.endpoint(it.first.address)["errors"]

    before, frozen = failures(), time.monotonic()
    it.first.freeze()
    wait_until(lambda: failures() > before, "the first time-out", 10)
    timed_out = time.monotonic()
    it.pass_calls(3 * RATE)
    thawed = time.monotonic()
    it.first.thaw()
    it.pass_calls(6 * RATE)
    return frozen, timed_out, thawed


def assert_shares(it: Scene, sampler: Sampler, timed_out: float, thawed: float) -> None:
    assert sampler.share(it.first.address, timed_out + 1, thawed) < 0.01
    assert sampler.share(it.first.address, thawed + 5, thawed + 6.5) >= 0.8 / 3


def test_no_call_fails_while_an_endpoint_hangs_and_its_share_goes_and_comes_back(scene: Callable[..., Scene]) -> None:
    it = scene()
    with Sampler(it.access) as sampler:
        _, timed_out, thawed = freeze_and_thaw(it)
    assert_none_failed(it.end())
    assert_shares(it, sampler, timed_out, thawed)


def test_without_an_attempt_timeout_only_the_calls_in_flight_and_ten_more_fail(scene: Callable[..., Scene]) -> None:
    it = scene(attempt_timeout_ms=None)
    with Sampler(it.access) as sampler:
        frozen, timed_out, thawed = freeze_and_thaw(it)
    report = it.end()
    # What the endpoint gets until the first deadline runs out is in flight on it.
    in_flight = RATE / 3 * (timed_out - frozen)
    assert 0 < report["failed"] <= in_flight + 10, report["codes"]
    assert set(report["codes"]) == {"OK", "DEADLINE_EXCEEDED"}
    assert_shares(it, sampler, timed_out, thawed)


def test_a_grpc_python_caller_whose_own_deadline_fires_first_teaches_the_same(
    start_access: StartAccess, start_endpoint: StartEndpoint, connect: Callable[[str], grpc.Channel]
) -> None:
    endpoints = [start_endpoint("--echo", "yes") for _ in range(3)]
    access = start_access(cluster([each.address for each in endpoints]))
    access.wait_live(*[each.address for each in endpoints])
    with PythonLoad(connect(access.address)) as load:
        it = Scene(endpoints, access)
        it.pass_calls()
        with Sampler(access) as sampler:
            frozen, timed_out, thawed = freeze_and_thaw(it)
    in_flight = RATE / 3 * (timed_out - frozen)
    assert set(load.codes) == {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}, load.codes
    assert load.codes[grpc.StatusCode.DEADLINE_EXCEEDED] <= in_flight + 10
    assert_shares(it, sampler, timed_out, thawed)


class PythonLoad:
    """An open loop of grpc-python calls with a deadline of 1 s, from a thread."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.codes: Counter[grpc.StatusCode] = Counter()
        self._call = channel.unary_unary(TFS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        started, number, calls = time.monotonic(), 0, []
        while not self._stop.wait(max(0.0, started + number / RATE - time.monotonic())):
            calls.append(self._call.future(tfs_request("m", 1024), timeout=1))
            number += 1
        self.codes.update(call.code() for call in calls)


# --- reloads and ends


def test_no_call_fails_over_a_hundred_reloads_with_lists_that_change_wholly(
    start_access: StartAccess, start_endpoint: StartEndpoint, start_load: StartLoad
) -> None:
    groups = [[start_endpoint("--echo", "yes").address for _ in range(2)] for _ in range(2)]
    lists = [groups[0], groups[1], [groups[1][0], groups[0][0]], groups[0] + groups[1], [groups[0][1]]]
    access = start_access(cluster(lists[-1], attempt_timeout_ms=3000))
    # Time enough for a busy machine: what is asked is whether reloads cost calls.
    loads = start_loads(start_load, access, SIZES, seconds=120, deadline_ms=10_000)
    for number in range(100):
        access.configure(cluster(lists[number % len(lists)], attempt_timeout_ms=3000 + number))
    report = together([load.stop() for load in loads])
    assert_none_failed(report)
    assert set(report["endpoints"]) == {address for group in groups for address in group}
    assert access.counter("dl_reloads_total", result="ok") >= 100


def test_no_call_that_was_accepted_is_lost_at_sigterm_under_load(scene: Callable[..., Scene]) -> None:
    it = scene()
    for endpoint in it.endpoints:
        endpoint.tell("slow 200")  # so that calls are in flight at any time
    it.pass_calls()
    it.access.terminate()
    assert it.access.process.wait() == 0
    report = it.end()
    assert report["failed"] > 0, "nobody listens any more"
    lost = [each for each in report["failures"] if not each["message"].startswith("connect: ")]
    assert not lost
    refused = sum(step["failed"] for step in report["timeline"])
    assert report["codes"] == {"OK": report["calls"] - refused, "UNAVAILABLE": refused}


def test_a_second_sigterm_ends_a_drain_that_waits_for_a_call(
    start_access: StartAccess, start_endpoint: StartEndpoint, connect: Callable[[str], grpc.Channel]
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    access = start_access({**cluster([endpoint.address]), "drain_timeout_ms": 60_000})
    endpoint.tell("hang")
    call = connect(access.address).unary_unary(TFS).future(tfs_request("m"), timeout=50)
    wait_until(lambda: endpoint.counts()[0] == 1, "the call is in flight")
    access.terminate()
    access.process.wait_line("draining")
    access.terminate()
    access.process.wait(5)
    assert call.code() is grpc.StatusCode.UNAVAILABLE


def test_a_removed_endpoint_finishes_its_calls(
    start_access: StartAccess, start_endpoint: StartEndpoint, connect: Callable[[str], grpc.Channel]
) -> None:
    old, new = start_endpoint("--echo", "yes"), start_endpoint("--echo", "yes")
    access = start_access(cluster([old.address]))
    old.tell("slow 1500")
    call = connect(access.address).unary_unary(TFS).future(tfs_request("m"), timeout=20)
    wait_until(lambda: old.counts()[0] == 1, "the call is in flight")
    access.configure(cluster([new.address]))
    assert ask(connect(access.address)).trailers["access-endpoint"] == new.address
    assert not call.done()
    assert call.result() == tfs_request("m")
    assert dict(call.trailing_metadata())["access-endpoint"] == old.address
