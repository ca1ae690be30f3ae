"""Runs in .peers/NAME: our codecs and client beside the official ones, on that environment's protobuf and numpy."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import numpy as np
from echo_server import Echo, start

from dl_inference import Client, NotFound, messages
from dl_inference.codec import dtypes, oip, seldon, tensor_proto

GENERATOR = np.random.default_rng(20_261_121)
SHAPES = [(), (0,), (1,), (5,), (2, 0, 3), (2, 3, 2, 2)]


def array_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    if dtype.kind == "b":
        return GENERATOR.integers(0, 2, shape).astype(bool)
    # Small enough for every type, and without NaN, which is unequal to itself.
    return GENERATOR.integers(0, 100, shape).astype(dtype)


def compare_tfs() -> int:
    """Compare with make_tensor_proto, make_ndarray and the parser of TensorFlow's runtime."""
    import tensorflow as tf  # the environment's
    from tensorflow.core.framework import tensor_pb2

    compared = 0
    for row in dtypes.DTYPES:
        kind = getattr(tf, row.name).as_numpy_dtype
        for shape in SHAPES:
            array = array_of(np.dtype(kind), shape)
            ours = messages.TensorProto()
            tensor_proto.to_tensor_proto(array, ours)
            theirs = tf.make_tensor_proto(array)
            parsed = tf.io.parse_tensor(ours.SerializeToString(), getattr(tf, row.name)).numpy()
            for found in (tf.make_ndarray(tensor_pb2.TensorProto.FromString(ours.SerializeToString())), parsed):
                assert found.dtype == array.dtype, row
                assert found.shape == shape, row
                assert found.tobytes() == array.tobytes(), row
            # Their tensor_content, their typed fields, and those as the runtime writes them.
            typed = tensor_pb2.TensorProto(dtype=theirs.dtype, tensor_shape=theirs.tensor_shape)
            written = tf.io.serialize_tensor(array).numpy()
            for each in (theirs, _fill(typed, row, array), tensor_pb2.TensorProto.FromString(written)):
                found = tensor_proto.from_tensor_proto(each)
                assert found.dtype == array.dtype, row
                assert found.tobytes() == array.tobytes(), row
                compared += 1
    texts = np.array([["é", "b"], ["", "d" * 400]])
    ours = messages.TensorProto()
    tensor_proto.to_tensor_proto(texts, ours)
    assert ours.SerializeToString() == tf.make_tensor_proto(texts).SerializeToString()
    assert tf.io.parse_tensor(ours.SerializeToString(), tf.string).numpy()[0, 0] == "é".encode()
    return compared


def _fill(typed: Any, row: dtypes.DType, array: np.ndarray[Any, Any]) -> Any:
    values = array.ravel()
    if row.wire == "varint" and row.name.endswith("float16"):
        values = values.view(np.uint16)
    elif row.name.startswith("complex"):
        values = values.view(array.real.dtype)
    getattr(typed, row.tfs_field).extend(values.tolist())
    return typed


def compare_triton() -> int:
    """Compare with tritonclient's own inputs and results."""
    import tritonclient.grpc as triton  # the environment's
    from tritonclient.grpc import service_pb2
    from tritonclient.utils import triton_to_np_dtype

    arrays = [array_of(np.dtype(row.name), shape) for row in dtypes.DTYPES for shape in SHAPES if _has_numpy_type(row)]
    arrays += [np.array([["a", "é"], ["", "d" * 400]], object), np.array([b"\x00\xff", b""], object)]
    for array in arrays:
        request = service_pb2.ModelInferRequest.FromString(oip.request("m", {"x": array}).SerializeToString())
        theirs = triton.InferInput("x", list(array.shape), request.inputs[0].datatype)
        theirs.set_data_from_numpy(array)
        assert request.inputs[0] == theirs._get_tensor()
        assert request.raw_input_contents[0] == theirs._get_content()
        answer = service_pb2.ModelInferResponse(raw_output_contents=[theirs._get_content()])
        answer.outputs.add(name="x", datatype=request.inputs[0].datatype, shape=array.shape)
        found, wanted = oip.outputs_of(answer)["x"], triton.InferResult(answer).as_numpy("x")
        assert found.dtype == wanted.dtype == np.dtype(triton_to_np_dtype(request.inputs[0].datatype))
        assert found.shape == wanted.shape
        assert found.tolist() == wanted.tolist()
    return len(arrays)


def _has_numpy_type(row: dtypes.DType) -> bool:
    return bool(row.oip) and row.name != "bfloat16"


def compare_seldon() -> int:
    """Compare with the functions that seldon-core's wrapper decodes and encodes by."""
    from seldon_core import utils  # the environment's
    from seldon_core.proto import prediction_pb2

    compared = 0
    for name in ("float64", "float32", "int32", "bool"):
        for shape in ((0,), (1,), (5,), (2, 3, 2, 2)):
            array = array_of(np.dtype(name), shape)
            for kind in ("tensor", "ndarray"):
                request = seldon.request(array, kind=kind, names=["a", "b"])
                theirs = prediction_pb2.SeldonMessage.FromString(request.SerializeToString())
                found = utils.get_data_from_proto(theirs)
                assert found.shape == shape, (name, shape, kind)
                assert found.tolist() == array.tolist()
                assert list(theirs.data.names) == ["a", "b"]
                answer = prediction_pb2.SeldonMessage(data=utils.array_to_grpc_datadef(kind, array, ["a", "b"]))
                assert seldon.value_of(answer).tolist() == array.tolist()
                compared += 1
    for value in (b"\x89PNG", "text", {"a": [1.0, None, True, "x"]}):
        theirs = prediction_pb2.SeldonMessage.FromString(seldon.request(value).SerializeToString())
        assert utils.get_data_from_proto(theirs) == value
        assert seldon.value_of(theirs) == value
        compared += 1
    texts = np.array([["a", "é"], ["", "d"]])
    theirs = prediction_pb2.SeldonMessage.FromString(seldon.request(texts).SerializeToString())
    assert utils.get_data_from_proto(theirs).tolist() == seldon.value_of(theirs).tolist() == texts.tolist()
    return compared


def call_an_echo() -> None:
    server, address = start(Echo())
    array = GENERATOR.random((3, 2)).astype(np.float32)
    with Client(address, timeout_ms=20_000) as client:
        assert client.predict_tfs("m", {"x": array}).value.tolist() == array.tolist()
        assert client.predict_oip("m", {"x": array}).value.tolist() == array.tolist()
        for kind in ("tensor", "tftensor", "ndarray"):
            assert client.predict_seldon("m", array, kind=kind).value.tolist() == array.tolist()
        with contextlib.suppress(NotFound):
            client.predict_tfs("NOT_FOUND", {"x": array})
            raise AssertionError("there is no such model")
    server.stop(0).wait()


if __name__ == "__main__":
    call_an_echo()
    compared = {"tfs": compare_tfs, "triton": compare_triton, "seldon": compare_seldon}[sys.argv[1]]()
    print(json.dumps({"compared": compared}))
