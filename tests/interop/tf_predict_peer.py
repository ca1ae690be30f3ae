"""Runs in .peers/tfs: TensorFlow Serving's own stubs call tf_predict's model `kinds`; prints what came back as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

ARRAYS: dict[str, list[Any]] = {
    "float16": [1.5, -0.0, float("inf")],
    "float32": [1.5, float("nan"), 3e38],
    "float64": [1e300, float("-inf"), 0.1],
    "bfloat16": [1.5, -2.0, 3e38],
    "int8": [-128, 127, 0],
    "int16": [-32768, 32767, 0],
    "int32": [-(2**31), 2**31 - 1, 0],
    "int64": [-(2**63), 2**63 - 1, 0],
    "uint8": [0, 255, 1],
    "uint16": [0, 65535, 1],
    "uint32": [0, 2**32 - 1, 1],
    "uint64": [0, 2**64 - 1, 1],
    "bool": [True, False, True],
    "string": [b"", b"\x00\xff", "ü".encode()],
    "complex64": [1 + 2j, -1j, 0],
    "complex128": [1e300 + 2j, -1j, 0],
}
QUANTIZED = {
    "qint8": [-128, 127],
    "quint8": [0, 255],
    "qint16": [-5, 5],
    "quint16": [0, 65535],
    "qint32": [-7, 2**31 - 1],
}


class Caller:
    def __init__(self, address: str) -> None:
        channel = grpc.insecure_channel(address)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(self, inputs: dict[str, Any], signature: str = "", **spec: Any) -> Any:
        return self.predictions.Predict(request(inputs, signature, **spec), timeout=30)


def request(inputs: dict[str, Any], signature: str = "", *, only: tuple[str, ...] = (), **spec: Any) -> Any:
    made = predict_pb2.PredictRequest(output_filter=only)
    name_model(made, signature, **spec)
    for name, value in inputs.items():
        is_message = isinstance(value, tensor_pb2.TensorProto)
        made.inputs[name].CopyFrom(value if is_message else tf.make_tensor_proto(value))
    return made


def name_model(made: Any, signature: str = "", name: str = "kinds", version: int = 0, label: str = "") -> Any:
    made.model_spec.name, made.model_spec.signature_name = name, signature
    if version:
        made.model_spec.version.value = version
    if label:
        made.model_spec.version_label = label
    return made


def error_of(call: Callable[[], Any]) -> list[str]:
    try:
        return ["OK", str(call())]
    except grpc.RpcError as error:
        return [error.code().name, error.details()]


def same(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def echoes(caller: Caller) -> dict[str, str]:
    """Send each dtype as tensor_content, then the typed answer once more; return what is wrong."""
    found = {}
    for name, values in ARRAYS.items():
        dtype = getattr(tf, name)
        for shape in ([3], [1, 3, 1], []):
            array = (
                np.array(values, dtype.as_numpy_dtype).reshape(shape)
                if shape
                else np.array(values[0], dtype.as_numpy_dtype)
            )
            sent = tf.make_tensor_proto(array, dtype=dtype)
            first = caller.predict({"x": sent}, f"echo_{name}").outputs["y"]
            second = caller.predict({"x": first}, f"echo_{name}").outputs["y"]
            back = tf.make_ndarray(first)
            equal = back.tolist() == array.tolist() if name == "string" else same(np.asarray(back), array)
            if first.tensor_content or first != second or not equal or first.dtype != sent.dtype:
                found[f"{name} {shape}"] = f"sent {sent} got {first} then {second}"
        if not values or name == "string":
            continue
        filled = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=sent.tensor_shape)
        empty = caller.predict({"x": tf.make_tensor_proto(np.zeros([0, 2], dtype.as_numpy_dtype))}, f"echo_{name}")
        if list(tf.make_ndarray(empty.outputs["y"]).shape) != [0, 2]:
            found[f"{name} empty"] = str(empty)
        zeros = caller.predict({"x": filled}, f"echo_{name}").outputs["y"]
        if np.asarray(tf.make_ndarray(zeros)).astype(bool).any():
            found[f"{name} without values"] = str(zeros)
    for name, values in QUANTIZED.items():
        sent = tensor_pb2.TensorProto(dtype=getattr(types_pb2, f"DT_{name.upper()}"), int_val=values)
        sent.tensor_shape.dim.add(size=len(values))
        got = caller.predict({"x": sent}, f"echo_{name}").outputs["y"]
        if got != sent:
            found[name] = f"sent {sent} got {got}"
    return found


def parsing(caller: Caller) -> dict[str, Any]:
    """Answer what TensorFlow's parser makes of tensors that are not quite right."""

    def echo(name: str, size: int, **fields: Any) -> Any:
        sent = tensor_pb2.TensorProto(dtype=getattr(types_pb2, f"DT_{name.upper()}"), **fields)
        sent.tensor_shape.dim.add(size=size)
        signature = {"float": "float32"}.get(name, name)
        return tf.make_ndarray(caller.predict({"x": sent}, f"echo_{signature}").outputs["y"]).tolist()

    return {
        "the last of too few repeats": echo("float", 3, float_val=[1, 2]),
        "the first of too many count": echo("float", 2, float_val=[1, 2, 3]),
        "another field is not read": echo("float", 2, double_val=[1, 2]),
        "uint8 300": echo("uint8", 1, int_val=[300]),
        "content wins": echo("float", 1, tensor_content=np.float32(5).tobytes(), float_val=[1]),
        "strings repeat": [text.decode() for text in echo("string", 2, string_val=[b"a"])],
    }


