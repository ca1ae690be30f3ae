"""Traces of calls through a real access service and PyTorch server, at a collector with OpenTelemetry's messages."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import torch
from e2e.calls import ask
from fixtures.access_process import SELDON, Access, cluster, wait_until
from fixtures.processes import Endpoint, Process
from fixtures.tracing import CALLER, WAIT_S, Collector, trace_of, traceparent

from dl_inference.messages import SeldonMessage

pytestmark = pytest.mark.timeout(200)

# The times of different processes are told by the same clock, read at different moments.
SLACK_NS = 2_000_000

PROCESSOR = """
import time
def preprocess(x, **kwargs):
    time.sleep(0.002)
    return x
def postprocess(x, **kwargs):
    time.sleep(0.012)
    return x.numpy()
"""


@pytest.fixture(scope="module")
def model(start_model: Callable[..., str], collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Start a model server that is traced; return its address."""
    folder = tmp_path_factory.mktemp("tracing") / "m"
    folder.mkdir()
    (folder / "model.py").write_text("import torch\nModel = lambda: torch.nn.Linear(2, 1)\n")
    torch.save({"weight": torch.zeros(1, 2), "bias": torch.zeros(1)}, folder / "model.pt")
    (folder / "processor.py").write_text(PROCESSOR)
    return start_model(folder, DL_INFERENCE_TRACING__ENDPOINT=collector.endpoint, DL_INFERENCE_TRACING__SAMPLE="0")


@pytest.fixture(scope="module")
def traced(
    run_shared: Callable[..., Process], collector: Collector, model: str, tmp_path_factory: pytest.TempPathFactory
) -> Access:
    """Start an access service that is traced, in front of the model server."""
    config = {**cluster([model]), "tracing": {"endpoint": collector.endpoint, "sample": 0}}
    access = Access(run_shared, tmp_path_factory.mktemp("traced"), config)
    access.wait_live(model)
    return access


def seldon(address: str, header: str) -> None:
    message = SeldonMessage()
    message.data.tensor.shape.extend([1, 2])
    message.data.tensor.values.extend([1, 2])
    with grpc.insecure_channel(address) as channel:
        metadata = [("x-model", "m"), ("traceparent", header)]
        answer = ask(channel, SELDON, message.SerializeToString(), metadata=metadata)
    assert answer.code is grpc.StatusCode.OK, answer


def test_a_call_has_spans_with_its_parents_and_times_in_both_processes(collector: Collector, traced: Access) -> None:
    header = traceparent(1)
    begun = time.time_ns()
    seldon(traced.address, header)
    ended = time.time_ns()
    method = SELDON.removeprefix("/")
    front, back = "dl-inference-access", "dl-inference-model"
    spans = collector.wait_spans(trace_of(header), f"{front} {method}", f"{back} {method}")
    parents = {
        f"{front} {method}": CALLER,
        f"{front} route": spans[f"{front} {method}"]["id"],
        f"{front} queue": spans[f"{front} {method}"]["id"],
        f"{front} attempt": spans[f"{front} {method}"]["id"],
        f"{front} upstream": spans[f"{front} attempt"]["id"],
        f"{back} {method}": spans[f"{front} attempt"]["id"],
        **{
            f"{back} {name}": spans[f"{back} {method}"]["id"]
            for name in ("queue", "preprocess", "model", "postprocess")
        },
    }
    assert {key: span["parent"] for key, span in spans.items()} == parents
    by_id = {span["id"]: span for span in spans.values()}
    assert len(by_id) == len(spans)
    for span in spans.values():
        parent = by_id.get(span["parent"], {"start_ns": begun, "end_ns": ended})
        assert parent["start_ns"] - SLACK_NS <= span["start_ns"] <= span["end_ns"] <= parent["end_ns"] + SLACK_NS, span
    for name in ("preprocess", "postprocess"):
        assert took(spans[f"{back} {name}"]) >= 2_000_000
    assert took(spans[f"{back} preprocess"]) < took(spans[f"{back} postprocess"])
    stages = [spans[f"{back} {name}"] for name in ("queue", "preprocess", "model", "postprocess")]
    steps = [spans[f"{front} {name}"] for name in ("route", "queue", "attempt")]
    for parts in (stages, steps):
        for one, following in itertools.pairwise(parts):
            assert one["end_ns"] == following["start_ns"], (one, following)
    own = spans[f"{front} {method}"]
    assert (own["kind"], spans[f"{front} attempt"]["kind"], own["status"]) == (2, 3, 0)
    assert own["attributes"]["dl.model"] == "m"
    assert own["attributes"]["rpc.method"] == "Predict"
    assert spans[f"{front} upstream"]["attributes"]["dl.preprocess_ms"] >= 2


def took(span: dict[str, Any]) -> int:
    """Return the ns that a span lasted."""
    return int(span["end_ns"] - span["start_ns"])


def test_a_call_that_is_not_sampled_has_no_span(collector: Collector, traced: Access) -> None:
    unsampled, sampled = traceparent(0x200, is_sampled=False), traceparent(0x201)
    seldon(traced.address, unsampled)
    seldon(traced.address, "no traceparent at all")
    seldon(traced.address, sampled)
    before = len(collector.spans())
    wait_until(lambda: collector.of_model(trace_of(sampled)), "the sampled one comes", WAIT_S)
    assert collector.spans(trace_of(unsampled)) == []
    others = {span["trace"] for span in collector.spans()[before:]}
    assert others <= {trace_of(sampled)}


