"""The error table of the request path, row by row: code, kind, attempts, and what the balancer learns."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from e2e.calls import FEEDBACK, FOR_M, Answer, answer, ask, tfs_request
from fixtures.access_process import OIP_STREAM, SELDON, TFS, Access, cluster, wait_until
from fixtures.http2_peer import Endpoint as ScriptedEndpoint
from fixtures.http2_peer import Stream, dial, echo, message, request_head, unary
from fixtures.processes import Endpoint, Process

from dl_inference._native import ERROR_KINDS
from dl_inference.messages import ModelInferRequest, SeldonMessage

Code = grpc.StatusCode
StartAccess = Callable[..., Access]
StartEndpoint = Callable[..., Endpoint]
Connect = Callable[..., grpc.Channel]
StartScripted = Callable[..., ScriptedEndpoint]
TO_M = [("x-model", "m")]

OIP = "/inference.GRPCInferenceService/ModelInfer"

# Kinds that no outside event brings about, and why.
UNPROVOKED = {
    "internal": "a fault of ours",
    "model_not_ready": "a model server listens once its model is ready; tests/native/test_worker.py takes that back",
    "poison": "two processes of a model have to die for it: test_poison.py",
    "model_unloaded": "serve unloads models: test_loads.py",
    "memory_budget": "serve has one: test_loads.py",
    "limited": "test_call_limits.py",
    "uri_denied": "a form of HTTP takes URIs: test_forms.py",
    "unauthenticated": "a document of callers has to be there: test_callers.py",
    "uri_failed": "another host has to fail: rest/uris/uris_tests.rs",
}
PROVOKED: set[str] = set()


def provokes(*kinds: str) -> Callable[..., object]:
    """Note which rows of the table a test proves."""
    PROVOKED.update(kinds)
    return lambda test: test


def wait_for_the_end(stream: Stream) -> None:
    """Serve a call by saying nothing."""
    stream.wait_gone()


class Fleet:
    """Stand-in endpoints, the service in front of them, a channel to it."""

    def __init__(self, access: Access, endpoints: list[Endpoint], channel: grpc.Channel) -> None:
        self.access = access
        self.endpoints = endpoints
        self.channel = channel
        access.wait_live(*[endpoint.address for endpoint in endpoints])

    def ask_until_it_meets(self, endpoint: Endpoint, path: str = TFS) -> Answer:
        """Call until a call has reached an endpoint; return that call's answer."""
        for _ in range(10):
            before = endpoint.counts()[0]
            got = ask(self.channel, path, FOR_M if path == TFS else b"", metadata=() if path == TFS else TO_M)
            if endpoint.counts()[0] > before:
                return got
        raise AssertionError(f"no call reached {endpoint.address}")

    def weights(self) -> list[float]:
        return [self.access.weight(endpoint.address) for endpoint in self.endpoints]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """One service for tests that only look at their own endpoints: it takes them over by a reload."""
    started: list[Process] = []

    def run(command: list[str]) -> Process:
        started.append(Process(command))
        return started[-1]

    yield Access(run, tmp_path_factory.mktemp("access"), cluster(["127.0.0.1:1"]))
    for process in started:
        process.kill()


@pytest.fixture
def fleet(start_access: StartAccess, start_endpoint: StartEndpoint, connect: Connect) -> Callable[..., Fleet]:
    def make(count: int = 1, limits: dict[str, int] | None = None, **settings: object) -> Fleet:
        endpoints = [start_endpoint("--echo", "yes") for _ in range(count)]
        config = cluster([each.address for each in endpoints], **settings)
        access = start_access({**config, "limits": limits or {}})
        return Fleet(access, endpoints, connect(access.address))

    return make


# --- the caller's own errors: no endpoint hears of them


@provokes("unknown_method")
def test_an_unknown_method_is_unimplemented(fleet: Callable[..., Fleet]) -> None:
    it = fleet()
    got = ask(it.channel, "/no.such.Service/Method")
    assert (got.code, got.error, got.attempts) == (Code.UNIMPLEMENTED, "unknown_method", 0)
    assert "/no.such.Service/Method" in got.message
    assert it.endpoints[0].counts()[0] == 0


@provokes("bad_route_key")
def test_a_call_that_names_no_model_is_told_to_send_x_model(fleet: Callable[..., Fleet]) -> None:
    it = fleet()
    got = ask(it.channel, SELDON, b"")
    assert (got.code, got.error, got.attempts) == (Code.INVALID_ARGUMENT, "bad_route_key", 0)
    assert "x-model" in got.message


def test_a_message_that_names_two_models_is_refused_before_any_endpoint_sees_it(fleet: Callable[..., Fleet]) -> None:
    it = fleet()
    got = ask(it.channel, TFS, FOR_M + b"\x0a\x03\x0a\x01x")
    assert (got.code, got.error) == (Code.INVALID_ARGUMENT, "bad_route_key")
    wait_until(lambda: it.access.status()["in_flight"] == 0, "the call is over")
    assert it.weights() == [1.0]


