"""The first call that can succeed after all endpoints of a cluster were gone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import grpc
from e2e.calls import ask
from fixtures.access_process import WORKERS, Access, cluster, wait_until
from fixtures.http2_peer import Endpoint, echo
from fixtures.processes import Endpoint as Program

Code = grpc.StatusCode
# Between two connects while calls wait for one: 10 ms, and a busy machine's time.
SOON_S = 0.5


class Slammer:
    """A listener in an endpoint's place that closes every connection, and keeps when they came."""

    def __init__(self, address: str) -> None:
        self.knocks: list[float] = []
        host, _, port = address.rpartition(":")
        self._listener = socket.create_server((host, int(port)), backlog=4096)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                self._listener.accept()[0].close()
            except OSError:
                return
            self.knocks.append(time.monotonic())


def test_the_first_call_after_an_outage_of_all_endpoints_is_answered(
    start_access: Callable[..., Access],
    start_endpoint: Callable[..., Program],
    connect: Callable[[str], grpc.Channel],
) -> None:
    endpoint, other = start_endpoint("--echo", "yes"), start_endpoint("--echo", "yes")
    access = start_access(cluster([endpoint.address, other.address]))
    access.wait_live(endpoint.address, other.address)
    endpoint.kill()
    other.kill()
    slammer = Slammer(endpoint.address)
    knocks = slammer.knocks
    wait_until(lambda: len(knocks) > 1 and knocks[-1] - knocks[-2] > 2 * SOON_S, "connects have become rare")
    channel = connect(access.address)
    assert ask(channel).error == "no_endpoints"
    slammer.close()
    endpoint.restart()
    started = time.monotonic()
    assert ask(channel, timeout_s=5).code is Code.OK
    assert time.monotonic() - started < SOON_S


def test_a_call_waits_for_the_connect_that_is_under_way(
    start_access: Callable[..., Access], free_port: Callable[[], int], connect: Callable[[str], grpc.Channel]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    access = start_access({**cluster([address]), "limits": {"connect_timeout_ms": 5000}})
    channel = connect(access.address)
    assert ask(channel).error == "no_endpoints"
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))) as silent:
        call = threading.Thread(target=ask, args=(channel,))
        call.start()
        silent.settimeout(5)
        taken, _ = silent.accept()
        assert call.is_alive()
        taken.close()
        call.join(10)
        assert not call.is_alive()


def test_calls_that_wait_do_not_knock_without_pause(
    start_access: Callable[..., Access], connect: Callable[[str], grpc.Channel]
) -> None:
    endpoint = Endpoint(echo)
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    endpoint.close()
    slammer = Slammer(endpoint.address)
    wait_until(lambda: not access.endpoint(endpoint.address)["live"], "it is found dead")
    channel = connect(access.address)
    before, started = len(slammer.knocks), time.monotonic()
    for _ in range(50):
        assert ask(channel).code is Code.UNAVAILABLE
    made, took_s = len(slammer.knocks) - before, time.monotonic() - started
    slammer.close()
    assert made <= took_s / 0.010 + 2


def test_calls_that_wait_for_many_dead_endpoints_do_not_knock_more_than_a_thousand_times_a_second(
    start_access: Callable[..., Access], free_port: Callable[[], int], connect: Callable[[str], grpc.Channel]
) -> None:
    port = free_port()
    slammer = Slammer(f"0.0.0.0:{port}")  # all of 127.0.0.0/8 is this machine
    addresses = [f"127.0.1.{number}:{port}" for number in range(1, 201)]
    access = start_access(cluster(addresses))
    wait_until(lambda: len(slammer.knocks) >= 2 * WORKERS * len(addresses), "all are found dead")
    channel = connect(access.address)
    before, started = len(slammer.knocks), time.monotonic()

    def wait() -> None:
        while time.monotonic() < started + 3:
            assert ask(channel, timeout_s=2).code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)

    callers = [threading.Thread(target=wait) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
    made, took_s = len(slammer.knocks) - before, time.monotonic() - started
    slammer.close()
    # What is on its way at the first look may come after it.
    assert 100 < made <= 1000 * took_s + WORKERS * len(addresses)