def answers(caller: Caller) -> dict[str, Any]:
    a, b = np.array([[1, 2]], np.float32), np.array([[0.5]], np.float32)
    both = {"a": a, "b": b}
    answer = caller.predict(both)
    spec = answer.model_spec
    filtered = caller.predict(both, only=("text",))
    return {
        "outputs": {
            name: tf.make_ndarray(tensor).astype(str).tolist() for name, tensor in sorted(answer.outputs.items())
        },
        "spec": [spec.name, spec.version.value, spec.signature_name],
        "filtered": sorted(filtered.outputs),
        "filter of all": sorted(caller.predict(both, only=("version", "sum", "text")).outputs),
        "version 1": tf.make_ndarray(caller.predict(both, version=1).outputs["version"]).tolist(),
        "version 2": tf.make_ndarray(caller.predict(both, version=2).outputs["version"]).tolist(),
        "stable": caller.predict(both, label="stable").model_spec.version.value,
        "latest": caller.predict(both, label="latest").model_spec.version.value,
        "default": tf.make_ndarray(caller.predict({"a": a}, "with_default").outputs["sum"]).tolist(),
        "by alias": caller.predict(both, name="39").model_spec.name,
        "by classify": sorted(caller.predict({"inputs": [example(0.5)]}, "classify").outputs),
    }


def example(x: float) -> bytes:
    return tf.train.Example(
        features=tf.train.Features(feature={"x": tf.train.Feature(float_list=tf.train.FloatList(value=[x]))})
    ).SerializeToString()


def filled(made: Any, values: list[float], context: float | None = None) -> Any:
    if context is None:
        made.input.example_list.examples.extend(tf.train.Example.FromString(example(x)) for x in values)
    else:
        made.input.example_list_with_context.context.MergeFromString(example(context))
        made.input.example_list_with_context.examples.extend(tf.train.Example() for _ in values)
    return made


def classification(signature: str, values: list[float], **more: Any) -> Any:
    return filled(name_model(classification_pb2.ClassificationRequest(), signature), values, **more)


def regression(signature: str, values: list[float]) -> Any:
    return filled(name_model(regression_pb2.RegressionRequest(), signature), values)


def multi(*tasks: tuple[str, str]) -> Any:
    made = filled(inference_pb2.MultiInferenceRequest(), [0.25])
    for signature, method in tasks:
        name_model(made.tasks.add(method_name=f"tensorflow/serving/{method}"), signature)
    return made


def by_examples(caller: Caller) -> dict[str, Any]:
    def classes(made: Any) -> Any:
        found = caller.predictions.Classify(made, timeout=30)
        return [[[each.label, round(each.score, 3)] for each in row.classes] for row in found.result.classifications]

    regressed = caller.predictions.Regress(regression("regress", [0.25, -1]), timeout=30)
    both = caller.predictions.MultiInference(multi(("classify", "classify"), ("regress", "regress")), timeout=30)
    return {
        "classify": classes(classification("classify", [0.25, -0.5])),
        "scores": classes(classification("scores", [0.25])),
        "context": classes(classification("scores", [0, 0], context=0.75)),
        "regress": [each.value for each in regressed.result.regressions],
        "spec": [regressed.model_spec.name, regressed.model_spec.version.value, regressed.model_spec.signature_name],
        "multi": [result.WhichOneof("result") for result in both.results],
        "multi spec": [[each.model_spec.signature_name, each.model_spec.version.value] for each in both.results],
        "multi value": both.results[1].regression_result.regressions[0].value,
    }


def described(caller: Caller) -> dict[str, Any]:
    made = name_model(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]))
    answer = caller.predictions.GetModelMetadata(made, timeout=30)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(signatures)
    found = signatures.signature_def["serving_default"]
    status = caller.models.GetModelStatus(name_model(get_model_status_pb2.GetModelStatusRequest()), timeout=30)
    one = caller.models.GetModelStatus(name_model(get_model_status_pb2.GetModelStatusRequest(), version=1), timeout=30)
    return {
        "spec": [answer.model_spec.name, answer.model_spec.version.value, answer.model_spec.signature_name],
        "signatures": len(signatures.signature_def),
        "inputs": {
            name: [info.dtype, [dim.size for dim in info.tensor_shape.dim]] for name, info in found.inputs.items()
        },
        "method": signatures.signature_def["classify"].method_name,
        "status": [[each.version, each.state, each.status.error_code] for each in status.model_version_status],
        "status of one": [[each.version, each.state] for each in one.model_version_status],
    }


