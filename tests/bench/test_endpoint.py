"""The stand-in endpoint does what it is told, as a grpc client sees it; the load generator tells the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
import pytest
from fixtures.processes import Endpoint, Load

PATH = "/tensorflow.serving.PredictionService/Predict"
StartEndpoint = Callable[..., Endpoint]
StartLoad = Callable[..., Load]


@pytest.fixture
def endpoint(start_endpoint: StartEndpoint) -> Endpoint:
    return start_endpoint("--echo", "yes")


@pytest.fixture
def call(endpoint: Endpoint) -> Iterator[Callable[[], bytes]]:
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(endpoint.address, options=options) as channel:
        method = channel.unary_unary(PATH)
        yield lambda: method(b"hello", timeout=5)


def code_of(call: Callable[[], bytes]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()
    return code


def test_it_answers_what_it_was_asked(call: Callable[[], bytes], endpoint: Endpoint) -> None:
    assert call() == b"hello"
    assert endpoint.counts() == (1, 1)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("status 9", grpc.StatusCode.FAILED_PRECONDITION),
        ("rst", grpc.StatusCode.INTERNAL),
        ("half", grpc.StatusCode.INTERNAL),
        ("refuse", grpc.StatusCode.UNAVAILABLE),
        ("http 502", grpc.StatusCode.UNAVAILABLE),
        ("nostatus", grpc.StatusCode.UNKNOWN),
        ("close", grpc.StatusCode.UNAVAILABLE),
        ("garbage", grpc.StatusCode.UNAVAILABLE),
        ("unlisten", grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_each_fault_is_what_a_client_sees_and_ends_with_ok(
    call: Callable[[], bytes], endpoint: Endpoint, wait_ready: Callable[..., None], command: str, code: grpc.StatusCode
) -> None:
    call()
    endpoint.tell(command)
    assert code_of(call) is code
    endpoint.tell("ok")
    wait_ready(endpoint.address)


def test_a_hanging_endpoint_lets_the_deadline_pass(endpoint: Endpoint) -> None:
    endpoint.tell("hang")
    with grpc.insecure_channel(endpoint.address) as channel:
        assert code_of(lambda: channel.unary_unary(PATH)(b"", timeout=0.2)) is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_goaway_ends_the_connection_and_no_call(endpoint: Endpoint, call: Callable[[], bytes]) -> None:
    endpoint.tell("goaway-every 2")
    assert [call() for _ in range(6)] == [b"hello"] * 6
    assert endpoint.counts()[1] >= 3


def test_load_reports_every_call_at_its_rate(endpoint: Endpoint, start_load: StartLoad) -> None:
    options = ("--rate", "500", "--seconds", "1", "--echo", "yes", "--share-by", "endpoint-name")
    report = start_load(endpoint.address, PATH, b"x" * 1000, *options).report()
    assert report["calls"] == 500
    assert report["codes"] == {"OK": 500}
    assert report["corrupt"] == 0
    assert sum(report["endpoints"].values()) == 500
    assert len(report["timeline"]) == 10


def test_load_counts_a_stall_from_when_each_call_was_due(endpoint: Endpoint, start_load: StartLoad) -> None:
    load = start_load(endpoint.address, PATH, b"x", "--rate", "200", "--seconds", "30", "--deadline-ms", "300")
    endpoint.tell("hang")
    first = endpoint.counts()[0]
    while endpoint.counts()[0] < first + 20:
        pass  # each look is an answer from the endpoint; no time is waited
    endpoint.tell("ok")
    report = load.stop()
    assert report["codes"]["DEADLINE_EXCEEDED"] >= 20
    assert report["latency_ms"]["max"] >= 300
    assert report["calls"] == report["ok"] + report["failed"]


def test_load_goes_on_over_a_goaway_without_a_failure(endpoint: Endpoint, start_load: StartLoad) -> None:
    load = start_load(endpoint.address, PATH, b"x", "--rate", "500", "--seconds", "30")
    for round_number in range(1, 11):
        endpoint.tell("goaway")
        while endpoint.counts()[1] < 4 * round_number:
            pass  # each look is an answer from the endpoint; no time is waited
    report = load.stop()
    assert report["failed"] == 0, report["failures"]


def test_a_killed_endpoint_comes_back_on_its_address(
    endpoint: Endpoint, start_load: StartLoad, wait_ready: Callable[..., None]
) -> None:
    load = start_load(endpoint.address, PATH, b"x", "--rate", "200", "--seconds", "30")
    address = endpoint.address
    endpoint.kill()
    endpoint.restart()
    wait_ready(address)
    report = load.stop()
    assert endpoint.address == address
    assert set(report["codes"]) <= {"OK", "UNAVAILABLE"}
