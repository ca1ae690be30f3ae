"""Two access services that share limits by a real Redis: what each allows, and what follows when the Redis is lost."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from e2e.calls import Answer, ask, tfs_request
from e2e.conftest import OPTIONS
from fixtures.access_process import Access, wait_until
from fixtures.http2_peer import Endpoint, Stream, echo
from fixtures.processes import Process
from fixtures.redis_process import PASSWORD, RedisServer

RATE = 60
BURST = 6
PLACES = 8
SETTLED_S = 30
"""Limit of what takes two or three seconds on a machine that does nothing else."""
Code = grpc.StatusCode


class Load:
    """Calls of a model at one access service, faster than the limit lets them in, until it is closed."""

    def __init__(self, access: Access, model: str = "m", calls_per_s: float = 1.5 * RATE) -> None:
        self._channel = grpc.insecure_channel(access.address, options=OPTIONS)
        self._body, self._every_s = tfs_request(model), 1 / calls_per_s
        self._closed = threading.Event()
        self.offered = self.admitted = 0
        self.failed: list[Answer] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(20)
        self._channel.close()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._closed.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._every_s, time.monotonic() - 0.1)
            got = ask(self._channel, body=self._body, metadata=[("x-do", "echo")])
            self.offered += 1
            self.admitted += got.code is Code.OK
            if got.code is not Code.OK and got.error != "limited":
                self.failed.append(got)


class Pair:
    """Two access services before one endpoint, and their Redis."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.programs: list[Process] = []
        self.endpoint = Endpoint(self._serve)

    def start(self, folder: Path) -> None:
        self.redis = RedisServer(self._run, folder)
        self.both = [self._access(folder / name) for name in ("one", "two")]
        self.one, self.two = self.both
        for access in self.both:
            access.wait_live(self.endpoint.address)
        self.wait_shared()

    def wait_shared(self) -> None:
        def shares(access: Access) -> bool:
            shared = access.status()["control"]["shared_limits"]
            return shared is not None and shared["instances"] == 2

        self.wait(shares, "they share")

    def wait(self, holds: Callable[[Access], bool], what: str, timeout_s: float = SETTLED_S) -> None:
        wait_until(lambda: all(holds(each) for each in self.both), what, timeout_s)

    def share(self, access: Access, model: str = "m", limit: str = "requests_per_s") -> float:
        share: float = _limits(access, model)["shares"][limit]
        return share

    def close(self) -> None:
        self.go.set()
        for program in self.programs:
            program.kill()
        self.endpoint.close()

    def config(self, **more: Any) -> dict[str, Any]:
        rate = {"requests_per_s": RATE, "burst": BURST}
        models = {"m": {"limits": rate}, "quiet": {"limits": rate}, "slow": {"limits": {"in_flight": PLACES}}}
        return {
            "clusters": {"fleet": {"endpoints": [self.endpoint.address], "max_attempts": 1}},
            "models": {name: {"cluster": "fleet", **model} for name, model in models.items()},
            "instances": 2,
            "shared_limits": {"redis": self.redis.url, "group": "pair"},
            **more,
        }

    def _access(self, folder: Path) -> Access:
        folder.mkdir()
        return Access(self._run, folder, self.config())

    def _run(self, command: Any) -> Process:
        self.programs.append(Process(command))
        return self.programs[-1]

    def _serve(self, stream: Stream) -> None:
        if dict(stream.wait_headers()).get("x-do") == "hang":
            self.go.wait(30)
        echo(stream)


def _limits(access: Access, model: str) -> dict[str, Any]:
    found = next(each for each in access.status()["models"] if each["name"] == model)
    limits: dict[str, Any] = found["limits"]
    return limits


def _per_s(*loads: Load, over_s: float = 2) -> tuple[float, float]:
    """Return how many calls a second all loads together get in, over a time, and how many would have been allowed.

    The second is less than `RATE` only where the machine is too busy to ask for as many.
    """
    before, began = [(each.admitted, each.offered) for each in loads], time.monotonic()
    threading.Event().wait(over_s)
    took_s = time.monotonic() - began
    admitted = sum(each.admitted - was for each, (was, _) in zip(loads, before, strict=True))
    offered = sum(each.offered - was for each, (_, was) in zip(loads, before, strict=True))
    return admitted / took_s, min(RATE, offered / took_s)


