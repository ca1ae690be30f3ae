"""What the access service asks of endpoints, and what it does with the answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from e2e.calls import FOR_M
from e2e.conftest import StartAccess
from fixtures.access_process import OIP, SELDON, TFS, Access, cluster, wait_until

from dl_inference import messages
from dl_inference.messages import HealthCheckResponse as Health

Connect = Callable[[str], grpc.Channel]
FAST = {"health_check": {"interval_ms": 50}}
CHECK = "/grpc.health.v1.Health/Check"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
READY = "/inference.GRPCInferenceService/ModelReady"
MISSING = (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(m)")


class Endpoint:
    """Answers each method with what it is told to: a message, or a code and its text."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | tuple[grpc.StatusCode, str]] = {TFS: b"", OIP: b"", SELDON: b""}
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def count(self, method: str) -> int:
        """Return how often a method was called."""
        with self._lock:
            return self._counts.get(method, 0)

    def health(self, status: int) -> None:
        self.answers[CHECK] = Health(status=status).SerializeToString()

    def stop(self) -> None:
        self._server.stop(None).wait(10)

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        """Take a call, as grpc.GenericRpcHandler does."""

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            with self._lock:
                self._counts[details.method] = self._counts.get(details.method, 0) + 1
            told = self.answers.get(details.method, (grpc.StatusCode.UNIMPLEMENTED, "no such method"))
            return told if isinstance(told, bytes) else context.abort(*told)

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def two() -> Iterator[tuple[Endpoint, Endpoint]]:
    endpoints = Endpoint(), Endpoint()
    yield endpoints
    for endpoint in endpoints:
        endpoint.stop()


def wait_health(access: Access, endpoint: Endpoint, health: str) -> None:
    wait_until(lambda: access.endpoint(endpoint.address)["health"] == health, f"{endpoint.address} is {health}")


def wait_said(access: Access, level: str, endpoint: Endpoint, text: str) -> None:
    line = rf"{level} access: endpoint {endpoint.address} of cluster fleet: health {text}"
    access.process.wait_line(line, timeout_s=20)  # an endpoint has a line in 10 s


def call(channel: grpc.Channel, count: int = 8, method: str = TFS, body: bytes = FOR_M) -> None:
    for _ in range(count):
        channel.unary_unary(method)(body, timeout=10)


def test_an_endpoint_that_does_not_serve_gets_no_calls_until_it_does(
    start_access: StartAccess, connect: Connect, two: tuple[Endpoint, Endpoint]
) -> None:
    good, bad = two
    good.health(Health.SERVING)
    bad.health(Health.NOT_SERVING)
    access = start_access(cluster([good.address, bad.address], **FAST))
    wait_health(access, bad, "not_serving")
    wait_health(access, good, "serving")
    channel = connect(access.address)
    call(channel)
    assert (good.count(TFS), bad.count(TFS)) == (8, 0)
    assert access.counter("dl_endpoint_health", endpoint=bad.address, health="not_serving") == 1
    assert access.counter("dl_endpoint_health", endpoint=bad.address) == 1
    wait_said(access, "WARNING", bad, "unknown -> not_serving, by grpc.health.v1")
    bad.health(Health.SERVING)
    wait_health(access, bad, "serving")

    def is_asked() -> bool:
        call(channel)
        return bad.count(TFS) > 0

    wait_until(is_asked, "the endpoint, which starts slowly, gets a call")
    assert access.counter("dl_endpoint_health", endpoint=bad.address, health="serving") == 1
    wait_said(access, "INFO", bad, "not_serving -> serving, by grpc.health.v1")
    assert access.process.log.count(": health ") == 2  # that the other one serves is no change to tell


def test_where_no_endpoint_serves_calls_go_on(
    start_access: StartAccess, connect: Connect, two: tuple[Endpoint, Endpoint]
) -> None:
    for endpoint in two:
        endpoint.health(Health.NOT_SERVING)
    access = start_access(cluster([each.address for each in two], **FAST))
    for endpoint in two:
        wait_health(access, endpoint, "not_serving")
    call(connect(access.address))
    assert sum(each.count(TFS) for each in two) == 8


def test_an_endpoint_that_cannot_tell_is_asked_once(
    start_access: StartAccess, connect: Connect, two: tuple[Endpoint, Endpoint]
) -> None:
    plain, telling = two
    telling.health(Health.SERVING)
    access = start_access(cluster([plain.address, telling.address], **FAST))
    wait_until(lambda: telling.count(CHECK) >= 5, "the other one is asked again and again")
    assert plain.count(CHECK) == 1
    assert access.endpoint(plain.address)["health"] == "unknown"