def test_a_second_model_after_forwarding_began_resets_the_call_before_its_last_byte(
    start_access: StartAccess, start_scripted: StartScripted
) -> None:
    endpoint = start_scripted(wait_for_the_end)
    access = start_access(cluster([endpoint.address]))
    rest = b"\x7a\x80\x80\x01" + b"." * 16384 + b"\x0a\x03\x0a\x01x"
    whole = message(FOR_M + rest)
    first = whole[: len(whole) - 5]
    with dial(access.address) as caller:
        call = caller.open(request_head(TFS))
        call.send(first)
        wait_until(lambda: endpoint.calls, "the call is forwarded")
        upstream = endpoint.last_call()
        seen = b""
        while len(seen) < len(first):
            seen += upstream.read() or b""
        call.send(whole[len(first) :], end=True)
        status = call.status()
        assert (status["grpc-status"], status["access-error"]) == ("3", "bad_route_key")
        upstream.wait_gone()
    assert not upstream.has_ended
    assert not upstream.chunks
    assert access.weight(endpoint.address) == 1.0


@provokes("bad_request")
@pytest.mark.parametrize(
    ("path", "metadata", "body"),
    [
        (TFS, [("grpc-timeout", "soon")], message(FOR_M)),
        (TFS, [(f"x-{number}", "1") for number in range(130)], message(FOR_M)),
        (TFS, [], message(FOR_M)[:-1]),
        (TFS, [], b"\x07" + message(FOR_M)[1:]),
    ],
    ids=["a time-out that is none", "130 fields", "a message cut short", "an unknown flag"],
)
def test_a_request_that_is_malformed_is_an_invalid_argument(
    fleet: Callable[..., Fleet], path: str, metadata: list[tuple[str, str]], body: bytes
) -> None:
    it = fleet()
    with dial(it.access.address) as caller:
        call = caller.open(request_head(path, *metadata))
        call.send(body, end=True)
        status = call.status()
    assert (status["grpc-status"], status["access-error"]) == ("3", "bad_request")
    assert it.weights() == [1.0]


def test_a_call_without_a_message_names_no_model(start_access: StartAccess, start_scripted: StartScripted) -> None:
    endpoint = start_scripted(echo)
    config = cluster([endpoint.address])
    access = start_access(config)
    status = end_at_once(access.address)
    assert (status["grpc-status"], status["access-error"]) == ("3", "bad_route_key")
    access.configure({**config, "default_cluster": "fleet"})
    assert end_at_once(access.address)["grpc-status"] == "0"
    assert len(endpoint.calls) == 1


def end_at_once(address: str) -> dict[str, str]:
    """Open a stream and end it before its first message; return its trailers."""
    with dial(address) as caller:
        return caller.open(request_head(OIP_STREAM), end=True).status()


@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE"])
def test_a_call_that_is_no_post_is_unimplemented(fleet: Callable[..., Fleet], verb: str) -> None:
    it = fleet()
    with dial(it.access.address) as caller:
        call = caller.open([(":method", verb), *request_head(TFS)[1:]])
        call.send(message(FOR_M), end=True)
        status = call.status()
    assert (status["grpc-status"], status["access-error"]) == ("12", "unknown_method")


@pytest.mark.parametrize("is_marked", [True, False], ids=["compressed", "marked as uncompressed"])
def test_a_message_whose_encoding_is_unknown_is_unimplemented_where_it_has_to_be_read(
    fleet: Callable[..., Fleet], is_marked: bool
) -> None:
    it = fleet()
    with dial(it.access.address) as caller:
        call = caller.open(request_head(TFS, ("grpc-encoding", "snappy")))
        call.send(message(b"\xff\x06\x00\x00sNaPpY", is_marked), end=True)
        status = call.status()
    assert (status["grpc-status"], status["access-error"]) == ("12", "unsupported_encoding")
    assert status["grpc-accept-encoding"] == "identity,deflate,gzip"
    assert "x-model" in status["grpc-message"]


@provokes("no_route")
def test_an_unknown_model_is_not_found_and_the_nearest_names_are_told(
    start_access: StartAccess, start_endpoint: StartEndpoint, connect: Connect
) -> None:
    endpoint = start_endpoint()
    config = cluster([endpoint.address])
    config["models"] = {name: {"cluster": "fleet"} for name in ("digits", "ranking", "vision", "words")}
    access = start_access(config)
    got = ask(connect(access.address), TFS, tfs_request("digit"))
    assert (got.code, got.error, got.attempts) == (Code.NOT_FOUND, "no_route", 0)
    assert "digits" in got.message
    assert endpoint.counts()[0] == 0


@provokes("too_many_hops")
def test_access_services_that_name_each_other_refuse_a_call_after_eight_hops(
    start_access: StartAccess, connect: Connect
) -> None:
    first = start_access(cluster(["127.0.0.1:1"]))
    second = start_access(cluster([first.address]))
    first.configure(cluster([second.address]))
    first.wait_live(second.address)
    second.wait_live(first.address)
    got = ask(connect(first.address))
    assert (got.code, got.error, got.attempts) == (Code.FAILED_PRECONDITION, "too_many_hops", 1)
    assert "passed 8 access services" in got.message
    assert [each.counter("dl_errors_total", kind="too_many_hops") for each in (first, second)] == [1, 0]
    assert first.weight(second.address) == 1.0


