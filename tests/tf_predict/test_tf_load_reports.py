"""What the TensorFlow server says of its load in its trailers, as the PyTorch server does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from fixtures.access_process import wait_until
from fixtures.http2_peer import decoded, dial, message, request_head, unary
from stand_in_process import PREDICT, Server, number, waits_for

from dl_inference.messages import OrcaLoadReport
from tf_predict.meter import TRAILER, Meter, Times


def trailers(server: Server, request: Any) -> dict[str, str]:
    # grpcio's own client keeps the load report from the application.
    with dial(server.address) as caller:
        return unary(caller, request_head(PREDICT), message(request.SerializeToString())).status()


def report(server: Server, request: Any) -> Any:
    return OrcaLoadReport.FromString(decoded(trailers(server, request)[TRAILER]))


def test_an_answer_says_how_loaded_the_server_is_and_where_its_time_went(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start()
    first = report(server, number(1))
    assert first.rps_fractional > 0
    assert (first.eps, first.named_metrics["queue"]) == (0, 0)
    assert first.request_cost["compute_ms"] > 0 <= first.request_cost["queue_ms"]
    go = tmp_path / "go"
    call = server.start(waits_for(go))
    wait_until(go.with_suffix(".waiting").exists, "a call runs")
    wait_until(lambda: report(server, number(1)).application_utilization > 0.01, "a thread has been busy for some time")
    go.touch()
    call.result(20)


def test_an_error_comes_with_a_report_too(start: Callable[..., Server]) -> None:
    server = start()
    unknown = trailers(server, number(1, version=9))
    assert unknown["grpc-status"] == str(grpc.StatusCode.NOT_FOUND.value[0])
    assert OrcaLoadReport.FromString(decoded(unknown[TRAILER])).eps == 0
    failed = trailers(server, number(float("nan")))
    assert failed["grpc-status"] == str(grpc.StatusCode.INTERNAL.value[0])
    assert OrcaLoadReport.FromString(decoded(failed[TRAILER])).eps > 0


def test_load_reports_can_be_turned_off(start: Callable[..., Server], folder: Path) -> None:
    (folder / "model.yaml").write_text("load_reports: false\n")
    assert TRAILER not in trailers(start(), number(1))


def test_the_busy_share_is_of_all_threads_and_what_is_long_ago_is_forgotten() -> None:
    now = 0.0
    meter = Meter(4, lambda: now)

    def load(calls: int = 0) -> Any:
        return OrcaLoadReport.FromString(meter.report(calls, Times(0.002, 0.25)))

    meter.begin()
    meter.begin()
    now = 10.0
    busy = load(calls=5)
    assert abs(busy.application_utilization - 0.5) < 0.001
    assert busy.named_metrics["queue"] == 3
    assert (busy.request_cost["queue_ms"], busy.request_cost["compute_ms"]) == (2, 250)
    meter.end()
    meter.end()
    for _ in range(500):  # 50 a second
        now += 0.02
        meter.count(grpc.StatusCode.OK)
    meter.count(grpc.StatusCode.INTERNAL)
    meter.count(grpc.StatusCode.NOT_FOUND)
    after = load()
    assert after.application_utilization < 0.001
    assert 50 < after.rps_fractional < 54
    assert after.eps == 1
    now += 20
    assert load().rps_fractional < 0.001
