"""What endpoints say of their load in their trailers, as the access service takes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import pytest
from e2e.calls import FOR_M
from e2e.conftest import StartAccess
from fixtures.access_process import TFS, cluster
from fixtures.http2_peer import decoded, dial, message, request_head, unary

from dl_inference.messages import OrcaLoadReport

LOAD = "endpoint-load-metrics-bin"


class Reporting:
    """An endpoint that echoes and reports what it is told to."""

    def __init__(self) -> None:
        self.report = b""
        self.code = grpc.StatusCode.OK
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        service, method = TFS.strip("/").split("/")
        handlers = {method: grpc.unary_unary_rpc_method_handler(self._answer)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait(10)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata(((LOAD, self.report),))
        context.set_code(self.code)
        return request


@pytest.fixture
def endpoint() -> Iterator[Reporting]:
    reporting = Reporting()
    yield reporting
    reporting.stop()


def test_a_load_report_is_shown_and_passed_on(start_access: StartAccess, endpoint: Reporting) -> None:
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    assert access.endpoint(endpoint.address)["utilization"] is None
    endpoint.report = OrcaLoadReport(application_utilization=0.75, rps_fractional=10).SerializeToString()
    # grpcio's own client keeps the trailer from the application.
    with dial(access.address) as caller:
        trailers = unary(caller, request_head(TFS), message(FOR_M)).status()
    assert decoded(trailers[LOAD]) == endpoint.report
    assert access.endpoint(endpoint.address)["utilization"] == 0.75
    assert access.counter("dl_endpoint_utilization", endpoint=endpoint.address) == 0.75
    assert access.counter("dl_load_reports_total", result="read") == 1


def test_a_report_comes_with_an_error_too(
    start_access: StartAccess, connect: Callable[[str], grpc.Channel], endpoint: Reporting
) -> None:
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    endpoint.report = OrcaLoadReport(cpu_utilization=1.5).SerializeToString()
    endpoint.code = grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as raised:
        connect(access.address).unary_unary(TFS)(FOR_M, timeout=10)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert access.endpoint(endpoint.address)["utilization"] == 1.5


@pytest.mark.parametrize("garbage", [b"\xff" * 20, b"\n" * 5000], ids=["garbage", "too large"])
def test_garbage_is_counted_and_the_call_is_answered(
    start_access: StartAccess, connect: Callable[[str], grpc.Channel], endpoint: Reporting, garbage: bytes
) -> None:
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    endpoint.report = garbage
    assert connect(access.address).unary_unary(TFS)(FOR_M, timeout=10) == FOR_M
    assert access.counter("dl_load_reports_total", result="unreadable") == 1
    assert access.endpoint(endpoint.address)["utilization"] is None


def test_where_a_calls_time_went_is_told_of_each_attempt(
    start_access: StartAccess, connect: Callable[[str], grpc.Channel], endpoint: Reporting
) -> None:
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    cost = {"queue_ms": 1.5, "compute_ms": 20}
    stages = {"preprocess_ms": 2.25, "model_ms": 17, "postprocess_ms": 0.75}
    legs = []
    for said in (cost, {**cost, **stages}):
        endpoint.report = OrcaLoadReport(request_cost=said).SerializeToString()
        call = f"call-{len(said)}"
        connect(access.address).unary_unary(TFS)(FOR_M, metadata=[("x-request-id", call)], timeout=10)
        legs += json.loads(access.get(f"/calls/{call}"))["legs"]
    names = [*cost, *stages]
    assert [{name: leg[name] for name in names} for leg in legs] == [
        {**cost, **dict.fromkeys(stages)},
        {**cost, **stages},
    ]
