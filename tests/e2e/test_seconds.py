"""What the admin port tells a dashboard: the last ten minutes, each second as it comes, the calls that stand out."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import grpc
import pytest
from e2e.calls import ask, tfs_request
from fixtures.access_process import TFS, Access, cluster, wait_until
from fixtures.processes import Endpoint

OTHER = "a.b-c_d"


def page(access: Access, path: str) -> Any:
    return json.loads(access.get(path))


def refused(access: Access, path: str, method: str = "GET") -> tuple[int, str]:
    """Ask for a page; return the status and the text."""
    with closing(http.client.HTTPConnection(access.admin, timeout=10)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(200).decode()


class Viewer:
    """One that watches /events."""

    def __init__(self, access: Access) -> None:
        self._connection = http.client.HTTPConnection(access.admin, timeout=20)
        self._connection.request("GET", "/events")
        self.answer = self._connection.getresponse()

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what is new each second, until the other side ends the answer."""
        for line in self.answer:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def access(start_access: Callable[..., Access], start_endpoint: Callable[..., Endpoint]) -> Access:
    endpoint = start_endpoint("--echo", "yes")
    config = cluster([endpoint.address])
    config["models"][OTHER] = {"cluster": "fleet"}
    access = start_access(config)
    access.wait_live(endpoint.address)
    return access


def total(access: Access, of: str) -> int:
    return sum(each or 0 for each in page(access, "/history")["total"][of])


def test_the_history_is_there_two_seconds_after_the_start_and_has_every_call(
    access: Access, connect: Callable[..., grpc.Channel]
) -> None:
    started = time.monotonic()
    channel = connect(access.address)
    for _ in range(3):
        assert ask(channel).code is grpc.StatusCode.OK
    for body in (tfs_request("nobody"), tfs_request(OTHER)):
        ask(channel, body=body)
    ask(channel, "/no.Such/Method")
    wait_until(lambda: total(access, "requests") == 6, "all calls are in the history", timeout_s=20)
    assert time.monotonic() - started < 20
    history = page(access, "/history")
    series = history["total"]
    lengths = {len(series[name]) for name in ("requests", "errors", "p50_ms", "p90_ms", "p99_ms")}
    assert lengths == {len(series["requests"])}
    assert len(series["requests"]) <= 600
    assert abs(history["end_unix_s"] - time.time()) < 5
    assert {kind: sum(counts) for kind, counts in series["kinds"].items()} == {"no_route": 1, "unknown_method": 1}
    assert sum(series["errors"]) == 2
    places = [place for place, count in enumerate(series["requests"]) if count]
    assert all(
        series["p50_ms"][place] is not None for place in places if series["requests"][place] > series["errors"][place]
    )
    assert {name: sum(each or 0 for each in model["requests"]) for name, model in history["models"].items()} == {
        "m": 3,
        OTHER: 1,
    }
    assert {len(each) for each in history["models"]["m"].values()} == {60}
    alone = page(access, "/history/" + OTHER.replace("-", "%2d"))["series"]
    assert (sum(alone["requests"]), alone["kinds"]) == (1, {})
    assert refused(access, "/history/nobody")[0] == 404
    assert refused(access, "/history/%ff")[0] == 404
    assert refused(access, "/history", "POST")[0] == 405


def test_errors_are_listed_with_what_helps(access: Access) -> None:
    table = page(access, "/errors")
    assert table["no_endpoints"]["code"] == "UNAVAILABLE"
    assert all(each["remedy"] for each in table.values())


def test_each_second_tells_the_viewers_what_came_and_the_17th_is_turned_away(
    access: Access, connect: Callable[..., grpc.Channel]
) -> None:
    channel = connect(access.address)
    with ExitStack() as stack:
        viewers = [stack.enter_context(closing(Viewer(access))) for _ in range(16)]
        assert viewers[0].answer.getheader("content-type") == "text/event-stream"
        assert {viewer.answer.status for viewer in viewers} == {200}
        status, why = refused(access, "/events")
        assert (status, "16 viewers" in why) == (503, True)
        events = viewers[0].events()
        first = next(events)
        assert first["ready"] is True
        assert first["total"]["requests"] == 0
        assert ask(channel, body=tfs_request(OTHER)).code is grpc.StatusCode.OK
        ask(channel, body=tfs_request("nobody"))
        seen = [event for event in (next(events) for _ in range(3)) if event["total"]["requests"]]
        assert sum(event["total"]["requests"] for event in seen) == 2
        assert [event["total"]["kinds"] for event in seen if event["total"]["kinds"]] == [{"no_route": 1}]
        requests, errors, p50, p99 = next(event["models"][OTHER] for event in seen if event["models"])
        assert (requests, errors) == (1, 0)
        assert 0 < p50 <= p99
        numbers = [event["unix_s"] for event in seen]
        assert numbers == sorted(numbers)
        viewers[1].close()
        wait_until(lambda: refused_or_let_in(access) == 200, "who goes makes room", timeout_s=20)