@provokes("unknown_label")
def test_an_unknown_label_is_told_with_those_there_are(
    start_access: StartAccess, start_endpoint: StartEndpoint, tmp_path: Path, connect: Connect
) -> None:
    address = start_endpoint().address
    release = {"releases": {"3": {"phase": "production"}}, "labels": {"stable": "3"}}
    entry = {"endpoints": [{"address": address, "version": "3"}], "release": release}
    (tmp_path / "models.json").write_text(json.dumps({"m": entry}))
    access = start_access({"discovery": [{"kind": "file", "path": str(tmp_path / "models.json")}]})
    # model_spec with the name m and a label of one letter
    got = ask(connect(access.address), TFS, b"\x0a\x06\x0a\x01m\x22\x01x")
    assert (got.code, got.error, got.attempts) == (Code.INVALID_ARGUMENT, "unknown_label", 0)
    assert got.message.startswith("Unrecognized servable version label: x; labels of model m: stable (version 3)")


@provokes("denied")
def test_a_method_that_changes_endpoints_is_denied_unless_allowed(fleet: Callable[..., Fleet]) -> None:
    it = fleet()
    got = ask(it.channel, "/inference.GRPCInferenceService/RepositoryModelUnload", b"", metadata=TO_M)
    assert (got.code, got.error) == (Code.PERMISSION_DENIED, "denied")
    assert it.endpoints[0].counts()[0] == 0


# --- limits


@provokes("message_too_large")
def test_a_request_beyond_the_limit_is_refused_by_its_announced_size(fleet: Callable[..., Fleet]) -> None:
    it = fleet(limits={"max_message_bytes": 65536})
    got = ask(it.channel, TFS, tfs_request("m", 65536))
    assert (got.code, got.error) == (Code.RESOURCE_EXHAUSTED, "message_too_large")
    assert "65536" in got.message
    assert it.endpoints[0].counts()[0] == 0
    assert ask(it.channel, TFS, tfs_request("m", 65000)).code is Code.OK


def test_an_answer_beyond_the_limit_is_refused_and_the_endpoint_not_blamed(
    start_access: StartAccess, start_endpoint: StartEndpoint, connect: Connect
) -> None:
    endpoint = start_endpoint("--body", "100000")
    access = start_access({**cluster([endpoint.address]), "limits": {"max_message_bytes": 65536}})
    got = ask(connect(access.address))
    assert (got.code, got.error, got.attempts) == (Code.RESOURCE_EXHAUSTED, "message_too_large", 1)
    assert access.weight(endpoint.address) == 1.0


@provokes("shed")
@pytest.mark.parametrize(
    ("limits", "settings", "named"),
    [({}, {"max_in_flight": 1}, "cluster fleet"), ({"max_in_flight": 1}, {}, "the access service")],
    ids=["cluster", "process"],
)
def test_a_call_beyond_the_limit_in_flight_is_shed(
    fleet: Callable[..., Fleet], limits: dict[str, int], settings: dict[str, int], named: str
) -> None:
    it = fleet(limits=limits, **settings)
    it.endpoints[0].tell("hang")
    first = it.channel.unary_unary(TFS).future(FOR_M, timeout=20)
    wait_until(lambda: it.endpoints[0].counts()[0] == 1, "the first call is in flight")
    got = ask(it.channel)
    assert (got.code, got.error, got.attempts) == (Code.RESOURCE_EXHAUSTED, "shed", 0)
    assert named in got.message
    first.cancel()
    it.endpoints[0].tell("ok")
    wait_until(lambda: it.access.status()["in_flight"] == 0, "the first call is over")
    assert ask(it.channel).code is Code.OK


def test_calls_of_low_priority_are_shed_first(fleet: Callable[..., Fleet]) -> None:
    it = fleet(1, max_in_flight=10)
    it.endpoints[0].tell("hang")
    call = it.channel.unary_unary(TFS)
    low = [("x-priority", "low")]
    held = [call.future(FOR_M, metadata=low, timeout=20) for _ in range(7)]
    wait_until(lambda: it.endpoints[0].counts()[0] == 7, "seven calls are in flight")
    got = ask(it.channel, metadata=low)
    assert (got.code, got.error) == (Code.RESOURCE_EXHAUSTED, "shed")
    assert "cluster fleet has 7 calls in flight" in got.message
    assert "(max_in_flight 10)" in got.message
    held += [call.future(FOR_M, metadata=[("x-priority", "urgent")], timeout=20) for _ in range(3)]
    wait_until(lambda: it.endpoints[0].counts()[0] == 10, "the others are in flight, too")
    assert ask(it.channel).error == "shed"
    for each in held:
        each.cancel()