def test_a_check_asks_for_the_service_that_is_configured_and_can_be_turned_off(
    start_access: StartAccess, two: tuple[Endpoint, Endpoint]
) -> None:
    asked, other = two
    other.health(Health.SERVING)
    config = cluster([asked.address], health_check={"interval_ms": 50, "enabled": False})
    config["clusters"]["other"] = {"endpoints": [other.address], **FAST}
    access = start_access(config)
    wait_until(lambda: other.count(CHECK) >= 3, "the other cluster's endpoint is asked")
    assert asked.count(CHECK) == 0
    access.configure(cluster([asked.address], health_check={"interval_ms": 50, "service": "m"}))
    wait_until(lambda: asked.count(CHECK) >= 1, "the endpoint is asked")
    stopped = other.count(CHECK)
    wait_until(lambda: asked.count(CHECK) >= 1, "the endpoint is asked")
    assert other.count(CHECK) <= stopped + 1


LOADING = messages.GetModelStatusResponse(model_version_status=[{"version": 1, "state": "LOADING"}])
AVAILABLE = messages.GetModelStatusResponse(model_version_status=[{"version": 1, "state": "AVAILABLE"}])
FOR_OIP = messages.ModelInferRequest(model_name="m").SerializeToString()
CASES = {
    "TF Serving": (TFS, FOR_M, STATUS, LOADING, AVAILABLE),
    "OIP": (OIP, FOR_OIP, READY, messages.ModelReadyResponse(), messages.ModelReadyResponse(ready=True)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_model_that_one_endpoint_still_loads_is_answered_by_another(
    start_access: StartAccess, connect: Connect, two: tuple[Endpoint, Endpoint], case: tuple[Any, ...]
) -> None:
    method, body, question, loading, available = case
    ready, late = two
    access = start_access(cluster([ready.address, late.address], slow_start_ms=0))
    access.wait_live(ready.address, late.address)
    channel = connect(access.address)
    call(channel, method=method, body=body)
    late.answers[method] = MISSING
    late.answers[question] = loading.SerializeToString()
    call(channel, 4, method, body)
    assert access.counter("dl_retries_total", kind="not_loaded") >= 1
    wait_health(access, late, "loading")
    # Between the call and the first answer the call is all that is known.
    wait_said(access, "WARNING", late, f"unknown -> loading, by ({question.rpartition('/')[2]}|a call)")
    assert access.counter("dl_endpoint_health", endpoint=late.address, health="loading") == 1
    wait_until(lambda: late.count(question) >= 2, "it is asked again")
    before = late.count(method)
    call(channel, 8, method, body)
    assert late.count(method) == before
    late.answers[question] = available.SerializeToString()
    late.answers[method] = b""
    wait_health(access, late, "unknown")
    call(channel, method=method, body=body)
    assert late.count(method) > before


def test_a_model_that_an_endpoint_will_not_have_leaves_it_to_its_other_models(
    start_access: StartAccess, connect: Connect, two: tuple[Endpoint, Endpoint]
) -> None:
    ready, late = two
    access = start_access(cluster([ready.address, late.address]))
    access.wait_live(ready.address, late.address)
    channel = connect(access.address)
    call(channel)
    late.answers[TFS] = late.answers[STATUS] = MISSING
    call(channel)  # each is answered: by the other one
    wait_until(lambda: late.count(STATUS) == 1, "it is asked")
    wait_health(access, late, "unknown")


def test_a_model_that_nobody_has_is_asked_for_once(
    start_access: StartAccess, connect: Connect, two: tuple[Endpoint, Endpoint]
) -> None:
    for endpoint in two:
        endpoint.answers[TFS] = MISSING
    access = start_access(cluster([each.address for each in two]))
    access.wait_live(*(each.address for each in two))
    with pytest.raises(grpc.RpcError) as raised:
        call(connect(access.address), 1)
    assert (raised.value.code(), raised.value.details()) == MISSING
    assert sum(each.count(TFS) for each in two) == 1


def test_a_model_that_all_have_lost_is_the_callers_to_know(
    start_access: StartAccess, connect: Connect, two: tuple[Endpoint, Endpoint]
) -> None:
    access = start_access(cluster([each.address for each in two]))
    access.wait_live(*(each.address for each in two))
    channel = connect(access.address)
    call(channel, 2)
    for endpoint in two:
        endpoint.answers[TFS] = MISSING
    with pytest.raises(grpc.RpcError) as raised:
        call(channel, 1)
    assert (raised.value.code(), raised.value.details()) == MISSING
    assert sum(each.count(STATUS) for each in two) == 0