def errors(caller: Caller) -> dict[str, list[str]]:
    a, b = np.array([[1, 2]], np.float32), np.array([[0.5]], np.float32)
    both = {"a": a, "b": b}
    short = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"abc")
    nothing = tensor_pb2.TensorProto()
    calls: dict[str, Callable[[], Any]] = {
        "unknown version": lambda: caller.predict(both, version=7),
        "unknown label": lambda: caller.predict(both, label="x"),
        "unknown signature": lambda: caller.predict(both, "x"),
        "missing input": lambda: caller.predict({"a": a}),
        "no input": lambda: caller.predict({}),
        "extra input": lambda: caller.predict({**both, "c": b}),
        "wrong name": lambda: caller.predict({"a": a, "c": b}),
        "wrong name, defaults": lambda: caller.predict({"b": b}, "with_default"),
        "extra name, defaults": lambda: caller.predict({"a": a, "c": b}, "with_default"),
        "short content": lambda: caller.predict({"a": short, "b": b}),
        "no dtype": lambda: caller.predict({"a": a, "b": nothing}),
        "wrong dtype": lambda: caller.predict({"a": a.astype(np.int32), "b": b}),
        "wrong dtype, string": lambda: caller.predict({"a": a, "b": [["x"]]}),
        "wrong shape": lambda: caller.predict({"a": np.ones([1, 3], np.float32), "b": b}),
        "bad filter": lambda: caller.predict(both, only=("z",)),
        "filter twice": lambda: caller.predict(both, only=("sum", "sum")),
        "failed operator": lambda: caller.predict({"a": np.full([1, 2], np.nan, np.float32)}, "strict"),
        "odd method": lambda: caller.predict({"a": a}, "odd"),
        "long text": lambda: caller.predict({f"{'x' * 400}{i}": b for i in range(4)}),
        "classify by predict": lambda: caller.predictions.Classify(classification("", [0]), timeout=30),
        "classify unknown": lambda: caller.predictions.Classify(classification("x", [0]), timeout=30),
        "classify nothing": lambda: caller.predictions.Classify(classification("classify", []), timeout=30),
        "classify flat": lambda: caller.predictions.Classify(classification("flat", [0]), timeout=30),
        "regress by classify": lambda: caller.predictions.Regress(regression("classify", [0]), timeout=30),
        "regress unknown": lambda: caller.predictions.Regress(regression("x", [0]), timeout=30),
        "bad example": lambda: caller.predict({"inputs": [b"\xff"]}, "regress"),
        "multi twice": lambda: caller.predictions.MultiInference(
            multi(("regress", "regress"), ("regress", "regress")), timeout=30
        ),
        "multi unknown": lambda: caller.predictions.MultiInference(multi(("x", "regress")), timeout=30),
        "multi method": lambda: caller.predictions.MultiInference(multi(("regress", "x")), timeout=30),
        "metadata without field": lambda: caller.predictions.GetModelMetadata(
            name_model(get_model_metadata_pb2.GetModelMetadataRequest()), timeout=30
        ),
        "metadata of another field": lambda: caller.predictions.GetModelMetadata(
            name_model(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["x"])), timeout=30
        ),
        "status of unknown version": lambda: caller.models.GetModelStatus(
            name_model(get_model_status_pb2.GetModelStatusRequest(), version=7), timeout=30
        ),
    }
    return {name: error_of(call) for name, call in calls.items()}


def direct_errors(caller: Caller) -> dict[str, list[str]]:
    """What the access service would answer itself: calls for models that are not there."""
    predict = caller.predictions.Predict
    unnamed = request({}, name="")
    absent = predict_pb2.PredictRequest()
    status, reload = get_model_status_pb2.GetModelStatusRequest, model_management_pb2.ReloadConfigRequest
    return {
        "unknown model": error_of(lambda: predict(request({}, name="x"), timeout=30)),
        "unknown model, version": error_of(lambda: predict(request({}, name="x", version=7), timeout=30)),
        "empty name": error_of(lambda: predict(unnamed, timeout=30)),
        "no spec": error_of(lambda: predict(absent, timeout=30)),
        "multi without tasks": error_of(lambda: caller.predictions.MultiInference(multi(), timeout=30)),
        "status of unknown model": error_of(lambda: caller.models.GetModelStatus(name_model(status(), name="x"))),
        "reload": error_of(lambda: caller.models.HandleReloadConfigRequest(reload(), timeout=30)),
    }


if __name__ == "__main__":
    through, straight = Caller(sys.argv[1]), Caller(sys.argv[2])
    parts = (echoes, parsing, answers, by_examples, described, errors)
    print(json.dumps({part.__name__: part(through) for part in parts} | {"direct": direct_errors(straight)}))
