"""What /metrics and /status say is what happened."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from e2e.calls import FOR_M, ask, tfs_request
from fixtures.access_process import SELDON, TFS, Access, cluster, wait_until
from fixtures.http2_peer import dial, message, request_head
from fixtures.processes import Endpoint, Load
from prometheus_client.parser import text_string_to_metric_families

Code = grpc.StatusCode
StartAccess = Callable[..., Access]
StartEndpoint = Callable[..., Endpoint]
Connect = Callable[..., grpc.Channel]
NAME = TFS.removeprefix("/")


def test_prometheus_own_parser_takes_the_page_and_every_family_has_a_type_and_help(
    start_access: StartAccess, start_endpoint: StartEndpoint, connect: Connect
) -> None:
    endpoint = start_endpoint()
    access = start_access(cluster([endpoint.address]))
    assert ask(connect(access.address)).code is Code.OK
    families = list(text_string_to_metric_families(access.get("/metrics")))
    assert {"dl_requests", "dl_request_seconds", "dl_effective_weight"} <= {each.name for each in families}
    for family in families:
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert family.documentation, family.name
    samples = [(each.name, tuple(sorted(each.labels.items()))) for family in families for each in family.samples]
    assert len(samples) == len(set(samples))


def test_counters_match_what_was_sent(
    start_access: StartAccess, start_endpoint: StartEndpoint, connect: Connect
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    channel = connect(access.address)
    for _ in range(7):
        assert ask(channel).code is Code.OK
    for _ in range(3):
        assert ask(channel, SELDON, b"", metadata=[("x-model", "m")]).code is Code.OK
    for _ in range(2):
        assert ask(channel, TFS, tfs_request("other")).code is Code.NOT_FOUND
    endpoint.tell("status 9")
    for _ in range(4):
        assert ask(channel).code is Code.FAILED_PRECONDITION
    assert ask(channel, "/no.such.Service/Method").code is Code.UNIMPLEMENTED

    count = access.counter
    assert count("dl_requests_total", method=NAME, model="m", code="OK") == 7
    assert count("dl_requests_total", method=SELDON.removeprefix("/"), model="m", code="OK") == 3
    assert count("dl_requests_total", method=NAME, model="m", code="FAILED_PRECONDITION") == 4
    assert count("dl_requests_total", method=NAME, model="", code="NOT_FOUND") == 2
    assert count("dl_request_seconds_count", method=NAME, model="m") == 11
    assert count("dl_attempts_total", endpoint=endpoint.address, code="OK") == 10
    assert count("dl_attempts_total", endpoint=endpoint.address) == endpoint.counts()[0] == 14
    assert count("dl_errors_total", kind="no_route") == 2
    assert count("dl_errors_total", kind="unknown_method") == 1
    assert count("dl_in_flight") == 0
    assert count("dl_connections") == 1

    page = access.status()
    model = next(each for each in page["models"] if each["name"] == "m")
    assert (model["requests"], model["errors"]) == (14, 4)
    assert page["errors"] == {"no_route": 2, "unknown_method": 1}
    seen = access.endpoint(endpoint.address)
    assert (seen["requests"], seen["errors"], seen["in_flight"], seen["live"]) == (14, 4, 0, True)


def test_the_effective_weight_is_seen_to_fall_and_to_come_back(
    start_access: StartAccess, start_endpoint: StartEndpoint, connect: Connect
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    access = start_access(cluster([{"address": endpoint.address, "weight": 2}]))
    access.wait_live(endpoint.address)
    channel = connect(access.address)

    def weight() -> float:
        shown = access.counter("dl_effective_weight", endpoint=endpoint.address)
        assert shown == access.weight(endpoint.address)
        return shown

    assert weight() == 2
    endpoint.tell("status 13")
    for wanted in (1, 0.5, 0.25):
        ask(channel)
        assert weight() == wanted
    endpoint.tell("ok")
    for wanted in (1.125, 1.5625, 1.78125):
        ask(channel)
        assert weight() == pytest.approx(wanted, abs=1 / 256)


def test_calls_in_flight_and_a_lost_endpoint_are_seen(
    start_access: StartAccess, start_endpoint: StartEndpoint, connect: Connect
) -> None:
    endpoint = start_endpoint()
    access = start_access(cluster([endpoint.address]))
    endpoint.tell("hang")
    call = connect(access.address).unary_unary(TFS).future(FOR_M, timeout=20)
    wait_until(lambda: endpoint.counts()[0] == 1, "the call is in flight")
    assert access.counter("dl_in_flight", endpoint=endpoint.address) == 1
    assert access.endpoint(endpoint.address)["in_flight"] == 1
    call.cancel()
    endpoint.kill()
    wait_until(lambda: access.counter("dl_endpoint_live", endpoint=endpoint.address) == 0, "the loss is seen")
    assert access.counter("dl_in_flight") == 0


def bucket_quantile(access: Access, quantile: float) -> float:
    """Do what PromQL's histogram_quantile does, over all that was counted, s."""
    pattern = re.compile(r'^dl_request_seconds_bucket\{.*?model="m".*?le="([^"]+)"\} (\S+)$', re.MULTILINE)
    buckets = [(float(bound), float(value)) for bound, value in pattern.findall(access.get("/metrics"))]
    wanted = quantile * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, value in buckets:
        if value >= wanted:
            return lower + (bound - lower) * (wanted - below) / (value - below)
        lower, below = bound, value
    raise AssertionError("no bucket holds the quantile")


