"""TensorFlow Serving's own stubs against tf_predict, through the access service."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from fixtures.access_process import Access
from fixtures.lacking import lacking
from fixtures.processes import ROOT, Process

from dl_inference import Client, FailedPrecondition, InvalidArgument, NotFound
from dl_inference.codec import dtypes

PEER = Path(__file__).parent / "tf_predict_peer.py"
# Keras is not needed, and takes a third of the import.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1", "TF_USE_LEGACY_KERAS": "1"}
IMPORT_S = 240
"""The first import of TensorFlow reads gigabytes, and every program of this module imports it."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Access, str, Process]]:
    """Run the server and the access service; give the service, the server's address and its process."""
    if importlib.util.find_spec("tensorflow") is None:
        lacking("TensorFlow is not installed: make setup")
    folder = tmp_path_factory.mktemp("models") / "kinds"
    script = ROOT / "tests" / "tf_predict" / "kinds_server.py"
    started = [Process([sys.executable, script, folder, "--listen", "127.0.0.1:0"], env=QUIET)]

    def run(command: Any, **_: Any) -> Process:
        started.append(Process(command))
        return started[-1]

    try:
        address = started[0].wait_line(r"serving kinds version 2 on (\S+)", timeout_s=IMPORT_S)[1]
        cluster = {"endpoints": [address]}
        config = {"clusters": {"fleet": cluster}, "models": {name: {"cluster": "fleet"} for name in ("kinds", "39")}}
        yield Access(run, tmp_path_factory.mktemp("access"), config), address, started[0]
    finally:
        for process in reversed(started):
            process.kill()
        print(started[0].log)