def test_a_call_that_no_endpoint_has_room_for_is_told_when_to_come_again(fleet: Callable[..., Fleet]) -> None:
    it = fleet(2, max_in_flight_per_endpoint=1)
    for endpoint in it.endpoints:
        endpoint.tell("hang")
    held = [it.channel.unary_unary(TFS).future(FOR_M, timeout=20) for _ in range(2)]
    wait_until(lambda: all(each.counts()[0] == 1 for each in it.endpoints), "each endpoint has its call")
    got = ask(it.channel)
    assert (got.code, got.error, got.attempts) == (Code.RESOURCE_EXHAUSTED, "shed", 0)
    assert "cluster fleet is overloaded" in got.message
    assert 10 <= int(got.trailers["grpc-retry-pushback-ms"]) <= 1000
    for each in held:
        each.cancel()


def test_a_call_is_shed_when_too_many_bytes_are_held(fleet: Callable[..., Fleet]) -> None:
    it = fleet(limits={"max_held_bytes": 1 << 20, "max_message_bytes": 4 << 20})
    # The name comes last, so that everything before it has to be held.
    filler = tfs_request("m", 2 << 20)
    got = ask(it.channel, TFS, filler[len(FOR_M) :] + FOR_M)
    assert (got.code, got.error) == (Code.RESOURCE_EXHAUSTED, "shed")
    assert it.access.counter("dl_shed_total", scope="held_bytes") == 1
    wait_until(lambda: it.access.status()["held_bytes"] == 0, "the bytes are given back")


# --- no endpoint, or none yet


@provokes("no_endpoints")
def test_a_cluster_without_a_live_endpoint_says_so(
    start_access: StartAccess, free_port: Callable[[], int], connect: Connect
) -> None:
    access = start_access(cluster([f"127.0.0.1:{free_port()}"]))
    got = ask(connect(access.address))
    assert (got.code, got.error, got.attempts) == (Code.UNAVAILABLE, "no_endpoints", 0)
    assert "fleet" in got.message


@provokes("draining")
def test_who_watches_health_is_told_of_the_drain_and_then_that_the_stream_is_over(
    fleet: Callable[..., Fleet],
) -> None:
    it = fleet()
    watch = it.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=20)
    assert next(watch) == b"\x08\x01"
    # A call in flight keeps the drain open for as long as the test looks.
    it.endpoints[0].tell("hang")
    held = it.channel.unary_unary(TFS).future(FOR_M, timeout=20)
    wait_until(lambda: it.endpoints[0].counts()[0] == 1, "the call is in flight")
    it.access.terminate()
    assert next(watch) == b"\x08\x02"
    with pytest.raises(grpc.RpcError) as caught:
        next(watch)
    assert caught.value.code() is Code.UNAVAILABLE
    assert dict(caught.value.trailing_metadata())["access-error"] == "draining"
    held.cancel()


# --- time


@provokes("deadline_exceeded")
def test_the_clusters_timeout_ends_a_call_and_counts_against_the_endpoint(fleet: Callable[..., Fleet]) -> None:
    it = fleet(2, timeout_ms=200)
    for endpoint in it.endpoints:
        endpoint.tell("hang")
    got = ask(it.channel)
    assert (got.code, got.error, got.attempts) == (Code.DEADLINE_EXCEEDED, "deadline_exceeded", 1)
    assert sorted(it.weights()) == [0.5, 1.0]


def test_an_attempt_that_takes_too_long_is_made_again_elsewhere(fleet: Callable[..., Fleet]) -> None:
    it = fleet(2, attempt_timeout_ms=200)
    hanging = it.endpoints[0]
    hanging.tell("hang")
    got = it.ask_until_it_meets(hanging)
    assert (got.code, got.attempts) == (Code.OK, 2)
    assert it.weights() == [0.5, 1.0]


def test_an_attempt_that_takes_too_long_ends_a_call_that_may_not_be_sent_twice(fleet: Callable[..., Fleet]) -> None:
    it = fleet(2, attempt_timeout_ms=200)
    hanging = it.endpoints[0]
    hanging.tell("hang")
    got = it.ask_until_it_meets(hanging, FEEDBACK)
    assert (got.code, got.error, got.attempts) == (Code.DEADLINE_EXCEEDED, "deadline_exceeded", 1)
    assert it.weights() == [0.5, 1.0]


def test_a_deadline_shorter_than_the_endpoints_median_is_not_held_against_it(fleet: Callable[..., Fleet]) -> None:
    it = fleet()
    it.endpoints[0].tell("slow 150")
    for _ in range(3):
        assert ask(it.channel).code is Code.OK
    for _ in range(5):
        assert ask(it.channel, timeout_s=0.05).code is Code.DEADLINE_EXCEEDED
    wait_until(lambda: it.access.status()["in_flight"] == 0, "the calls are over")
    assert it.weights() == [1.0]


def test_an_endpoint_that_says_deadline_exceeded_at_the_deadline_is_blamed(
    start_access: StartAccess, start_scripted: StartScripted, connect: Connect
) -> None:
    times: list[str] = []

    def at_the_end(stream: Stream) -> None:
        stream.read_all()
        times.append(dict(stream.headers or [])["grpc-timeout"])
        # All but 5 ms of 300: a server's own timer, which cannot be waited for in any other way.
        threading.Event().wait(0.296)
        stream.send_headers([(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "4")], end=True)

    endpoint = start_scripted(at_the_end)
    access = start_access(cluster([endpoint.address], timeout_ms=300))
    got = ask(connect(access.address))
    assert got.code is Code.DEADLINE_EXCEEDED
    assert access.weight(endpoint.address) == 0.5
    assert times[0].endswith(("u", "m", "n"))


