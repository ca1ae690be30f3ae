"""The native front of a model server, with grpcio's client on one side and a loop in Python on the other."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
from fixtures.http2_peer import decoded, dial, message, request_head, unary
from google.protobuf import json_format

from dl_inference import messages
from dl_inference._native import Batch, Item, NativeError, Worker

METHOD = "/seldon.protos.Model/Predict"
OIP_METHOD = "/inference.GRPCInferenceService/ModelInfer"
LIMITS = {
    "max_message_bytes": 4 << 20,
    "max_metadata_bytes": 65536,
    "max_connection_bytes": 4 << 20,
    "max_metadata_fields": 100,
    "max_streams": 256,
    "max_connections": 100,
    "max_connections_per_ip": 100,
    "max_in_flight": 1000,
    "max_held_bytes": 64 << 20,
    "header_timeout_ms": 10000,
    "body_timeout_ms": 10000,
    "connection_idle_timeout_ms": 60000,
    "max_connection_age_ms": 600000,
    "max_connection_age_grace_ms": 60000,
    "frame_credit": 1000,
    "frame_credit_per_frame": 10,
    "stream_window_bytes": 1 << 20,
    "connection_window_bytes": 4 << 20,
    "max_frame_bytes": 1 << 20,
    "tcp_user_timeout_ms": 0,
    "cors_origins": [],
}

Answer = Callable[[Batch], None]


def config(**changes: Any) -> str:
    document = {
        "listen": ["127.0.0.1:0"],
        "admin": None,
        "model": "digits",
        "aliases": [],
        "version": "1",
        "labels": [],
        "platform": "test",
        "inputs": [],
        "outputs": [],
        "max_queue": 100,
        "max_batch": 16,
        "batching": {"joins": False, "max_rows": 64, "max_delay_ms": None, "alike": "all", "pad_axis": None},
        "timeout_ms": 20000,
        "stream_idle_timeout_ms": 20000,
        "hang_timeout_ms": 0,
        "load_reports": True,
        "latency_buckets_ms": [1, 10, 100],
        "limits": LIMITS,
    }
    return json.dumps(document | changes)


class Served:
    """A running worker, a thread that answers its batches, and a client."""

    def __init__(self, **changes: Any) -> None:
        self.worker = Worker(config(**changes), messages.DESCRIPTORS)
        self.addresses = self.worker.start()
        self.address = self.addresses[0]
        self.worker.set_ready(True)
        options = [("grpc.max_receive_message_length", -1)]
        self.channel = grpc.insecure_channel(self.address, options=options)
        self.errors: list[BaseException] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def answer(self, answer: Answer) -> Served:
        """Answer batches from a thread from now on."""

        def loop() -> None:
            while not self._ended.is_set():
                batch = self.worker.next_batch(50)
                try:
                    if batch is not None:
                        answer(batch)
                except BaseException as error:
                    self.errors.append(error)  # raised again by close()

        self._thread = threading.Thread(target=loop)
        self._thread.start()
        return self

    def stub(self, method: str = METHOD) -> Any:
        return self.channel.unary_unary(method)

    def call(self, request: Any, **options: Any) -> Any:
        answer = self.stub()(request.SerializeToString(), timeout=options.pop("timeout", 10), **options)
        return messages.SeldonMessage.FromString(answer)

    def close(self) -> None:
        self.channel.close()
        self._ended.set()
        if self._thread:
            self._thread.join()
        self.worker.stop()
        for error in self.errors:
            raise error


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(**changes: Any) -> Served:
        started.append(Served(**changes))
        return started[-1]

    yield start
    for served in started:
        served.close()


def seldon(**fields: Any) -> Any:
    return messages.SeldonMessage(**fields)


def tensor(shape: list[int], values: list[float]) -> Any:
    return seldon(data={"tensor": {"shape": shape, "values": values}})


def echo(batch: Batch) -> None:
    for index, item in enumerate(batch):
        batch.reply(index, "strData" if item.kind == "none" else item.kind, item.value or "", [])


def replying(kind: str, value: Any, names: list[str] | None = None) -> Answer:
    def answer(batch: Batch) -> None:
        for index in range(len(batch)):
            batch.reply(index, kind, value, names or [])

    return answer


def keeping(items: list[Item]) -> Answer:
    def answer(batch: Batch) -> None:
        for index, item in enumerate(batch):
            items.append(item)
            batch.reply(index, "strData", "", [])

    return answer


def taken(served: Served, request: Any) -> Item:
    """Return the item that a request arrives as."""
    items: list[Item] = []
    served.answer(keeping(items))
    served.call(request)
    return items[0]


def status(served: Served, body: bytes, method: str = METHOD, **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        served.stub(method)(body, timeout=options.pop("timeout", 10), **options)
    return raised.value


def trailer(error: grpc.RpcError, name: str) -> str | None:
    return dict(error.trailing_metadata()).get(name)


def load_report(served: Served, text: str) -> Any:
    body = message(seldon(strData=text).SerializeToString())
    # grpcio's own client keeps the trailer from the application.
    with dial(served.address) as caller:
        trailers = unary(caller, request_head(METHOD), body).status()
    report = trailers.get("endpoint-load-metrics-bin")
    return None if report is None else messages.OrcaLoadReport.FromString(decoded(report))


def test_an_answer_says_how_loaded_the_model_is_and_where_its_time_went(serve: Any) -> None:
    def answer(batch: Batch) -> None:
        for index, item in enumerate(batch):
            if item.value == "slow":
                time.sleep(0.2)
            if item.value == "bad":
                batch.fail(index, 13, "bad", "internal")
            else:
                batch.reply(index, "strData", "", [])

    served = serve().answer(answer)
    slow = load_report(served, "slow")
    assert 0.15 <= slow.application_utilization <= 1
    assert slow.request_cost["compute_ms"] >= 200 > slow.request_cost["queue_ms"] >= 0
    assert slow.named_metrics["queue"] == 0
    after = load_report(served, "bad")
    assert (after.rps_fractional > 0, after.eps) == (True, 0)
    assert load_report(served, "").eps > 0


@pytest.mark.parametrize("way", ["reply", "keep"])
def test_an_answer_says_how_long_it_was_in_each_stage_where_python_tells(serve: Any, way: str) -> None:
    def answer(batch: Batch) -> None:
        for index, item in enumerate(batch):
            if item.value == "told":
                batch.spent(0.001, 0.25, 0.0625)
            getattr(batch, way)(index, "strData", "", [])
        batch.send()

    served = serve().answer(answer)
    told = load_report(served, "told").request_cost
    assert {name: told[name] for name in told if name not in ("queue_ms", "compute_ms")} == {
        "preprocess_ms": 1,
        "model_ms": 250,
        "postprocess_ms": 62.5,
    }
    assert set(load_report(served, "").request_cost) == {"queue_ms", "compute_ms"}


def test_load_reports_can_be_turned_off(serve: Any) -> None:
    assert load_report(serve(load_reports=False).answer(echo), "") is None


def test_a_tensor_is_an_aligned_writable_float64_array_and_comes_back(serve: Any) -> None:
    items: list[Item] = []

    def answer(batch: Batch) -> None:
        items.append(batch[0])
        batch.reply(0, "tensor", batch[0].value * 2, ["a", "b"])

    answered = serve().answer(answer).call(tensor([2, 2], [1, 2, 3, float("nan")]))
    array = items[0].value
    assert (array.dtype, array.shape) == (np.float64, (2, 2))
    assert array.flags.c_contiguous
    assert array.flags.aligned
    assert array.flags.writeable
    np.testing.assert_array_equal(answered.data.tensor.values, [2, 4, 6, np.nan])
    assert list(answered.data.tensor.shape) == [2, 2]
    assert list(answered.data.names) == ["a", "b"]
    assert answered.HasField("meta")


@pytest.mark.parametrize("size", [0, 1, 150_528])
def test_tensors_of_each_size_come_back(serve: Any, size: int) -> None:
    values = np.random.default_rng(1).standard_normal(size)
    answered = serve().answer(lambda batch: batch.reply(0, "tensor", batch[0].value, [])).call(tensor([size], values))
    np.testing.assert_array_equal(answered.data.tensor.values, values)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.arange(12.0).reshape(3, 4)[:, ::2],
        np.arange(6, dtype=np.float32).reshape(3, 2),
        np.arange(6).reshape(3, 2),
        np.arange(6, dtype=">f8").reshape(3, 2),
        np.array(3.5),
        np.zeros((0, 4)),
    ],
)
def test_a_tensor_answer_takes_every_layout_and_number(serve: Any, value: np.ndarray) -> None:
    answered = serve().answer(replying("tensor", value)).call(seldon())
    assert list(answered.data.tensor.shape) == list(value.shape)
    np.testing.assert_array_equal(answered.data.tensor.values, value.ravel())


JSON = {"a": [1.0, None, True, "é", {"b": []}], "c": {}}


@pytest.mark.parametrize(
    ("request_fields", "kind", "value"),
    [
        ({"data": {"ndarray": [[1, 2], [3, "x"], None]}}, "ndarray", [[1.0, 2.0], [3.0, "x"], None]),
        ({"data": {}}, "ndarray", []),
        ({"binData": b"\x00\xff"}, "binData", b"\x00\xff"),
        ({"strData": "é"}, "strData", "é"),
        ({"strData": ""}, "strData", ""),
        ({"jsonData": JSON}, "jsonData", JSON),
        ({"jsonData": None}, "jsonData", None),
        ({}, "none", None),
    ],
)
def test_each_kind_arrives_as_documented(serve: Any, request_fields: Any, kind: str, value: Any) -> None:
    request = seldon()
    if "data" in request_fields or "jsonData" in request_fields:
        json_format.ParseDict(request_fields, request)
        if request_fields.get("jsonData", 0) is None:
            request.jsonData.null_value = 0
    else:
        request = seldon(**request_fields)
    item = taken(serve(), request)
    assert (item.kind, item.value, item.meta, item.method) == (kind, value, {}, METHOD)


def test_custom_data_is_the_bytes_of_an_any_both_ways(serve: Any) -> None:
    request = seldon(customData={"type_url": "x/y", "value": b"z"})
    answered = serve().answer(lambda batch: batch.reply(0, batch[0].kind, batch[0].value, [])).call(request)
    assert answered.customData == request.customData


@pytest.mark.parametrize(
    "dtype",
    [
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    ],
)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 2)])
def test_a_tftensor_of_each_type_comes_back(serve: Any, dtype: str, shape: tuple[int, ...]) -> None:
    sent = np.arange(np.prod(shape), dtype=np.int64).reshape(shape).astype(dtype)
    served = serve().answer(replying("tftensor", sent))
    first = served.call(seldon())
    items: list[Item] = []
    served = serve().answer(keeping(items))
    served.call(first)
    array = items[0].value
    assert items[0].kind == "tftensor"
    assert (array.dtype, array.shape) == (sent.dtype, sent.shape)
    assert array.flags.aligned
    assert array.flags.writeable
    np.testing.assert_array_equal(array, sent)


def test_a_tftensor_of_strings_comes_back(serve: Any) -> None:
    proto = {"dtype": 7, "tensor_shape": {"dim": [{"size": 2}]}, "string_val": [b"a\x00", b""]}
    request = seldon(data={"tftensor": proto})
    answered = serve().answer(lambda batch: batch.reply(0, "tftensor", batch[0].value, [])).call(request)
    assert answered.data.tftensor == request.data.tftensor


@pytest.mark.parametrize(
    "value", [np.array([b"a", b"bc"]), np.array(["a", "bc"]), np.array(["a", b"bc"], dtype=object)]
)
def test_string_arrays_of_each_kind_are_sent(serve: Any, value: np.ndarray) -> None:
    answered = serve().answer(replying("tftensor", value)).call(seldon())
    assert list(answered.data.tftensor.string_val) == [b"a", b"bc"]


def test_bfloat16_arrives_as_float32(serve: Any) -> None:
    proto = {"dtype": 14, "tensor_shape": {"dim": [{"size": 1}]}, "half_val": [0x3FC0]}
    array = taken(serve(), seldon(data={"tftensor": proto})).value
    assert (array.dtype, array.tolist()) == (np.float32, [1.5])


def test_bfloat16_of_ml_dtypes_leaves_in_its_own_type(serve: Any) -> None:
    value = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    answered = serve().answer(replying("tftensor", value)).call(seldon())
    assert (answered.data.tftensor.dtype, answered.data.tftensor.tensor_content) == (14, value.tobytes())
    served = serve().answer(replying("infer", {"y": value, "one": np.array(1.5, ml_dtypes.bfloat16)}))
    request = messages.ModelInferRequest(model_name="digits", raw_input_contents=[b"\0"])
    request.inputs.add(name="x", datatype="BOOL", shape=[1])
    found = messages.ModelInferResponse.FromString(served.stub(OIP_METHOD)(request.SerializeToString(), timeout=10))
    assert [output.datatype for output in found.outputs] == ["BF16", "BF16"]
    assert list(found.raw_output_contents) == [value.tobytes(), value[:1].tobytes()]


def test_meta_is_message_to_dict_and_comes_back_without_routing(serve: Any) -> None:
    meta = {
        "puid": "p",
        "tags": {"taskId": 39, "text": "x", "deep": {"list": [1.5, None, True]}},
        "routing": {"r": -1},
        "requestPath": {"a": "image"},
        "metrics": [
            {"key": "m", "type": "TIMER", "value": 0.1, "tags": {"t": "u"}},
            {"key": "n", "value": 1e-45},
            {"type": "GAUGE", "value": 16777217.0},
        ],
    }
    request = seldon(strData="x")
    json_format.ParseDict(meta, request.meta)
    served = serve()
    items: list[Item] = []
    answered = served.answer(keeping(items)).call(request)
    assert items[0].meta == json_format.MessageToDict(request.meta)
    assert isinstance(items[0].meta["tags"]["taskId"], float)
    request.meta.ClearField("routing")
    assert answered.meta == request.meta


def test_a_value_that_does_not_fit_is_a_value_error_and_the_item_is_still_open(serve: Any) -> None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    wrong: list[tuple[str, Any]] = [
        ("tensor", [1.0]),
        ("tensor", np.array(["a"])),
        ("tensor", np.array([1j])),
        ("ndarray", "x"),
        ("ndarray", deep),
        ("ndarray", [np.int64(1)]),
        ("tftensor", 1.0),
        ("tftensor", np.array(["2020-01-01"], dtype="M8[D]")),
        ("tftensor", np.array([1], dtype=object)),
        ("binData", "x"),
        ("strData", b"x"),
        ("strData", "\ud800"),
        ("jsonData", {1: 2}),
        ("jsonData", 10**400),
        ("customData", None),
        ("infer", {"x": np.ones(1)}),
        ("nonsense", 1),
    ]
    errors: list[str] = []

    def answer(batch: Batch) -> None:
        for kind, value in wrong:
            with pytest.raises(ValueError, match=r".+") as raised:
                batch.reply(0, kind, value, [])
            errors.append(str(raised.value))
        with pytest.raises(ValueError, match="code 0 is not a gRPC error"):
            batch.fail(0, 0, "", "hook")
        with pytest.raises(ValueError, match="there is no item 1 in a batch of 1"):
            batch.reply(1, "strData", "", [])
        batch.reply(0, "strData", "in the end", [])
        with pytest.raises(ValueError, match="item 0 is answered already"):
            batch.reply(0, "strData", "again", [])

    assert serve().answer(answer).call(seldon()).strData == "in the end"
    assert errors[0] == "tensor takes a numpy array, not <class 'list'>"
    assert errors[4] == "the answer is nested deeper than 100"
    assert len(errors) == len(wrong)


def test_an_inference_is_answered_with_arrays_by_name_and_with_nothing_else(serve: Any) -> None:
    wrong: list[tuple[str, Any]] = [
        ("tensor", np.ones(1)),
        ("infer", [np.ones(1)]),
        ("infer", {1: np.ones(1)}),
        ("infer", {"x": [1.0]}),
        ("infer", {"x": np.array([1.0, None], object)}),
        ("infer", {"x": np.array(["2020-01-01"], dtype="M8[D]")}),
    ]
    errors: list[str] = []

    def answer(batch: Batch) -> None:
        assert [(item.kind, item.method) for item in batch] == [("infer", OIP_METHOD)] * len(batch)
        assert batch[0].meta == {"puid": "7", "tags": {"n": 2**64 - 1}}
        array = batch[0].value["x"]
        assert array.flags.writeable
        assert array.flags.aligned
        for kind, value in wrong:
            with pytest.raises(ValueError, match=r".+") as raised:
                batch.reply(0, kind, value, [])
            errors.append(str(raised.value))
        swapped = np.asfortranarray(array).astype(array.dtype.newbyteorder(">"))
        batch.reply(0, "infer", {"y": swapped, "s": np.array(["é", "b"])}, [])

    request = messages.ModelInferRequest(model_name="digits", id="7")
    request.parameters["n"].uint64_param = 2**64 - 1
    request.inputs.add(name="x", datatype="INT32", shape=[2, 3])
    request.raw_input_contents.append(np.arange(6, dtype="<i4").tobytes())
    served = serve().answer(answer)
    found = messages.ModelInferResponse.FromString(served.stub(OIP_METHOD)(request.SerializeToString(), timeout=10))
    assert [(o.name, o.datatype, list(o.shape)) for o in found.outputs] == [("y", "INT32", [2, 3]), ("s", "BYTES", [2])]
    assert found.raw_output_contents[0] == np.arange(6, dtype="<i4").tobytes()
    assert found.raw_output_contents[1] == b"\2\0\0\0\xc3\xa9\1\0\0\0b"
    assert errors[0] == "item 0 is to be answered with infer"
    assert len(errors) == len(wrong)


def test_a_batch_is_a_sequence(serve: Any) -> None:
    lengths: list[int] = []

    def answer(batch: Batch) -> None:
        lengths.append(len(batch))
        assert [item.kind for item in batch] == ["none"] * len(batch)
        assert batch[-1] is batch[len(batch) - 1]
        with pytest.raises(IndexError):
            batch[len(batch)]
        for index in range(len(batch)):
            batch.reply(index, "strData", "", [])

    served = serve(max_batch=4)
    calls = [served.stub().future(b"") for _ in range(20)]
    served.answer(answer)
    assert all(call.result(timeout=10) == b"\x12\x00\x2a\x00" for call in calls)
    assert sum(lengths) == 20
    assert max(lengths) <= 4


def test_a_failure_keeps_its_code_text_and_kind(serve: Any) -> None:
    error = status(serve().answer(lambda batch: batch.fail(0, 9, "nicht möglich", "hook")), b"")
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "nicht möglich")
    assert trailer(error, "access-error") == "hook"


def test_a_dropped_batch_answers_internal_with_the_request_id(serve: Any) -> None:
    error = status(serve().answer(lambda batch: None), b"", metadata=[("x-request-id", "abc")])
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error, request id abc")
    assert trailer(error, "x-request-id") == "abc"


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, "protobuf: message is truncated"),
        (b"x" * (5 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED, "over the limit of 4194304 (max_message_bytes)"),
        (tensor([3], [1.0]).SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT, "needs 3 values, 1 were sent"),
    ],
)
def test_a_bad_message_is_refused_with_its_reason(serve: Any, body: bytes, code: grpc.StatusCode, text: str) -> None:
    error = status(serve(), body)
    assert error.code() == code
    assert text in error.details()


def test_an_answer_above_the_message_limit_is_resource_exhausted(serve: Any) -> None:
    error = status(serve().answer(replying("binData", bytes(5 << 20))), b"")
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_compressed_call_is_understood(serve: Any) -> None:
    served = serve().answer(echo)
    request = seldon(strData="x" * 10000)
    assert served.call(request, compression=grpc.Compression.Gzip).strData == request.strData


def test_an_unknown_method_is_unimplemented(serve: Any) -> None:
    error = status(serve(), b"", method="/seldon.protos.Combiner/Aggregate")
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED
    assert trailer(error, "access-error") == "unknown_method"


def test_a_model_that_is_not_ready_is_unavailable(serve: Any) -> None:
    served = serve()
    served.worker.set_ready(False)
    error = status(served, b"")
    assert (error.code(), trailer(error, "access-error")) == (grpc.StatusCode.UNAVAILABLE, "model_not_ready")


def test_a_full_queue_sheds(serve: Any) -> None:
    served = serve(max_queue=1)
    first = served.stub().future(b"", timeout=10)
    error = status(served, b"", timeout=5)
    while error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:  # the second came first: then the first is shed
        error = first.exception()
    assert (error.code(), trailer(error, "access-error")) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "shed")


def test_an_expired_call_does_not_reach_python(serve: Any) -> None:
    served = serve(timeout_ms=50)
    error = status(served, b"", timeout=30)
    assert (error.code(), trailer(error, "access-error")) == (grpc.StatusCode.DEADLINE_EXCEEDED, "deadline_exceeded")
    assert served.worker.next_batch(0) is None


def test_a_cancelled_call_does_not_reach_python(serve: Any) -> None:
    served = serve(max_batch=1)
    cancelled = served.stub().future(b"", metadata=[("x-request-id", "first")])
    batch = served.worker.next_batch(5000)
    assert batch is not None
    queued = served.stub().future(b"", metadata=[("x-request-id", "second")])
    cancelled.cancel()
    batch.reply(0, "strData", "to nobody", [])
    batch = served.worker.next_batch(5000)
    assert batch is not None
    assert batch[0].request_id == "second"
    queued.cancel()


def test_a_batch_is_taken_beside_another_without_waiting_and_both_are_answered(serve: Any) -> None:
    served = serve(max_batch=1)
    calls = [served.stub().future(b"") for _ in range(2)]
    batches = [served.worker.next_batch(5000)]
    assert batches[0] is not None
    deadline = time.monotonic() + 10
    while len(batches) == 1 and time.monotonic() < deadline:  # until the second one has come
        batches += [each for each in [served.worker.next_beside()] if each is not None]
    assert served.worker.next_beside() is None
    batches[0].reply(0, "strData", "first", [])
    served.worker.turn(0.001)
    assert batches[1].was_waiting
    batches[1].reply(0, "strData", "second", [])
    answers = [messages.SeldonMessage.FromString(call.result(timeout=10)).strData for call in calls]
    assert sorted(answers) == ["first", "second"]


def test_a_batch_says_whether_a_request_was_there_when_it_was_asked_for(serve: Any) -> None:
    served = serve(max_batch=1)
    calls: list[Any] = []
    later = threading.Timer(0.2, lambda: calls.append(served.stub().future(b"")))
    later.start()
    awaited = served.worker.next_batch(5000)
    later.join()
    calls.append(served.stub().future(b""))
    served.stub("/grpc.health.v1.Health/Check")(b"", timeout=10)  # comes behind it, and is answered at once
    found = served.worker.next_batch(5000)
    assert [each.was_waiting for each in (awaited, found) if each is not None] == [False, True]


def test_answers_that_are_kept_go_out_together_or_with_their_batch(serve: Any) -> None:
    served = serve(max_batch=1)
    for is_sent in (True, False):
        call = served.stub().future(b"")
        batch = served.worker.next_batch(5000)
        assert batch is not None
        batch.keep(0, "strData", "kept", [])
        assert batch.is_gone(0)
        served.stub("/grpc.health.v1.Health/Check")(b"", timeout=10)
        assert not call.done()
        if is_sent:
            batch.send()
        else:
            del batch
        assert messages.SeldonMessage.FromString(call.result(timeout=10)).strData == "kept"


def test_each_list_of_names_is_read(serve: Any) -> None:
    one, other = ["a", "b"], ["c", "d"]
    names = iter([one, one, other, [], one])
    served = serve().answer(lambda batch: batch.reply(0, "tensor", np.zeros((1, 2)), next(names)))
    found = [list(served.call(messages.SeldonMessage()).data.names) for _ in range(5)]
    assert found == [one, one, other, [], one]


def test_next_batch_releases_the_gil_and_returns_none_on_time_out(serve: Any) -> None:
    served = serve()
    ended: list[Batch | None] = []
    waiting = threading.Thread(target=lambda: ended.append(served.worker.next_batch(300)))
    waiting.start()
    turns = 0
    while waiting.is_alive():
        turns += 1
    assert ended == [None]
    assert turns > 100


def test_a_drain_finishes_every_call_and_takes_no_new_connection(serve: Any) -> None:
    served = serve()
    calls = [served.stub().future(b"") for _ in range(50)]
    first = served.worker.next_batch(5000)
    assert first is not None
    served.answer(replying("strData", "late"))
    drained: list[bool] = []
    draining = threading.Thread(target=lambda: drained.append(served.worker.drain(10000)))
    draining.start()
    for index in range(len(first)):
        first.reply(index, "strData", "late", [])
    answers = [messages.SeldonMessage.FromString(call.result(timeout=10)).strData for call in calls]
    draining.join()
    assert answers == ["late"] * 50
    assert drained == [True]
    with grpc.insecure_channel(served.address) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(METHOD)(b"", timeout=5)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_drain_that_runs_out_of_time_says_so(serve: Any) -> None:
    served = serve()
    call = served.stub().future(b"")
    batch = served.worker.next_batch(5000)
    assert batch is not None
    assert served.worker.drain(100) is False
    served.worker.stop()
    assert call.exception(timeout=10).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def test_health_tells_ready_from_not_ready_and_from_draining(serve: Any) -> None:
    served = serve()
    served.worker.set_ready(False)
    serving, not_serving = 1, 2
    check = served.stub("/grpc.health.v1.Health/Check")

    def health(service: str) -> int:
        request = messages.HealthCheckRequest(service=service)
        answer = check(request.SerializeToString(), timeout=10)
        return int(messages.HealthCheckResponse.FromString(answer).status)

    watch = served.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=10)
    assert messages.HealthCheckResponse.FromString(next(watch)).status == not_serving
    served.worker.set_ready(True)
    assert messages.HealthCheckResponse.FromString(next(watch)).status == serving
    assert [health(""), health("digits")] == [serving, serving]
    with pytest.raises(grpc.RpcError) as raised:
        health("other")
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    assert served.worker.drain(5000)
    assert messages.HealthCheckResponse.FromString(next(watch)).status == not_serving
    with pytest.raises(grpc.RpcError):
        next(watch)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services_and_resolves_a_method(serve: Any, version: str) -> None:
    stub = serve().channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
    requests = [
        messages.ServerReflectionRequest(list_services=""),
        messages.ServerReflectionRequest(file_containing_symbol="seldon.protos.Model.Predict"),
    ]
    answers = [
        messages.ServerReflectionResponse.FromString(answer)
        for answer in stub(iter([request.SerializeToString() for request in requests]), timeout=10)
    ]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert {"seldon.protos.Model", "seldon.protos.Seldon", "grpc.health.v1.Health"} <= listed
    assert answers[1].file_descriptor_response.file_descriptor_proto


def test_the_admin_port_shows_readiness_status_and_metrics(serve: Any) -> None:
    served = serve(admin="127.0.0.1:0").answer(echo)
    served.call(seldon())
    address = served.addresses[1]

    def page(name: str) -> str:
        with urllib.request.urlopen(f"http://{address}/{name}", timeout=10) as response:
            return str(response.read().decode())

    assert page("ready") == "ready\n"
    shown = json.loads(page("status"))
    assert (shown["model"], shown["ready"], shown["in_flight"], shown["queued"]) == ("digits", True, 0, 0)
    assert shown["calls"]["seldon.protos.Model/Predict"]["codes"] == {"OK": 1}
    assert 'dl_requests_total{method="seldon.protos.Model/Predict",model="digits",code="OK"} 1' in page("metrics")
    assert "<tr><th>model</th><td>digits</td></tr>" in page("")
    served.worker.set_ready(False)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        page("ready")


def test_the_open_inference_protocol_is_answered_over_http(serve: Any) -> None:
    served = serve().answer(echo)

    def ask(path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(f"http://{served.address}{path}", data, timeout=10) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    assert ask("/v2/health/live") == (200, {"live": True})
    assert ask("/v2/models/digits/ready") == (200, {"ready": True})
    tensor = {"name": "x", "shape": [2, 2], "datatype": "INT64", "data": [[1, -2], [3, 2**62 + 1]]}
    status, answer = ask("/v2/models/digits/infer", {"inputs": [tensor], "id": "a"})
    assert (status, answer["id"], answer["model_name"]) == (200, "a", "digits")
    assert answer["outputs"][0]["data"] == [1, -2, 3, 2**62 + 1]
    status, problem = ask("/v2/models/digits/versions/9/infer", {"inputs": [tensor]})
    assert (status, problem["status"], problem["kind"]) == (404, 404, "model_not_found")
    served.worker.set_ready(False)
    assert ask("/v2/health/ready") == (400, {"ready": False})


def test_the_stages_of_calls_are_in_the_metrics(serve: Any) -> None:
    served = serve(admin="127.0.0.1:0").answer(echo)
    served.call(seldon())
    served.worker.measured(2, 3, 0.002, 0.05, float("nan"))
    served.worker.left_out(1)
    with urllib.request.urlopen(f"http://{served.addresses[1]}/metrics", timeout=10) as response:
        page = response.read().decode()
    counts = re.findall(r'dl_stage_seconds_count{stage="(\w+)"} (\d+)', page)
    assert counts == [("queue", "1"), ("preprocess", "2"), ("model", "2"), ("postprocess", "2")]
    assert 'dl_stage_seconds_sum{stage="model"} 0.1\n' in page
    assert "dl_model_calls_total 1\ndl_model_rows_total 3\n" in re.sub("#.*\n", "", page)
    assert 'dl_calls_left_total{place="batch"} 1\n' in page


def test_a_unix_socket_is_served(serve: Any, tmp_path: Any) -> None:
    served = serve(listen=[f"unix:{tmp_path}/front.sock"]).answer(echo)
    assert served.address == f"unix:{tmp_path}/front.sock"
    assert served.call(seldon(strData="x")).strData == "x"


def test_a_wrong_configuration_is_a_native_error_with_its_place() -> None:
    for document, text in [
        ("{}", "missing field `listen`"),
        (config(unknown=1), "unknown field `unknown`"),
        (config(listen=[]), "listen must not be empty"),
        (config(max_batch=0), "max_batch"),
    ]:
        with pytest.raises(NativeError, match=text):
            Worker(document, messages.DESCRIPTORS)


def test_an_address_in_use_is_a_native_error_that_names_it(serve: Any) -> None:
    address = serve().address
    with pytest.raises(NativeError, match=f"cannot listen on {address}"):
        Worker(config(listen=[address]), messages.DESCRIPTORS).start()


def test_a_model_is_served_without_the_file_that_tells_who_has_which_call(serve: Any, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "hands"
    served = serve(hands={"path": str(path), "poison_ms": 1000}).answer(
        lambda batch: batch.reply(0, "strData", "fine", [])
    )
    assert served.call(messages.SeldonMessage(strData="a")).strData == "fine"
    ((level, text),) = served.worker.notices()
    assert (level, served.worker.notices()) == ("WARNING", [])
    assert text.startswith(f"requests that kill processes are not found: {path}: No such file or directory")