@pytest.fixture(scope="module")
def found(served: tuple[Access, str, Process], peer_python) -> Any:
    """Run the stubs once; give what they saw."""
    access, address, _ = served
    done = subprocess.run(
        [peer_python("tfs"), PEER, access.address, address],
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | QUIET,
        capture_output=True,
        text=True,
        check=False,
        timeout=IMPORT_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def client(served: tuple[Access, str, Process]) -> Iterator[Client]:
    access, address, _ = served
    access.wait_live(address)
    with Client(access.address, timeout_ms=60_000) as made:
        yield made


def test_our_client_sends_every_type_and_reads_what_tensorflow_answers(client: Client):
    generator = np.random.default_rng(20_261_121)
    for dtype in dtypes.DTYPES:
        kind = np.dtype(ml_dtypes.bfloat16 if dtype.name == "bfloat16" else dtype.name)
        for shape in ((3,), (1, 3, 1), (), (0, 2)):
            array = generator.integers(0, 2 if dtype.name == "bool" else 100, shape).astype(kind)
            back = client.predict_tfs("kinds", {"x": array}, signature=f"echo_{dtype.name}").value
            assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    texts = np.array([["é", "b"], ["", "d" * 400]])
    back = client.predict_tfs("kinds", {"x": texts}, signature="echo_string").value
    assert back.tolist() == [[each.encode() for each in row] for row in texts.tolist()]


def test_our_client_asks_for_versions_outputs_and_what_the_model_takes(client: Client):
    inputs = {"a": np.float32([[1, 2]]), "b": np.float32([[0.5]])}
    answer = client.predict_tfs("kinds", inputs, label="stable")
    assert (answer.model, answer.version, answer.meta) == ("kinds", "1", {"signature_name": "serving_default"})
    np.testing.assert_array_equal(answer.outputs["sum"], np.float32([[21.5]]))
    assert client.predict_tfs("kinds", inputs, version=2, outputs=["version"]).value == 2
    assert client.status_tfs("kinds") == {1: "AVAILABLE", 2: "AVAILABLE"}
    signature = client.signatures_tfs("kinds")["serving_default"]
    assert (signature.inputs["a"].dtype, signature.inputs["a"].shape) == ("float32", (-1, 2))
    assert signature.outputs["text"].dtype == "bytes"


def test_our_client_raises_what_the_server_answers(client: Client):
    x = {"x": np.float32([1])}
    with pytest.raises(NotFound, match=r"Servable not found for request: Specific\(kinds, 7\)"):
        client.predict_tfs("kinds", x, version=7)
    with pytest.raises(FailedPrecondition, match='Serving signature key "x" not found'):
        client.predict_tfs("kinds", x, signature="x")
    with pytest.raises(InvalidArgument, match=r"Expects arg\[0\] to be float but double is provided"):
        client.predict_tfs("kinds", {"a": [[1.0, 2.0]], "b": np.float32([[0.5]])})


def test_every_dtype_goes_in_as_content_or_typed_and_comes_back_typed(found):
    assert found["echoes"] == {}


def test_tensors_that_are_not_quite_right_are_read_as_tensorflow_reads_them(found):
    assert found["parsing"] == {
        "the last of too few repeats": [1, 2, 2],
        "the first of too many count": [1, 2],
        "another field is not read": [0, 0],
        "uint8 300": [44],
        "content wins": [5],
        "strings repeat": ["a", "a"],
    }


def test_predict_answers_outputs_and_who_answered(found):
    answers = found["answers"]
    assert answers["outputs"] == {"sum": [["21.5"]], "text": [["21.5"]], "version": "2"}
    assert answers["spec"] == ["kinds", 2, "serving_default"]
    assert answers["by alias"] == "39"


def test_an_output_filter_chooses_outputs(found):
    assert found["answers"]["filtered"] == ["text"]
    assert found["answers"]["filter of all"] == ["sum", "text", "version"]


def test_a_version_or_a_label_chooses_the_model(found):
    answers = found["answers"]
    assert [answers[key] for key in ("version 1", "version 2", "stable", "latest")] == [1, 2, 1, 2]


def test_an_input_with_a_default_may_be_left_out(found):
    assert found["answers"]["default"] == [[21.5]]


def test_a_signature_for_classes_answers_predict_too(found):
    assert found["answers"]["by classify"] == ["classes", "scores"]


def test_classify_regress_and_multi_inference_answer_examples(found):
    assert found["by_examples"] == {
        "classify": [[["yes", 0.25], ["no", 0.75]], [["no", 0.5], ["yes", 0.5]]],
        "scores": [[["", 0.25], ["", 0.75]]],
        "context": [[["", 0.75], ["", 0.25]]] * 2,
        "regress": [0.5, -2],
        "spec": ["kinds", 2, "regress"],
        "multi": ["classification_result", "regression_result"],
        "multi spec": [["classify", 2], ["regress", 2]],
        "multi value": 0.5,
    }


def test_metadata_and_status_describe_the_model(found):
    assert found["described"] == {
        "spec": ["kinds", 2, ""],
        "signatures": 29,
        "inputs": {"a": [1, [-1, 2]], "b": [1, [-1, 1]]},
        "method": "tensorflow/serving/classify",
        "status": [[2, 30, 0], [1, 30, 0]],
        "status of one": [[1, 30]],
    }


ERRORS = {
    "unknown version": ("NOT_FOUND", "Servable not found for request: Specific(kinds, 7)"),
    "unknown label": ("INVALID_ARGUMENT", "Unrecognized servable version label: x"),
    "unknown signature": ("FAILED_PRECONDITION", 'Serving signature key "x" not found.'),
    "missing input": (
        "INVALID_ARGUMENT",
        "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}.",
    ),
    "no input": (
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=2 len({}) != len({a,b}). Sent extra: {}. Missing but required: {a,b}.",
    ),
    "extra input": (
        "INVALID_ARGUMENT",
        "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). Sent extra: {c}. "
        "Missing but required: {}.",
    ),
    "wrong name": (
        "INVALID_ARGUMENT",
        "Signature input alias: b(feed name: b:0) not found in request and no default value provided. "
        "Inputs expected to be in the request {a,c}, or default input alias set: ",
    ),
    "wrong name, defaults": (
        "INVALID_ARGUMENT",
        "Signature input alias: a(feed name: a:0) not found in request and no default value provided. "
        "Inputs expected to be in the request {b}, or default input alias set: b",
    ),
    "extra name, defaults": (
        "INVALID_ARGUMENT",
        "Inputs contains invalid name. Used request inputs: a, request input: a,c",
    ),
    "short content": ("INVALID_ARGUMENT", "tensor parsing error: a"),
    "no dtype": ("INVALID_ARGUMENT", "tensor parsing error: b"),
    "wrong dtype": ("INVALID_ARGUMENT", "Expects arg[0] to be float but int32 is provided"),
    "wrong dtype, string": ("INVALID_ARGUMENT", "Expects arg[1] to be float but string is provided"),
    "wrong shape": (
        "INVALID_ARGUMENT",
        "Matrix size-incompatible: In[0]: [1,3], In[1]: [2,1]\n\t [[{{node MatMul}}]]",
    ),
    "bad filter": (
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set {sum,text,version}.",
    ),
    "filter twice": ("INVALID_ARGUMENT", "duplicate output tensor alias: sum"),
    "failed operator": (
        "INVALID_ARGUMENT",
        "a is not finite : Tensor had NaN values\n\t [[{{node CheckNumerics}}]]",
    ),
    "odd method": (
        "INTERNAL",
        "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
        "tensorflow/serving/classify, tensorflow/serving/regress}. Was: somebody/else",
    ),
    "classify by predict": (
        "INVALID_ARGUMENT",
        "Expected classification signature method_name to be tensorflow/serving/classify. "
        "Was: tensorflow/serving/predict",
    ),
    "classify unknown": ("INVALID_ARGUMENT", "No signature was found with the name: x"),
    "classify nothing": ("INVALID_ARGUMENT", "Input is empty."),
    "classify flat": ("INVALID_ARGUMENT", "Expected Tensor shape: [batch_size num_classes] but got [1]"),
    "regress by classify": (
        "INVALID_ARGUMENT",
        "Expected regression signature method_name to be tensorflow/serving/regress. Was: tensorflow/serving/classify",
    ),
    "regress unknown": ("INVALID_ARGUMENT", "No signature was found with the name: x"),
    "multi twice": ("INVALID_ARGUMENT", "Duplicate evaluation of signature: regress"),
    "multi unknown": ("INVALID_ARGUMENT", "Requested signature not found in model graph: x"),
    "multi method": ("UNIMPLEMENTED", "Unsupported signature method_name: tensorflow/serving/x"),
    "metadata without field": (
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    "metadata of another field": ("INVALID_ARGUMENT", "Metadata field x is not supported"),
    "status of unknown version": ("NOT_FOUND", "Could not find version 7 of model kinds"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_has_tf_servings_code_and_text(found, case):
    assert tuple(found["errors"][case]) == ERRORS[case]


def test_an_operators_text_that_quotes_bytes_reaches_the_caller(found):
    code, text = found["errors"]["bad example"]
    assert code == "INVALID_ARGUMENT"
    assert "Could not parse example input" in text


def test_a_long_text_is_cut_as_tf_serving_cuts_it(found):
    code, text = found["errors"]["long text"]
    assert code == "INVALID_ARGUMENT"
    assert len(text) == 1024 + len("...TRUNCATED")
    assert text.endswith("x...TRUNCATED")


def test_no_error_is_left_out(found):
    assert set(found["errors"]) == {*ERRORS, "bad example", "long text"}


def test_what_the_access_service_would_answer_itself_has_tf_servings_texts_too(found):
    assert {case: tuple(error) for case, error in found["direct"].items()} == {
        "unknown model": ("NOT_FOUND", "Servable not found for request: Latest(x)"),
        "unknown model, version": ("NOT_FOUND", "Servable not found for request: Specific(x, 7)"),
        "empty name": ("INVALID_ARGUMENT", "ModelSpec has no name specified."),
        "no spec": ("INVALID_ARGUMENT", "Missing ModelSpec"),
        "multi without tasks": ("INVALID_ARGUMENT", "ModelSpec has no name specified."),
        "status of unknown model": ("NOT_FOUND", "Could not find any versions of model x"),
        "reload": (
            "UNIMPLEMENTED",
            "this server serves the one model folder of kinds: change its versions or model.yaml instead",
        ),
    }


def test_a_versions_own_warmup_requests_are_run(served):
    log = served[2].log
    with_file, without = (
        int(re.search(rf"loaded version {number} in .* warmed it up with (\d+) requests", log)[1]) for number in (2, 1)
    )
    assert with_file == without + 4
    assert "warm-up:" not in log


def rest(served: tuple[Access, str, Process], path: str, document: Any = None) -> tuple[int, Any]:
    """Call over HTTP; return the status and the JSON of the answer."""
    access, address, _ = served
    access.wait_live(address)
    data = None if document is None else json.dumps(document).encode()
    try:
        with urllib.request.urlopen(f"http://{access.address}/v1/models/kinds{path}", data, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_over_http_every_type_is_what_it_is_over_grpc(served: tuple[Access, str, Process], client: Client):
    generator = np.random.default_rng(20_261_129)
    for dtype in dtypes.DTYPES:
        if dtype.name.startswith("complex"):
            continue  # JSON has no complex numbers, and TF Serving's has no form for them
        kind = np.dtype(ml_dtypes.bfloat16 if dtype.name == "bfloat16" else dtype.name)
        array = generator.integers(0, 2 if dtype.name == "bool" else 100, (2, 3)).astype(kind)
        signature = f"echo_{dtype.name}"
        over_grpc = client.predict_tfs("kinds", {"x": array}, signature=signature).value
        values = array.astype("f4").tolist() if kind.kind not in "bui" else array.tolist()
        for instances in (values, [{"x": row} for row in values]):
            asked = {"signature_name": signature, "instances": instances}
            status, answer = rest(served, ":predict", asked)
            assert (status, answer["predictions"]) == (200, over_grpc.astype("O").tolist()), (dtype.name, answer)
        assert rest(served, ":predict", {"signature_name": signature, "inputs": {"x": values}})[1] == {
            "outputs": answer["predictions"]
        }


def test_over_http_bytes_go_as_base64_and_text_as_text(served: tuple[Access, str, Process]):
    asked = {"signature_name": "echo_string", "instances": ["é", {"b64": "YQ=="}]}
    assert rest(served, ":predict", asked) == (200, {"predictions": ["é", "a"]})
    status, problem = rest(served, ":predict", {**asked, "instances": [{"b64": "/w=="}]})
    assert (status, problem["kind"]) == (400, "bad_request")
    assert "not UTF-8" in problem["detail"]


def test_over_http_versions_labels_and_columns_are_tf_servings(served: tuple[Access, str, Process]):
    inputs = {"a": [[1, 2]], "b": [[0.5]]}
    status, answer = rest(served, "/labels/stable:predict", {"inputs": inputs})
    assert (status, answer["outputs"]["sum"]) == (200, [[21.5]])
    assert rest(served, "/versions/2:predict", {"inputs": inputs})[1]["outputs"]["version"] == 2
    status, problem = rest(served, "/versions/7:predict", {"inputs": inputs})
    assert (status, problem["error"]) == (404, "Servable not found for request: Specific(kinds, 7)")
    states = rest(served, "")[1]["model_version_status"]
    assert [(each["version"], each["state"]) for each in states] == [("2", "AVAILABLE"), ("1", "AVAILABLE")]
    defined = rest(served, "/metadata")[1]["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert defined["inputs"]["a"]["dtype"] == "DT_FLOAT"
    assert [each["size"] for each in defined["inputs"]["a"]["tensor_shape"]["dim"]] == ["-1", "2"]


@pytest.mark.parametrize(
    ("document", "detail"),
    [
        ({}, "a request has instances, or inputs"),
        ({"instances": [], "inputs": {}}, "and not both"),
        ({"signature_name": "nothing", "inputs": {}}, 'the model has no signature "nothing"; it has'),
        ({"inputs": {"c": 1}}, 'the model has no input "c"; it has a, b'),
        ({"inputs": [[1, 2]]}, "expected an object of the inputs a, b"),
        ({"instances": [{"a": [1, 2], "b": [3]}, {"a": [1, 2]}]}, "1 of 2 instances have no b"),
        ({"instances": [{"a": [1, 2], "b": [3]}, {"a": [1], "b": [3]}]}, "arrays of one length"),
        ({"inputs": {"a": [["x", "y"]], "b": [[0]]}}, "expected a number"),
    ],
)
def test_over_http_what_does_not_fit_the_signature_is_told(
    served: tuple[Access, str, Process], document: Any, detail: str
):
    status, problem = rest(served, ":predict", document)
    assert (status, problem["kind"]) == (400, "bad_request")
    assert detail in problem["detail"]


def test_over_http_examples_have_classes_and_numbers(served: tuple[Access, str, Process]):
    examples = [{"x": 0.25}, {"x": [-1.0]}]
    status, answer = rest(served, ":classify", {"signature_name": "classify", "examples": examples})
    assert (status, answer) == (200, {"results": [[["yes", 0.25], ["no", 0.75]], [["no", 1.0], ["yes", 0.0]]]})
    shared = {"signature_name": "scores", "context": {"x": 0.5}, "examples": [{}]}
    assert rest(served, "/versions/2:classify", shared)[1] == {"results": [[["", 0.5], ["", 0.5]]]}
    status, answer = rest(served, "/labels/stable:regress", {"signature_name": "regress", "examples": examples})
    assert (status, answer) == (200, {"results": [0.5, -2.0]})


def test_over_http_wrong_examples_are_told(served: tuple[Access, str, Process]):
    status, problem = rest(served, ":classify", {"signature_name": "classify", "examples": []})
    assert (status, "send at least one" in problem["error"]) == (400, True)
    status, problem = rest(served, ":regress", {"signature_name": "classify", "examples": [{"x": 1.0}]})
    assert (status, "Expected regression signature" in problem["error"]) == (400, True)
    # A whole number is an INT64, as TF Serving reads it, and this model parses FLOATs.
    status, problem = rest(served, ":classify", {"signature_name": "classify", "examples": [{"x": 1}]})
    assert (status, "error" in problem) == (400, True)