def refused_or_let_in(access: Access) -> int:
    with closing(Viewer(access)) as viewer:
        return viewer.answer.status


def test_a_viewer_that_does_not_read_holds_nothing_up_and_a_drain_ends_them_all(
    access: Access, connect: Callable[..., grpc.Channel]
) -> None:
    host, _, port = access.admin.rpartition(":")
    with closing(socket.create_connection((host, int(port)))) as silent, closing(Viewer(access)) as viewer:
        silent.sendall(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n")
        events = viewer.events()
        before = next(events)["status"]
        access.configure(cluster([access.status()["clusters"][0]["endpoints"][0]["address"]], timeout_ms=5000))
        states = [next(events)["status"] for _ in range(3)]
        assert states[-1] != before, "the routes have changed"
        assert states[1] == states[2], "nothing has changed"
        access.process.signal(signal.SIGTERM)
        last = list(events)
        assert all(event["ready"] is False for event in last)


def test_slow_and_failed_calls_are_kept_with_their_way_when_the_recorder_has_long_forgotten_them(
    start_access: Callable[..., Access], start_endpoint: Callable[..., Endpoint], connect: Callable[..., grpc.Channel]
) -> None:
    good, bad = start_endpoint("--echo", "yes"), start_endpoint("--echo", "yes")
    config = cluster([good.address, bad.address])
    config["models"]["alone"] = {"endpoints": [bad.address]}
    access = start_access(config)
    access.wait_live(good.address, bad.address)
    channel = connect(access.address)
    bad.tell("rst")
    # No more than a worker keeps of ten seconds, whichever they fall into.
    for number in range(5):
        ask(channel, metadata=[("x-request-id", f"m-{number}")])
    for number in range(3):
        failed = ask(channel, body=tfs_request("alone"), metadata=[("x-request-id", f"alone-{number}")])
        assert failed.error == "stream_reset"
    found = page(access, "/calls?which=failed")["calls"]
    assert [call["request_id"] for call in found] == ["alone-2", "alone-1", "alone-0"], "the newest first"
    assert [call["error"] for call in found] == ["stream_reset"] * 3
    assert all(leg["endpoint"] == bad.address for call in found for leg in call["legs"])
    assert page(access, "/calls?which=failed&model=m")["calls"] == []
    assert len(page(access, "/calls?which=failed&limit=1")["calls"]) == 1
    slow = page(access, "/calls?which=slow&model=m")["calls"]
    assert len(slow) == 5
    assert [call["duration_ms"] for call in slow] == sorted((call["duration_ms"] for call in slow), reverse=True)
    (retried, *_) = [call for call in slow if call["attempts"] == 2]
    assert [(leg["endpoint"], leg["why"], leg["cause"]) for leg in retried["legs"]] == [
        (bad.address, "first", None),
        (good.address, "retry", "stream_reset"),
    ]
    # More than the recorder holds, by one connection: each of them is quick.
    many = [channel.unary_unary(TFS).future(tfs_request("m"), timeout=30) for _ in range(5000)]
    assert {call.code() for call in many} == {grpc.StatusCode.OK}
    assert refused(access, "/calls/alone-0")[0] == 404
    assert [call["request_id"] for call in page(access, "/calls?which=failed")["calls"]] == [
        "alone-2",
        "alone-1",
        "alone-0",
    ]
    assert refused(access, "/calls?which=fast") == (400, 'which="fast": use slow or failed\n')
    assert page(access, "/calls?which=slow&model=%3Cscript%3E")["calls"] == []