@pytest.mark.parametrize("path", [TFS, OIP_STREAM])
@pytest.mark.parametrize("has_begun", [False, True], ids=["before headers", "after headers"])
def test_an_endpoint_that_cancels_the_call_at_its_deadline_has_run_out_of_time(
    shared: Access, start_scripted: StartScripted, path: str, has_begun: bool
) -> None:
    delays = iter([0.0, 0.296])

    def cancel(stream: Stream) -> None:
        if has_begun:
            stream.send_headers([(":status", "200"), ("content-type", "application/grpc")])
        # As a server whose own timer for the time that it was given, 300 ms, runs out first.
        threading.Event().wait(next(delays))
        stream.reset(8)

    shared.configure(cluster([start_scripted(cancel).address]))
    head = request_head(path, ("grpc-timeout", "300m"), ("x-model", "m"))
    with dial(shared.address) as caller:
        early, late = (unary(caller, head, message(b"")).status() for _ in range(2))
    assert (early["grpc-status"], early["access-error"]) == ("14", "stream_reset")
    assert (late["grpc-status"], late["access-error"]) == ("4", "deadline_exceeded")


# --- calls that never reached an endpoint: always sent again


@provokes("connect_failed")
@pytest.mark.parametrize("path", [TFS, FEEDBACK])
def test_a_connect_that_fails_moves_the_call_whatever_its_method(
    start_access: StartAccess, start_scripted: StartScripted, connect: Connect, path: str
) -> None:
    lost, well = start_scripted(), start_scripted()
    access = start_access(
        {**cluster([lost.address, well.address]), "limits": {"connect_timeout_ms": 1500}},
    )
    access.wait_live(lost.address, well.address)
    lost.fall_silent()
    channel = connect(access.address)
    answers = [ask(channel, path, FOR_M, metadata=TO_M) for _ in range(2)]
    assert [each.code for each in answers] == [Code.OK] * 2
    assert sorted(each.attempts for each in answers) == [1, 2]
    assert access.weight(lost.address) == 0.5
    assert access.counter("dl_retries_total", kind="connect_failed") == 1


def test_a_connect_that_fails_is_told_where_no_other_endpoint_is_left(
    start_access: StartAccess, start_scripted: StartScripted, connect: Connect
) -> None:
    lost = start_scripted()
    access = start_access({**cluster([lost.address]), "limits": {"connect_timeout_ms": 1500}})
    access.wait_live(lost.address)
    lost.fall_silent()
    channel = connect(access.address)
    # A call may still go out on the connection that was there.
    tries = (ask(channel) for _ in range(3))
    got = next(each for each in tries if each.error != "connection_lost")
    assert (got.code, got.error, got.attempts) == (Code.UNAVAILABLE, "connect_failed", 1)
    assert lost.address in got.message


@pytest.mark.parametrize("path", [TFS, FEEDBACK])
def test_a_refused_stream_moves_the_call_whatever_its_method_and_blames_nobody(
    fleet: Callable[..., Fleet], path: str
) -> None:
    it = fleet(2)
    it.endpoints[0].tell("refuse")
    got = it.ask_until_it_meets(it.endpoints[0], path)
    assert (got.code, got.attempts) == (Code.OK, 2)
    assert it.weights() == [1.0, 1.0]
    assert it.access.counter("dl_retries_total", kind="refused_stream") == 1


@provokes("refused_stream")
def test_a_refused_stream_is_tried_once_more_on_a_new_connection_where_none_other_is_live(
    fleet: Callable[..., Fleet],
) -> None:
    it = fleet(1)
    it.endpoints[0].tell("refuse")
    connections = it.endpoints[0].counts()[1]
    got = ask(it.channel)
    assert (got.code, got.error, got.attempts) == (Code.UNAVAILABLE, "refused_stream", 2)
    assert it.endpoints[0].counts() == (2, connections + 1)
    assert it.weights() == [1.0]


@pytest.mark.parametrize("path", [TFS, FEEDBACK])
def test_a_goaway_that_excludes_the_call_sends_it_again_on_a_new_connection(
    start_access: StartAccess, start_scripted: StartScripted, connect: Connect, path: str
) -> None:
    def go_away_once(stream: Stream) -> None:
        if len(endpoint.calls) > 1:
            return echo(stream)
        stream.read_all()
        stream.peer.act(lambda h2: h2.close_connection(last_stream_id=0))
        stream.peer.close()
        return None

    endpoint = start_scripted(go_away_once)
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    got = ask(connect(access.address), path, FOR_M, metadata=TO_M)
    assert (got.code, got.attempts, got.body) == (Code.OK, 2, FOR_M)
    assert access.weight(endpoint.address) == 1.0


