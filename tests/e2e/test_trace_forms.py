"""Traces of every form of a call: to the spans of a real model server, and in what any endpoint gets."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest
from e2e.calls import ask
from fixtures import oip_models
from fixtures.access_process import OIP, OIP_STREAM, SELDON, TFS, Access, wait_until
from fixtures.doors import Keeper
from fixtures.processes import Process
from fixtures.tracing import CALLER, WAIT_S, Collector, trace_of, traceparent

from dl_inference.messages import ModelInferRequest, ModelInferResponse, ModelMetadataResponse, SeldonMessage

pytestmark = pytest.mark.timeout(200)

Metadata = Sequence[tuple[str, str]]
Call = Callable[[str, str, Metadata], None]
"""Calls an access service about a model, with metadata."""

ROWS = [[1.0, 2.0, 3.0, 4.0]]
STATE = ("tracestate", "a=1,b=2")
METHODS = """
import numpy as np
import torch_predict

@torch_predict.method
def embeddings(model, x, **kwargs):
    return np.zeros((1, 2), np.float32)

@torch_predict.method
def rerank(model, x, **kwargs):
    return np.zeros(1, np.float32)
"""


def infer_request(model: str) -> bytes:
    request = ModelInferRequest(model_name=model)
    request.inputs.add(name="input", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend(ROWS[0])
    return bytes(request.SerializeToString())


def seldon_request(_: str) -> bytes:
    message = SeldonMessage()
    message.data.tensor.shape.extend([1, 4])
    message.data.tensor.values.extend(ROWS[0])
    return bytes(message.SerializeToString())


def over_grpc(path: str, request: Callable[[str], bytes], count: int = 1) -> Call:
    def call(address: str, model: str, metadata: Metadata) -> None:
        with grpc.insecure_channel(address) as channel:
            opened = channel.stream_stream(path)
            own = [("x-model", model), *metadata]
            answers = [*opened(iter([request(model)] * count), timeout=WAIT_S, metadata=own)]
        assert len(answers) == count

    return call


def over_http(path: str, body: Callable[[str], Any], content_type: str = "application/json", **headers: str) -> Call:
    def call(address: str, model: str, metadata: Metadata) -> None:
        connection = http.client.HTTPConnection(address, timeout=WAIT_S)
        sent = body(model)
        sent = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        connection.putrequest("POST", path.replace("NAME", model))
        own = [("content-type", content_type), ("content-length", str(len(sent))), *headers.items(), *metadata]
        for name, value in own:
            connection.putheader(name, value)
        connection.endheaders(sent)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        assert answer.status == 200, said
        # A batch says 200 whatever its calls say, and so does gRPC-Web.
        assert all(each["code"] == 0 for each in json.loads(said)) if path == "/v1/batch" else True, said
        assert answer.getheader("grpc-status", "0") == "0", answer.getheaders()

    return call


def framed(model: str) -> bytes:
    message = infer_request(model)
    return b"\0" + len(message).to_bytes(4, "big") + message


def tensor(_: str) -> Any:
    return {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "data": ROWS[0]}]}


def examples(_: str) -> Any:
    return {"examples": [{"feature": 1.0}]}


def atserving(model: str) -> Any:
    return [{"op": f"/v1/eval/{model}", "data": ROWS}] * 2


SERVED: dict[str, Call] = {
    "grpc seldon": over_grpc(SELDON, seldon_request),
    "grpc oip": over_grpc(OIP, infer_request),
    "grpc oip stream": over_grpc(OIP_STREAM, infer_request, 2),
    "grpc-web": over_http(OIP, framed, "application/grpc-web+proto"),
    "grpc-web stream": over_http(OIP_STREAM, framed, "application/grpc-web+proto"),
    "grpc-web-text": over_http(OIP, lambda model: base64.b64encode(framed(model)), "application/grpc-web-text+proto"),
    "oip": over_http("/v2/models/NAME/infer", tensor),
    "oip events": over_http("/v2/models/NAME/infer", tensor, accept="text/event-stream"),
    "tfs predict": over_http("/v1/models/NAME:predict", lambda _: {"instances": ROWS}),
    "seldon": over_http("/seldon/NAME/api/v1.0/predictions", lambda _: {"data": {"ndarray": ROWS}}),
    "atserving eval": over_http("/v1/eval/NAME", lambda _: {"data": ROWS}),
    "atserving batch": over_http("/v1/batch", atserving),
    "go-infer": over_http("/api/NAME", lambda _: {"appId": "a", "version": "1", "data": {"input": ROWS}}),
    "openai": over_http("/v1/embeddings", lambda model: {"model": model, "input": "a"}),
    "rerank": over_http("/v1/rerank", lambda model: {"model": model, "query": "a", "documents": ["b"]}),
}
"""What a PyTorch server answers."""
CALLS = {"atserving batch": 2}
"""How many calls a form becomes, where that is not one."""
PASSED: dict[str, Call] = {
    "tfs classify": over_http("/v1/models/NAME:classify", examples),
    "tfs regress": over_http("/v1/models/NAME:regress", examples),
}
"""What only TensorFlow's servers answer."""
FORMS = SERVED | PASSED
INVALID = ["no traceparent", traceparent(1).upper(), traceparent(1) + "-more", f"00-{'0' * 32}-{CALLER}-01"]
"""Of traces that are none."""


