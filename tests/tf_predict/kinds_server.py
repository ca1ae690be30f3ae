"""Runs with TensorFlow: makes a SavedModel with a signature of every kind, in two versions, and serves it.

kinds_server.py FOLDER --listen ADDRESS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from dl_inference.messages import PredictionLog
from dl_inference.serving.options import ServeOptions
from tf_predict import server

v1 = tf.compat.v1
DTYPES = (
    *("float16", "float32", "float64", "bfloat16", "complex64", "complex128", "bool", "string"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("qint8", "quint8", "qint16", "quint16", "qint32"),
)
MODEL_YAML = "versions: [1, 2]\nlabels: {stable: 1, latest: 2}\naliases: [39]\n"


def signature(
    inputs: dict[str, Any], outputs: dict[str, Any], method: str, defaults: dict[str, Any] | None = None
) -> Any:
    infos = [{name: v1.saved_model.build_tensor_info(t) for name, t in each.items()} for each in (inputs, outputs)]
    made = v1.saved_model.build_signature_def(*infos, method_name=method)
    for name, value in (defaults or {}).items():
        made.defaults[name].CopyFrom(tf.make_tensor_proto(value))
    return made


def signatures(version: int) -> dict[str, Any]:
    """Every signature: `echo_<dtype>`, the linear one by default, and those for tf.Example."""
    predict = "tensorflow/serving/predict"
    made = {}
    for name in DTYPES:
        x = v1.placeholder(getattr(tf, name), name=f"in_{name}")  # of any rank
        made[f"echo_{name}"] = signature({"x": x}, {"y": tf.identity(x)}, predict)
    a, b = v1.placeholder(tf.float32, [None, 2], "a"), v1.placeholder(tf.float32, [None, 1], "b")
    weights = v1.get_variable("weights", initializer=[[1.0], [10.0]])
    total = tf.matmul(a, weights) + b
    linear = {"sum": total, "text": tf.strings.as_string(total, precision=1), "version": tf.constant(version, tf.int64)}
    made["serving_default"] = signature({"a": a, "b": b}, linear, predict)
    made["with_default"] = signature({"a": a, "b": b}, linear, predict, {"b": [[0.5]]})
    made["strict"] = signature({"a": a}, {"y": tf.debugging.check_numerics(a, "a is not finite")}, predict)
    made["odd"] = signature({"a": a}, {"y": a + 0}, "somebody/else")
    examples = v1.placeholder(tf.string, [None], "examples")
    feature = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]
    labels = tf.where(feature[:, None] > 0, [["yes", "no"]], [["no", "yes"]])
    scores = tf.stack([tf.abs(feature), 1 - tf.abs(feature)], 1)
    classes = "tensorflow/serving/classify"
    inputs = {"inputs": examples}
    made["classify"] = signature(inputs, {"classes": labels, "scores": scores}, classes)
    made["scores"] = signature(inputs, {"scores": scores}, classes)
    made["flat"] = signature(inputs, {"scores": feature}, classes)
    made["regress"] = signature(inputs, {"outputs": feature * 2}, "tensorflow/serving/regress")
    return made


def write_warmup_requests(folder: Path) -> None:
    """Write a request of each kind that TF Serving warms up with."""
    predict, classify, regress, both = (PredictionLog() for _ in range(4))
    request = predict.predict_log.request
    request.model_spec.signature_name = "strict"
    request.inputs["a"].MergeFromString(tf.make_tensor_proto([[1.0, 2.0]]).SerializeToString())
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(0.5)
    for log, name in ((classify.classify_log, "classify"), (regress.regress_log, "regress")):
        log.request.model_spec.signature_name = name
        log.request.input.example_list.examples.add().MergeFromString(example.SerializeToString())
    request = both.multi_inference_log.request
    request.input.CopyFrom(classify.classify_log.request.input)
    for name in ("classify", "regress"):
        task = request.tasks.add(method_name=f"tensorflow/serving/{name}")
        task.model_spec.name, task.model_spec.signature_name = "kinds", name
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for log in (predict, classify, regress, both):
            writer.write(log.SerializeToString())


def make(folder: Path) -> None:
    for version in (1, 2):
        with tf.Graph().as_default(), v1.Session() as session:
            made = signatures(version)
            session.run(v1.global_variables_initializer())
            builder = v1.saved_model.Builder(str(folder / str(version)))
            builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=made)
            builder.save()
    write_warmup_requests(folder / "2")
    (folder / "model.yaml").write_text(MODEL_YAML)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
    sys.exit(server.serve(ServeOptions(model_dir=sys.argv[1], listen=[sys.argv[3]], admin="127.0.0.1:0")))