def test_an_attempt_that_no_endpoint_worked_on_does_not_count_towards_max_attempts(
    start_access: StartAccess, start_scripted: StartScripted, connect: Connect
) -> None:
    def serve(stream: Stream) -> None:
        seen = sum(len(endpoint.calls) for endpoint in endpoints)
        if seen == 1:
            return stream.reset(7)  # REFUSED_STREAM
        if seen == 2:
            return stream.send_headers([(":status", "200"), ("grpc-status", "14")], end=True)
        return echo(stream)

    endpoints = [start_scripted(serve) for _ in range(3)]
    addresses = [each.address for each in endpoints]
    access = start_access(cluster(addresses, max_attempts=2))
    access.wait_live(*addresses)
    got = ask(connect(access.address))
    assert (got.code, got.attempts) == (Code.OK, 3)


# --- calls that were sent, and broke before the answer's headers


@provokes("connection_lost")
def test_a_lost_connection_moves_an_idempotent_call_only(fleet: Callable[..., Fleet]) -> None:
    it = fleet(2)
    it.endpoints[0].tell("hang")

    def lose_one(path: str) -> Answer:
        before = it.endpoints[0].counts()[0]
        calls = [it.channel.unary_unary(path).future(FOR_M, metadata=TO_M, timeout=20) for _ in range(2)]
        wait_until(lambda: it.endpoints[0].counts()[0] == before + 1, "a call hangs")
        it.endpoints[0].tell("reset")
        answers = [answer(each) for each in calls]
        it.access.wait_live(it.endpoints[0].address)
        return next(each for each in answers if each.error or each.attempts > 1)

    got = lose_one(TFS)
    assert (got.code, got.attempts) == (Code.OK, 2)
    assert it.weights() == [0.5, 1.0]
    got = lose_one(FEEDBACK)
    assert (got.code, got.error, got.attempts) == (Code.UNAVAILABLE, "connection_lost", 1)


@provokes("stream_reset")
def test_a_reset_stream_moves_an_idempotent_call_only(fleet: Callable[..., Fleet]) -> None:
    it = fleet(2)
    it.endpoints[0].tell("rst")
    got = it.ask_until_it_meets(it.endpoints[0])
    assert (got.code, got.attempts) == (Code.OK, 2)
    assert it.weights() == [0.5, 1.0]
    got = it.ask_until_it_meets(it.endpoints[0], FEEDBACK)
    assert (got.code, got.error, got.attempts) == (Code.UNAVAILABLE, "stream_reset", 1)
    assert it.weights() == [0.25, 1.0]


def test_a_cluster_that_is_not_idempotent_has_no_call_sent_twice(fleet: Callable[..., Fleet]) -> None:
    it = fleet(2, idempotent=False)
    it.endpoints[0].tell("rst")
    got = it.ask_until_it_meets(it.endpoints[0])
    assert (got.code, got.error, got.attempts) == (Code.UNAVAILABLE, "stream_reset", 1)


def test_an_answer_that_breaks_off_after_its_headers_is_never_asked_for_again(fleet: Callable[..., Fleet]) -> None:
    it = fleet(2)
    it.endpoints[0].tell("half")
    got = it.ask_until_it_meets(it.endpoints[0])
    assert (got.code, got.error, got.attempts) == (Code.UNAVAILABLE, "stream_reset", 1)
    assert "endpoint-name" in got.headers
    assert it.weights() == [0.5, 1.0]


# --- statuses of endpoints


def test_unavailable_is_asked_for_again_elsewhere(fleet: Callable[..., Fleet]) -> None:
    it = fleet(2)
    it.endpoints[0].tell("status 14")
    got = it.ask_until_it_meets(it.endpoints[0])
    assert (got.code, got.attempts) == (Code.OK, 2)
    assert it.weights() == [0.5, 1.0]
    assert it.access.counter("dl_retries_total", kind="upstream_status") == 1