def _wait_allowed(most_per_s: float, *loads: Load) -> None:
    """Wait until loads get in nearly all that is allowed, and never more than ``most_per_s``.

    A machine that stands still for a moment makes the loads ask in bunches, which their burst cuts: so not each time.
    """

    def nearly_all() -> bool:
        admitted, allowed = _per_s(*loads)
        assert admitted < most_per_s
        return admitted > 0.75 * allowed

    wait_until(nearly_all, "nearly all that is allowed gets in", SETTLED_S)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair()
    try:
        pair.start(tmp_path_factory.mktemp("shared"))
        yield pair
    finally:
        pair.close()


def test_callers_of_one_access_service_get_nearly_all_and_of_two_no_more(pair: Pair) -> None:
    with Load(pair.one) as one:
        wait_until(lambda: pair.share(pair.one) > 0.95, "one has nearly all", SETTLED_S)
        _wait_allowed(1.05 * RATE + BURST / 2, one)
        channel = grpc.insecure_channel(pair.two.address, options=OPTIONS)
        got = ask(channel, body=tfs_request("m"), metadata=[("x-do", "echo")])
        channel.close()
        assert got.code is Code.OK, "who comes to the quiet one is served at once"
        with Load(pair.two) as two:
            pair.wait(lambda access: 0.25 < pair.share(access) < 0.75, "each has its part")
            _wait_allowed(1.05 * RATE + 2 * BURST / 2, one, two)
            assert one.failed + two.failed == []
    assert [pair.share(each, "quiet") for each in pair.both] == [0.5, 0.5], "nobody asks for it"


def test_places_in_flight_go_where_they_are_wanted(pair: Pair) -> None:
    channels = [grpc.insecure_channel(each.address, options=OPTIONS) for each in pair.both]

    def hang(channel: grpc.Channel) -> Answer:
        return ask(channel, body=tfs_request("slow"), metadata=[("x-do", "hang")])

    def come_in() -> None:
        while hang(channels[0]).error == "limited" and not pair.go.wait(0.1):
            pass

    threads = [threading.Thread(target=come_in) for _ in range(PLACES)]
    for thread in threads:
        thread.start()
    wait_until(lambda: _in_flight(pair.one) == PLACES, "one has all places", SETTLED_S)
    threads.append(threading.Thread(target=hang, args=(channels[1],)))
    threads[-1].start()
    wait_until(lambda: _in_flight(pair.two) == 1, "the quiet one has a place")
    wait_until(lambda: pair.share(pair.two, "slow", "in_flight") > 0.08, "it asks for it", SETTLED_S)
    assert _in_flight(pair.one) == PLACES, "nobody is thrown out"
    got = hang(channels[0])
    assert got.error == "limited"
    assert re.search(r"in_flight 8, of which this access service allows \d+\.\d % now", got.message)
    pair.go.set()
    for thread in threads:
        thread.join(20)
    for channel in channels:
        channel.close()


def _in_flight(access: Access) -> int:
    count: int = _limits(access, "slow")["in_flight_now"]
    return count