def answers() -> dict[str, bytes]:
    """What the endpoint says that keeps what it gets: it is like the model, and its predictions are empty."""
    tensors = {"inputs": ("input", "FP32", [-1, 4]), "outputs": ("output", "FP32", [-1, 1])}
    metadata = ModelMetadataResponse(name="kept", versions=["1"])
    for which, (name, datatype, shape) in tensors.items():
        getattr(metadata, which).add(name=name, datatype=datatype, shape=shape)
    infer = ModelInferResponse(model_name="kept", model_version="1")
    infer.outputs.add(name="output", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1)
    service, tfs = OIP.rpartition("/")[0], "/tensorflow.serving.PredictionService"
    return {
        f"{service}/ModelMetadata": metadata.SerializeToString(),
        OIP: infer.SerializeToString(),
        OIP_STREAM: b"\x12" + len(infer.SerializeToString()).to_bytes(1) + infer.SerializeToString(),
        SELDON: seldon_request(""),
        f"{tfs}/Classify": b"",
        f"{tfs}/Regress": b"",
    }


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    keeper = Keeper(answers())
    yield keeper
    keeper.close()


@pytest.fixture(scope="module")
def addresses(
    run_shared: Callable[..., Process],
    start_model: Callable[..., str],
    collector: Collector,
    keeper: Keeper,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """An access service that traces every call, and one that traces none, in front of a model server that traces."""
    root = tmp_path_factory.mktemp("forms")
    folder = oip_models.scores(root / "m")
    (folder / "processor.py").write_text(METHODS)
    model = start_model(folder, DL_INFERENCE_TRACING__ENDPOINT=collector.endpoint, DL_INFERENCE_TRACING__SAMPLE="0")
    models = {"m": {"endpoints": [model]}, "kept": {"endpoints": [keeper.address]}}
    addresses = {}
    for name, more in (("traced", {"tracing": {"endpoint": collector.endpoint, "sample": 1}}), ("untraced", {})):
        (root / name).mkdir()
        access = Access(run_shared, root / name, {"models": models, **more})
        for each in models:
            access.wait_live_model(each)
        addresses[name] = access.address
    return addresses


@pytest.fixture(scope="module")
def called(addresses: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Call the model in all forms: traces through each of the two access services."""
    traces = {}
    for index, (name, form) in enumerate(SERVED.items()):
        through, past = traceparent(0x1000 + index), traceparent(0x2000 + index)
        form(addresses["traced"], "m", [("traceparent", through)])
        form(addresses["untraced"], "m", [("traceparent", past)])
        traces[name] = (trace_of(through), trace_of(past))
    return traces


@pytest.mark.parametrize("form", SERVED)
def test_every_form_of_a_call_is_in_its_callers_trace(
    collector: Collector, called: dict[str, tuple[str, str]], form: str
) -> None:
    through, past = called[form]

    def is_whole() -> bool:
        trace = collector.spans(through)
        ids, parents = {span["id"] for span in trace}, {span["parent"] for span in trace}
        return bool(predictions(collector, through) and predictions(collector, past)) and parents <= ids | {CALLER}

    wait_until(is_whole, "both come", WAIT_S)
    by_id = {span["id"]: span for span in collector.spans(through)}
    inner = predictions(collector, through)
    assert len(inner) == CALLS.get(form, 1)
    for span in inner:
        path = [span["name"]]
        while span["parent"] != CALLER:
            span = by_id[span["parent"]]  # noqa: PLW2901  (it climbs)
            path.append(span["name"])
        assert path == [path[0], "attempt", path[0], *([] if form.startswith("grpc ") else ["POST"])]
    # An access service that traces nothing leaves the caller's span as the parent.
    assert {span["parent"] for span in collector.of_model(past)} == {CALLER}


def predictions(collector: Collector, trace: str) -> list[dict[str, Any]]:
    """Return a model server's calls but those that ask what its model takes."""
    return [span for span in collector.of_model(trace) if "Metadata" not in span["name"]]


def kept(keeper: Keeper, address: str, form: str, *metadata: tuple[str, str]) -> list[dict[str, Any]]:
    """Call an endpoint that keeps what it gets; return the metadata of what has reached it."""
    before = len(keeper.seen)
    FORMS[form](address, "kept", metadata)
    seen = keeper.seen[before:]
    assert any("Metadata" not in each.path for each in seen)
    return [each.metadata for each in seen]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_hands_its_trace_to_the_endpoint(keeper: Keeper, addresses: dict[str, str], form: str) -> None:
    header = traceparent(0x3000)
    for seen in kept(keeper, addresses["traced"], form, ("traceparent", header), STATE):
        assert trace_of(seen["traceparent"]) == trace_of(header)
        assert seen["traceparent"].endswith("-01")
        assert CALLER not in seen["traceparent"], "the attempt is the parent"
        assert seen["tracestate"] == STATE[1]
    unsampled = traceparent(0x3000, is_sampled=False)
    for name, given in (("traced", unsampled), ("untraced", header), ("untraced", "no traceparent")):
        for seen in kept(keeper, addresses[name], form, ("traceparent", given), STATE):
            assert (seen["traceparent"], seen["tracestate"]) == (given, STATE[1])


@pytest.mark.parametrize("form", FORMS)
def test_a_trace_that_is_none_is_left_for_a_new_one(keeper: Keeper, addresses: dict[str, str], form: str) -> None:
    given = [[("traceparent", INVALID[[*FORMS].index(form) % len(INVALID)])]]
    if not form.startswith("grpc "):  # whose client sends the last of two
        given.append([("traceparent", traceparent(2))] * 2)
    for headers in given:
        seen = kept(keeper, addresses["traced"], form, *headers, STATE)
        traces = {trace_of(each["traceparent"]) for each in seen}
        assert len(traces) == 1, "its calls are in one trace"
        assert traces.isdisjoint({trace_of(value.lower()) for _, value in headers if "-" in value})
        assert all(len(each["traceparent"]) == len(traceparent(1)) for each in seen)
        assert all("tracestate" not in each for each in seen)


def test_a_callers_mistake_is_no_error_of_the_service_and_an_endpoints_is(
    collector: Collector, addresses: dict[str, str]
) -> None:
    """By OpenTelemetry's rule; the attempt, and the model server, tell of each."""
    access = "dl-inference-access"
    wrong = ModelInferRequest(model_name="m").SerializeToString()
    given: list[tuple[str, bytes, str, grpc.StatusCode]] = [
        (OIP, wrong, "m", grpc.StatusCode.INVALID_ARGUMENT),
        (TFS, b"", "kept", grpc.StatusCode.UNIMPLEMENTED),
        (OIP, wrong, "nobody", grpc.StatusCode.NOT_FOUND),
    ]
    found = []
    for index, (path, request, model, code) in enumerate(given):
        with grpc.insecure_channel(addresses["traced"]) as channel:
            metadata = [("x-model", model), ("traceparent", traceparent(0x4000 + index))]
            assert ask(channel, path, request, metadata=metadata).code is code
    for index, (path, *_) in enumerate(given):
        spans = collector.wait_spans(trace_of(traceparent(0x4000 + index)), f"{access} {path.removeprefix('/')}")
        own = spans[f"{access} {path.removeprefix('/')}"]
        attempt = spans.get(f"{access} attempt", {"status": None})
        found.append((own["status"], own["attributes"].get("error.type"), attempt["status"]))
    assert found == [(0, None, 2), (2, None, 2), (0, "no_route", None)]
    (model_span,) = wait_until(lambda: collector.of_model(trace_of(traceparent(0x4000))), "it comes", WAIT_S)
    assert (model_span["status"], model_span["attributes"]["rpc.grpc.status_code"]) == (2, 3)


def test_of_a_long_stream_so_many_messages_have_spans(collector: Collector, addresses: dict[str, str]) -> None:
    long, behind = traceparent(0x5000), traceparent(0x5001)
    over_grpc(OIP_STREAM, infer_request, 130)(addresses["traced"], "m", [("traceparent", long)])
    over_grpc(OIP, infer_request)(addresses["traced"], "m", [("traceparent", behind)])
    wait_until(lambda: collector.of_model(trace_of(behind)), "what comes behind it is there", WAIT_S)
    (span,) = collector.of_model(trace_of(long))
    queued = [each for each in collector.spans(trace_of(long)) if each["parent"] == span["id"]]
    assert len([each for each in queued if each["name"] == "queue"]) == 128