@pytest.mark.parametrize(
    ("code", "weights"),
    [
        (Code.CANCELLED, (1.0, 1.0)),
        (Code.UNKNOWN, (0.5, 1.0)),
        (Code.INVALID_ARGUMENT, (1.0, 1.0)),
        (Code.NOT_FOUND, (1.0, 1.0)),
        (Code.RESOURCE_EXHAUSTED, (1.0, 1.0)),
        (Code.FAILED_PRECONDITION, (1.0, 1.0)),
        (Code.UNIMPLEMENTED, (1.0, 1.0)),
        (Code.INTERNAL, (0.5, 1.0)),
        (Code.UNAVAILABLE, (0.5, 0.5)),
        (Code.DATA_LOSS, (0.5, 0.5)),
        (Code.UNAUTHENTICATED, (1.0, 1.0)),
    ],
    ids=lambda value: value.name if isinstance(value, Code) else "",
)
def test_a_status_passes_as_it_is_and_counts_by_the_protocol(
    shared: Access,
    start_scripted: StartScripted,
    connect: Connect,
    code: grpc.StatusCode,
    weights: tuple[float, float],
) -> None:
    weight, seldon_weight = weights
    details = [("grpc-message", "why%20it%0Afailed"), ("grpc-status-details-bin", "CAESAXg"), ("of-its-own", "1")]

    def fail(stream: Stream) -> None:
        stream.read_all()
        status = str(code.value[0])
        head = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status), *details]
        stream.send_headers(head, end=True)

    endpoint = start_scripted(fail)
    shared.configure(cluster([endpoint.address]))
    channel = connect(shared.address)
    got = ask(channel, SELDON, b"", metadata=TO_M)
    assert shared.weight(endpoint.address) == seldon_weight
    for each in (got, ask(channel)):
        assert (each.code, each.message, each.error) == (code, "why it\nfailed", None)
        assert each.trailers["grpc-status-details-bin"] == b"\x08\x01\x12\x01x"
        assert each.trailers["of-its-own"] == "1"
        assert each.attempts == 1
    assert shared.weight(endpoint.address) == seldon_weight * weight


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (400, (Code.INTERNAL, 0.5)),
        (401, (Code.UNAUTHENTICATED, 1.0)),
        (403, (Code.PERMISSION_DENIED, 1.0)),
        (404, (Code.UNIMPLEMENTED, 1.0)),
        (418, (Code.UNKNOWN, 0.5)),
        (429, (Code.UNAVAILABLE, 0.5)),
        (500, (Code.UNKNOWN, 0.5)),
        (502, (Code.UNAVAILABLE, 0.5)),
        (503, (Code.UNAVAILABLE, 0.5)),
        (504, (Code.UNAVAILABLE, 0.5)),
    ],
)
def test_an_http_status_becomes_grpcs_code_for_it(
    shared: Access,
    start_endpoint: StartEndpoint,
    connect: Connect,
    status: int,
    meaning: tuple[grpc.StatusCode, float],
) -> None:
    code, weight = meaning
    endpoint = start_endpoint()
    shared.configure(cluster([endpoint.address]))
    endpoint.tell(f"http {status}")
    got = ask(connect(shared.address))
    assert (got.code, got.attempts) == (code, 1)
    assert str(status) in got.message
    assert shared.weight(endpoint.address) == weight


def test_an_http_502_is_asked_for_again_elsewhere(fleet: Callable[..., Fleet]) -> None:
    it = fleet(2)
    it.endpoints[0].tell("http 502")
    got = it.ask_until_it_meets(it.endpoints[0])
    assert (got.code, got.attempts) == (Code.OK, 2)


@pytest.mark.parametrize("has_body", [True, False])
def test_an_http_answer_that_is_no_grpc_is_unknown_and_the_endpoints_fault(
    shared: Access, start_scripted: StartScripted, connect: Connect, has_body: bool
) -> None:
    def page(stream: Stream) -> None:
        stream.read_all()
        stream.send_headers([(":status", "200"), ("content-type", "text/html")], end=not has_body)
        if has_body:
            stream.send(b"<html>", end=True)

    endpoint = start_scripted(page)
    shared.configure(cluster([endpoint.address]))
    got = ask(connect(shared.address))
    assert (got.code, got.attempts) == (Code.UNKNOWN, 1)
    assert "text/html" in got.message
    assert shared.weight(endpoint.address) == 0.5


@provokes("bad_upstream_response")
@pytest.mark.parametrize("has_body", [True, False])
def test_an_answer_without_a_status_is_an_internal_error_and_the_endpoints_fault(
    start_access: StartAccess, start_scripted: StartScripted, connect: Connect, has_body: bool
) -> None:
    def no_status(stream: Stream) -> None:
        stream.read_all()
        stream.send_headers([(":status", "200"), ("content-type", "application/grpc")], end=not has_body)
        if has_body:
            stream.send(message(b"x"), end=True)

    endpoint = start_scripted(no_status)
    access = start_access(cluster([endpoint.address]))
    got = ask(connect(access.address))
    assert (got.code, got.error, got.attempts) == (Code.INTERNAL, "bad_upstream_response", 1)
    assert access.weight(endpoint.address) == 0.5


def test_an_answer_that_is_no_grpc_message_is_the_endpoints_fault(
    start_access: StartAccess, start_scripted: StartScripted, connect: Connect
) -> None:
    def nonsense(stream: Stream) -> None:
        stream.read_all()
        stream.send_headers([(":status", "200"), ("content-type", "application/grpc")])
        stream.send(b"<html>")
        stream.send_headers([("grpc-status", "0")], end=True)

    endpoint = start_scripted(nonsense)
    access = start_access(cluster([endpoint.address]))
    got = ask(connect(access.address))
    # What was passed on before makes grpc-python give up by itself; the service's own view is the status.
    assert got.code is not Code.OK
    wait_until(lambda: access.counter("dl_errors_total", kind="bad_upstream_response") == 1, "the kind is counted")
    assert access.weight(endpoint.address) == 0.5


@pytest.mark.parametrize("status", ["-1", "99", "x", ""])
def test_a_status_that_is_no_code_never_becomes_ok(
    shared: Access, start_scripted: StartScripted, connect: Connect, status: str
) -> None:
    def malformed(stream: Stream) -> None:
        stream.read_all()
        head = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)]
        stream.send_headers(head, end=True)

    shared.configure(cluster([start_scripted(malformed).address]))
    got = ask(connect(shared.address))
    assert got.code in (Code.UNKNOWN, Code.INTERNAL)