def test_each_attempt_has_a_span_and_the_endpoint_its_id(
    run: Callable[..., Process],
    start_endpoint: Callable[..., Endpoint],
    start_access: Callable[..., Access],
    collector: Collector,
    connect: Callable[..., grpc.Channel],
) -> None:
    good, bad = start_endpoint("--echo", "yes"), start_endpoint("--echo", "yes")
    bad.tell("status 14")
    config = cluster([good.address, bad.address], retry_codes=["UNAVAILABLE"], policy="round_robin")
    access = start_access({**config, "tracing": {"endpoint": collector.endpoint, "sample": 0, "service": "retries"}})
    access.wait_live(good.address, bad.address)
    channel = connect(access.address)
    for number in range(50):
        header = traceparent(0x300 + number)
        answer = ask(channel, metadata=[("traceparent", header)])
        assert answer.code is grpc.StatusCode.OK
        if answer.attempts == 2:
            break
    attempts = lambda: [span for span in collector.spans(trace_of(header)) if span["name"] == "attempt"]  # noqa: E731
    wait_until(lambda: len(attempts()) == 2, "two attempts come", WAIT_S)
    names = ("dl.why", "dl.retry_cause")
    told = sorted([span["attributes"].get(name, "") for name in names] + [span["status"]] for span in attempts())
    assert told == [["first", "", 2], ["retry", "upstream_status", 0]]
    failed = [span for span in attempts() if span["status"] == 2]
    assert [span["attributes"]["server.address"] for span in failed] == [bad.address]
    assert len({span["id"] for span in attempts()}) == 2


def test_a_share_of_the_calls_without_a_trace_begins_one_which_a_request_over_http_shares_with_its_calls(
    start_endpoint: Callable[..., Endpoint], start_access: Callable[..., Access], collector: Collector
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    tracing = {"endpoint": collector.endpoint, "sample": 0.5, "service": "roots"}
    access = start_access({**cluster([endpoint.address]), "tracing": tracing})
    access.wait_live(endpoint.address)
    connection = http.client.HTTPConnection(access.address, timeout=WAIT_S)
    body = json.dumps({"data": {"ndarray": [[1, 2]]}})
    own = {"x-model": "m", "content-type": "application/json"}
    for _ in range(40):
        connection.request("POST", "/api/v1.0/predictions", body, own)
        answer = connection.getresponse()
        answer.read()
    # Behind all others in the queue.
    connection.request("POST", "/api/v1.0/predictions", body, {**own, "traceparent": traceparent(0x500)})
    connection.getresponse().read()
    connection.close()
    mine = lambda: [span for span in collector.spans() if span["service"] == "roots"]  # noqa: E731
    last = lambda: [span for span in mine() if span["trace"] == trace_of(traceparent(0x500))]  # noqa: E731
    wait_until(lambda: any(span["name"] == "POST" for span in last()), "the last request's span comes", WAIT_S)
    spans = [span for span in mine() if span not in last()]
    roots = {span["trace"]: span for span in spans if span["name"] == "POST"}
    assert 0 < len(roots) < 40
    assert {span["parent"] for span in roots.values()} == {""}
    assert {span["attributes"]["http.response.status_code"] for span in roots.values()} == {answer.status}
    calls = [span for span in spans if span["kind"] == 2 and span["name"] != "POST"]
    # None of its calls is in a trace where the request is not.
    assert {(span["trace"], span["parent"]) for span in calls} == {
        (each["trace"], each["id"]) for each in roots.values()
    }


def test_a_trace_passes_as_it_is_where_nothing_is_traced(
    start_access: Callable[..., Access], start_scripted: Callable[..., Any], connect: Callable[..., grpc.Channel]
) -> None:
    endpoint = start_scripted()
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    own = {"traceparent": traceparent(0x400, is_sampled=False), "tracestate": "a=1,b=2"}
    assert ask(connect(access.address), metadata=[*own.items()]).code is grpc.StatusCode.OK
    seen = dict(endpoint.last_call().headers)
    assert {name: seen[name] for name in own} == own


def answers_quickly(access: Access, connect: Callable[..., grpc.Channel]) -> None:
    channel = connect(access.address)
    assert ask(channel).code is grpc.StatusCode.OK
    begun = time.monotonic()
    for _ in range(50):
        assert ask(channel).code is grpc.StatusCode.OK
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("kind", ["absent", "silent"])
def test_a_collector_that_takes_nothing_costs_spans_and_no_call(
    start_endpoint: Callable[..., Endpoint],
    start_access: Callable[..., Access],
    connect: Callable[..., grpc.Channel],
    kind: str,
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if kind == "silent":
            silent.listen()
        where = f"http://127.0.0.1:{silent.getsockname()[1]}"
        access = start_access({**cluster([endpoint.address]), "tracing": {"endpoint": where, "sample": 1}})
        access.wait_live(endpoint.address)
        answers_quickly(access, connect)
        if kind == "absent":
            said = rf"WARNING access: spans do not reach the collector {where}.*refused"
            access.process.wait_line(said, timeout_s=WAIT_S)
            answers_quickly(access, connect)
            lost = lambda: access.counter("dl_spans_lost_total")  # noqa: E731
            wait_until(lambda: lost() == 5 * 102, f"all are counted, {lost()}", WAIT_S)
            assert access.process.log.count("spans do not reach") == 1
        begun = time.monotonic()
        access.terminate()
        access.process.wait(WAIT_S)
        assert time.monotonic() - begun < 8