def test_what_others_write_is_left_out_and_said(pair: Pair) -> None:
    redis = pytest.importorskip("redis")
    client = redis.Redis(port=pair.redis.port, db=3, password=PASSWORD)
    key = "dl-inference:limits:pair"
    wanted = '{"version":1,"wanted":[["","m","requests_per_s",%s]]}'
    records = {
        "00000000000000a0": b"\xff\x00 no text",
        "00000000000000a1": b"[" * 100_000,
        "00000000000000a2": wanted % "NaN",
        "00000000000000a3": wanted % "-1",
        "00000000000000a4": json.dumps({"version": 1, "wanted": [["", "m", "requests_per_s"]]}),
        "00000000000000a5": b"." * 2_000_000,
    }
    for name, record in records.items():
        client.set(f"{key}:{name}", record, ex=60)
    client.rpush(f"{key}:00000000000000a6", "a list")
    bounded = "00000000000000b0"
    client.set(f"{key}:{bounded}", wanted % "1e308", ex=60)
    client.sadd(key, *records, "00000000000000a6", bounded, "no instance\n", b"\xff")
    for access in pair.both:
        access.process.wait_line("in group pair is left out: ", timeout_s=SETTLED_S)
    status = lambda access: access.status()["control"]["shared_limits"]  # noqa: E731
    pair.wait(lambda access: status(access)["refused_records"] == 9, "nine are left out")
    pair.wait(lambda access: status(access)["instances"] == 3 and status(access)["ok"], "one is none of ours")
    # It says that it wants all of it, and nobody else does.
    pair.wait(lambda access: pair.share(access) == pytest.approx(0.05 / 3, abs=1e-3), "each has its floor")
    for name in (*records, "00000000000000a6", bounded):
        client.delete(f"{key}:{name}")
    client.srem(key, "no instance\n", b"\xff")
    pair.wait(
        lambda access: status(access)["instances"] == 2 and not status(access)["refused_records"], "they are gone"
    )
    client.close()


@pytest.mark.parametrize("loss", ["killed", "hung"])
def test_while_the_redis_is_lost_limits_are_divided(pair: Pair, loss: str) -> None:
    redis = pair.redis
    lines = [access.process.line_count() for access in pair.both]
    with Load(pair.one) as load:
        wait_until(lambda: pair.share(pair.one) > 0.95, "one has nearly all", SETTLED_S)
        offered, began = load.offered, time.monotonic()
        redis.kill() if loss == "killed" else redis.freeze()
        for access, before in zip(pair.both, lines, strict=True):
            said = access.process.wait_line(f"{redis.name} is lost", after=before, timeout_s=SETTLED_S)
            assert "allows 1/2 of every limit, as `instances` says, until it is back" in said.string
        assert time.monotonic() - began > 1, "one exchange that fails is no loss"
        pair.wait(lambda access: pair.share(access) == 0.5, "each allows its half")
        assert _per_s(load, over_s=1)[0] < 0.5 * RATE + BURST
        assert load.offered - offered > 12, "no call waits for it: at a second each, there would be five"
        assert load.failed == []
    for access in pair.both:
        shared = access.status()["control"]["shared_limits"]
        assert (shared["ok"], shared["instances"], shared["redis"]) == (False, None, redis.name)
        assert any("is lost" in each for each in access.status()["control"]["warnings"])
        assert access.counter("dl_shared_limits_ok") == 0
        log = access.process.log.splitlines()
        assert sum(f"{redis.name} is lost" in line for line in log) == 1 + (loss == "hung")
    redis.restart() if loss == "killed" else redis.thaw()
    for access, before in zip(pair.both, lines, strict=True):
        access.process.wait_line("access services share limits again in group pair", after=before, timeout_s=SETTLED_S)
    pair.wait_shared()
    pair.wait(lambda access: access.counter("dl_shared_limits_ok") == 1, "it is back")
    assert pair.one.counter("dl_shared_limits_instances") == 2


def test_the_password_is_nowhere(pair: Pair) -> None:
    for access in pair.both:
        pages = [access.get(path) for path in ("/status", "/config", "/metrics")]
        assert pair.redis.name in pages[0]
        assert pair.redis.name in pages[1]
        assert PASSWORD not in access.process.log + "".join(pages)


def test_sharing_begins_and_ends_with_the_configuration(pair: Pair) -> None:
    one, two = pair.both
    one.configure(pair.config(instances=5, shared_limits=None))
    wait_until(lambda: one.status()["control"]["shared_limits"] is None, "it shares no longer")
    assert pair.share(one, "quiet") == 0.2
    assert not re.search("^dl_shared_limits", one.get("/metrics"), re.MULTILINE)
    wait_until(lambda: pair.share(two, "quiet") == 1, "the other one is alone, and knows it", SETTLED_S)
    one.configure(pair.config())
    pair.wait_shared()
    pair.wait(lambda access: pair.share(access, "quiet") == 0.5, "each has its part again")