def test_an_endpoint_that_speaks_no_http2_is_not_live(
    fleet: Callable[..., Fleet],
) -> None:
    it = fleet(2)
    it.endpoints[0].tell("garbage")
    wait_until(lambda: not it.access.endpoint(it.endpoints[0].address)["live"], "the garbage is noticed")
    assert [ask(it.channel).code for _ in range(4)] == [Code.OK] * 4


# --- the caller goes


@provokes("cancelled")
def test_a_cancelled_call_is_cancelled_upstream_and_blames_nobody(
    start_access: StartAccess, start_scripted: StartScripted, connect: Connect
) -> None:
    endpoint = start_scripted(wait_for_the_end)
    access = start_access(cluster([endpoint.address]))
    call = connect(access.address).unary_unary(TFS).future(FOR_M, timeout=20)
    wait_until(lambda: endpoint.calls, "the call is upstream")
    call.cancel()
    assert endpoint.last_call().wait_gone().code == 8  # CANCEL
    wait_until(lambda: access.counter("dl_requests_total", code="CANCELLED") == 1, "the call is counted")
    assert access.weight(endpoint.address) == 1.0


def test_a_caller_that_gives_up_at_its_deadline_blames_the_endpoint(fleet: Callable[..., Fleet]) -> None:
    it = fleet(1)
    it.endpoints[0].tell("hang")
    for _ in range(4):
        assert ask(it.channel, timeout_s=0.2).code is Code.DEADLINE_EXCEEDED
    wait_until(lambda: it.access.status()["in_flight"] == 0, "the calls are over")
    assert it.weights() == [1 / 16]


# --- a model server's own, as the access service passes them on


@pytest.fixture(scope="module")
def model_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A model server for the model `m`, whose hook fails; its address."""
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("models") / "m"
    folder.mkdir()
    (folder / "model.py").write_text(
        "import torch\nclass Model(torch.nn.Linear):\n    def __init__(self): super().__init__(2, 1)\n"
    )
    torch.save({"weight": torch.zeros(1, 2), "bias": torch.zeros(1)}, folder / "model.pt")
    (folder / "processor.py").write_text("def preprocess(x, **_): raise KeyError('secret')\n")
    command = [sys.executable, "-m", "dl_inference.cli", "predict", folder, "--listen", "127.0.0.1:0"]
    process = Process(command, env={"DL_INFERENCE_TORCH_THREADS": "1"})
    try:
        yield process.wait_line(r"serving m version 1 on (\S+)", timeout_s=60)[1]
    finally:
        process.kill()


@pytest.fixture(scope="module")
def in_front(shared: Access, model_server: str) -> Access:
    """The access service in front of the model server, for the rest of the tests here."""
    shared.configure(cluster([model_server]))
    return shared


@provokes("hook", "model_not_found")
@pytest.mark.parametrize(
    ("path", "asked", "expected"),
    [
        (SELDON, SeldonMessage(strData="x"), (Code.INTERNAL, "hook")),
        (OIP, ModelInferRequest(model_name="m", model_version="7"), (Code.NOT_FOUND, "model_not_found")),
    ],
    ids=["hook", "model_not_found"],
)
def test_what_a_model_server_says_passes_and_blames_nobody(
    in_front: Access, connect: Connect, path: str, asked: Any, expected: tuple[grpc.StatusCode, str]
) -> None:
    got = ask(connect(in_front.address), path, asked.SerializeToString(), metadata=TO_M)
    assert (got.code, got.error, got.attempts) == (*expected, 1)
    assert "secret" not in got.message
    (fleet,) = in_front.status()["clusters"]
    assert [each["effective_weight"] for each in fleet["endpoints"]] == [1.0]


@provokes("missing_encoding", "unsupported_encoding")
@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ([], (Code.INTERNAL, "missing_encoding")),
        ([("grpc-encoding", "snappy")], (Code.UNIMPLEMENTED, "unsupported_encoding")),
    ],
    ids=["missing_encoding", "unsupported_encoding"],
)
@pytest.mark.parametrize("server", ["access", "model_server"])
def test_a_message_compressed_in_no_known_way_is_refused_alike_by_every_server(
    request: pytest.FixtureRequest,
    server: str,
    encoding: list[tuple[str, str]],
    expected: tuple[grpc.StatusCode, str],
) -> None:
    if server == "access":
        # Its own services read messages whole; what is forwarded is read as far as the model's name.
        address, path = request.getfixturevalue("shared").address, "/grpc.health.v1.Health/Check"
    else:
        address, path = request.getfixturevalue("model_server"), SELDON
    with dial(address) as caller:
        call = caller.open(request_head(path, *encoding))
        call.send(message(b"", compressed=True), end=True)
        status = call.status()
    assert (status["grpc-status"], status["access-error"]) == (str(expected[0].value[0]), expected[1])


# --- the table itself


def test_every_kind_of_error_has_a_test_here() -> None:
    assert {kind.name for kind in ERROR_KINDS} - UNPROVOKED.keys() == PROVOKED
    assert UNPROVOKED.keys() <= {kind.name for kind in ERROR_KINDS}