@pytest.mark.parametrize("slow_ms", [100, 300])
def test_p50_and_p99_from_the_histogram_are_right_within_ten_percent(
    start_access: StartAccess, start_endpoint: StartEndpoint, start_load: Callable[..., Load], slow_ms: int
) -> None:
    fast, slow = start_endpoint(), start_endpoint()
    fast.tell(f"slow {slow_ms // 2}")
    slow.tell(f"slow {slow_ms}")
    # One call in four is slow, so that the median and p99 lie far apart.
    # Between two of the default's buckets a quantile is a guess; these are as close as what is recorded.
    buckets = {"metrics": {"latency_buckets_ms": [round(40 * 1.1**step) for step in range(24)]}}
    access = start_access(cluster([{"address": fast.address, "weight": 3}, slow.address]) | buckets)
    access.wait_live(fast.address, slow.address)
    # So many that the first call of each connection, which waits for it, is not among the slowest 1 %.
    load = start_load(access.address, TFS, FOR_M, "--rate", "300", "--seconds", "3", "--deadline-ms", "5000")
    measured = load.report()["latency_ms"]
    for quantile, name, known in ((0.5, "p50", slow_ms / 2), (0.99, "p99", slow_ms)):
        shown = bucket_quantile(access, quantile) * 1000
        # A caller that a busy machine holds up sends late and measures its own wait as well: the service's time lies
        # between the endpoint's, which is known, and the caller's; both are near each other where nothing is held up.
        assert known * 0.9 - 3 <= shown <= measured[name] * 1.1 + 3, name
    shown = next(each for each in access.status()["models"] if each["name"] == "m")
    assert slow_ms / 2 * 0.9 - 3 <= shown["p50_ms"] <= measured["p50"] * 1.1 + 3


def test_labels_come_from_the_configuration_whatever_callers_send(
    start_access: StartAccess, start_endpoint: StartEndpoint, connect: Connect
) -> None:
    endpoint = start_endpoint()
    access = start_access(cluster([endpoint.address]))
    channel = connect(access.address)
    ask(channel)
    ask(channel, "/first.unknown/Method")
    ask(channel, TFS, tfs_request("unknown"))
    series = access.get("/metrics").count("\n")
    for number in range(50):
        ask(channel, f"/some.Service{number}/Method{number}")
        ask(channel, TFS, tfs_request(f"model-{number}"))
        ask(channel, metadata=[("x-model", f'quoted"{number}')])
        ask(channel, metadata=[("x-request-id", f"id-{number}")])
    page = access.get("/metrics")
    assert page.count("\n") == series
    assert "model-7" not in page
    assert "Service7" not in page


def test_the_reason_of_every_end_of_a_connection_is_counted_once(
    start_access: StartAccess, start_endpoint: StartEndpoint
) -> None:
    limits = {"connection_idle_timeout_ms": 300, "header_timeout_ms": 300}
    access = start_access({**cluster([start_endpoint().address]), "limits": limits})

    def closed(reason: str) -> float:
        return access.counter("dl_connections_closed_total", reason=reason)

    def call(caller: object) -> None:
        stream = caller.open(request_head(TFS))  # type: ignore[attr-defined]
        stream.send(message(FOR_M), end=True)
        assert stream.status()["grpc-status"] == "0"

    with dial(access.address) as caller:
        call(caller)
    wait_until(lambda: closed("downstream") == 1, "the caller's own end is counted")
    with dial(access.address) as caller:
        call(caller)
        wait_until(lambda: closed("idle") == 1, "the idle connection is counted")
    with dial(access.address):
        wait_until(lambda: closed("header_timeout") == 1, "the silent connection is counted")
    with dial(access.address) as caller:
        call(caller)
        access.terminate()
        wait_until(lambda: caller.goaway is not None, "the drain is told")
    assert access.process.wait() == 0


def test_ready_and_live_answer_and_ready_is_true_only_while_calls_are_welcome(
    start_access: StartAccess, free_port: Callable[[], int]
) -> None:
    access = start_access(cluster([f"127.0.0.1:{free_port()}"]))
    for path in ("/ready", "/live"):
        with urllib.request.urlopen(f"http://{access.admin}{path}", timeout=10) as answer:
            assert answer.status == 200
    assert access.status()["ready"] is True


def test_a_source_that_cannot_be_read_shows_in_metrics_and_ready_and_changes_nothing(
    start_access: StartAccess, start_endpoint: StartEndpoint, connect: Connect, tmp_path: Path
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    nodes = tmp_path / "nodefile.txt"
    nodes.write_text(f"m=1000,{endpoint.address}\n")
    access = start_access({"discovery": [{"kind": "nodefile", "path": str(nodes)}]})
    (source,) = access.status()["control"]["sources"]
    name = source["name"]
    assert access.counter("dl_source_ok", source=name) == 1
    assert access.counter("dl_source_skipped", source=name) == 0
    good_at = access.counter("dl_source_last_good_timestamp_seconds", source=name)
    assert good_at == pytest.approx(source["last_good_unix_s"])
    assert access.get("/ready") == "ready\n"

    nodes.write_text("m=no number,\n")
    wait_until(lambda: access.counter("dl_source_ok", source=name) == 0, "the source cannot be read")
    said = re.fullmatch(
        r"ready\nsource (.+) cannot be read: its last good state is (\d+) s old\n", access.get("/ready")
    )
    assert said
    assert (said[1], int(said[2])) == (name, pytest.approx(time.time() - good_at, abs=2))
    assert access.counter("dl_source_last_good_timestamp_seconds", source=name) == good_at
    assert ask(connect(access.address)).code is Code.OK

    nodes.write_text(f"m=1000,{endpoint.address}\nn=1000,{endpoint.address}\n")
    wait_until(lambda: access.get("/ready") == "ready\n", "the source is good again")
    assert access.counter("dl_source_last_good_timestamp_seconds", source=name) > good_at
