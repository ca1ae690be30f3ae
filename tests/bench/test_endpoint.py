"""The stand-in endpoint does what it is told, as a grpc client sees it; the load generator tells the truth."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from fixtures.access_process import OIP_STREAM
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


def test_it_answers_a_stream_message_by_message(endpoint: Endpoint) -> None:
    answered = threading.Semaphore()

    def messages() -> Iterator[bytes]:
        for number in range(3):
            assert answered.acquire(timeout=5), "the message before is answered"
            yield b"%d" % number

    with grpc.insecure_channel(endpoint.address) as channel:
        came = []
        for message in channel.stream_stream(OIP_STREAM)(messages(), timeout=10):
            came.append(message)
            answered.release()
    assert came == [b"0", b"1", b"2"]


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
        ("half-close", grpc.StatusCode.UNAVAILABLE),
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


def test_a_call_may_hang_after_its_headers(endpoint: Endpoint) -> None:
    endpoint.tell("hang-headers")
    with grpc.insecure_channel(endpoint.address) as channel:
        call = channel.unary_unary(PATH).future(b"", timeout=1)
        assert "endpoint-name" in dict(call.initial_metadata())
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_call_that_its_caller_gave_up_leaves_the_queue(start_endpoint: StartEndpoint) -> None:
    endpoint = start_endpoint("--service", "constant:600000", "--slots", "1", "--queue", "1")
    with grpc.insecure_channel(endpoint.address) as channel:
        method = channel.unary_unary(PATH)
        calls = []
        for number in (1, 2):
            calls.append(method.future(b"", timeout=60))
            while endpoint.counts()[0] < number:
                pass  # each look is an answer from the endpoint; no time is waited
        assert code_of(lambda: method(b"", timeout=60)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        calls[1].cancel()
        # The cancel may still be on its way; a call that is let in waits until its own deadline.
        while (code := code_of(lambda: method(b"", timeout=0.2))) is grpc.StatusCode.RESOURCE_EXHAUSTED:
            pass
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        calls[0].cancel()


def test_pace_and_cost_change_how_long_a_call_takes(start_endpoint: StartEndpoint) -> None:
    endpoint = start_endpoint("--service", "constant:600000", "--slots", "1")
    with grpc.insecure_channel(endpoint.address) as channel:
        method = channel.unary_unary(PATH)
        method(b"", timeout=20, metadata=[("bench-cost", "0")])
        endpoint.tell("pace 0 1")
        method(b"", timeout=20)


def test_a_fault_may_be_for_one_class_of_calls(endpoint: Endpoint) -> None:
    endpoint.tell("only heavy 1")
    endpoint.tell("status 14")
    with grpc.insecure_channel(endpoint.address, options=[("grpc.enable_retries", 0)]) as channel:
        method = channel.unary_unary(PATH)
        heavy = [("bench-class", "heavy")]
        assert code_of(lambda: method(b"", timeout=5, metadata=heavy)) is grpc.StatusCode.UNAVAILABLE
        assert method(b"hello", timeout=5) == b"hello"
        endpoint.tell("only * 1")
        assert code_of(lambda: method(b"", timeout=5)) is grpc.StatusCode.UNAVAILABLE


def test_a_restart_ends_open_calls_and_refuses_new_ones(
    start_endpoint: StartEndpoint, wait_ready: Callable[..., None]
) -> None:
    endpoint = start_endpoint("--service", "constant:300", "--slots", "1")
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(endpoint.address, options=options) as channel:
        method = channel.unary_unary(PATH)
        open_call = method.future(b"", timeout=20)
        while endpoint.counts()[0] < 1:
            pass  # each look is an answer from the endpoint; no time is waited
        endpoint.tell("restart")
        assert open_call.code() is grpc.StatusCode.OK
        assert code_of(lambda: method(b"", timeout=20)) is grpc.StatusCode.UNAVAILABLE
    endpoint.tell("ok")
    wait_ready(endpoint.address)


def test_a_goaway_ends_the_connection_and_no_call(endpoint: Endpoint, call: Callable[[], bytes]) -> None:
    deadline = time.monotonic() + 20

    def ask() -> bytes:
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                # One that gRPC's client sent just when the connection ended: it has not come to the endpoint. A
                # client on a busy machine does so several times in a row.
                if "GOAWAY received; Error code: 0" not in str(error) or time.monotonic() > deadline:
                    raise

    endpoint.tell("goaway-every 2")
    assert [ask() for _ in range(6)] == [b"hello"] * 6
    assert endpoint.counts()[1] >= 3


def test_load_reports_every_call_at_its_rate(endpoint: Endpoint, start_load: StartLoad) -> None:
    options = ("--rate", "500", "--seconds", "1", "--echo", "yes", "--share-by", "endpoint-name")
    report = start_load(endpoint.address, PATH, b"x" * 1000, *options).report()
    assert report["calls"] == 500
    assert report["codes"] == {"OK": 500}
    assert report["corrupt"] == 0
    assert sum(report["endpoints"].values()) == 500
    assert len(report["timeline"]) == 10


def test_load_follows_a_file_and_writes_a_line_for_each_call(
    endpoint: Endpoint, start_load: StartLoad, tmp_path: Path
) -> None:
    arrivals, records = tmp_path / "arrivals", tmp_path / "records"
    arrivals.write_text("0 0\n1000 1\n300000 0\n")
    endpoint.tell("only b 1")
    endpoint.tell("status 9")
    options = ("--arrivals", str(arrivals), "--records", str(records), "--share-by", "endpoint-name")
    start_load(endpoint.address, PATH, b"x", *options, "--class", "a", "--class", "b,deadline-ms=5000").report()
    with records.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["due_us"], row["code"], row["class"]) for row in rows] == [
        ("0", "0", "a"),
        ("1000", "9", "b"),
        ("300000", "0", "a"),
    ]
    assert all(row["endpoint"] for row in rows)
    assert all(int(row["done_us"]) > int(row["sent_us"]) >= int(row["due_us"]) for row in rows)


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
