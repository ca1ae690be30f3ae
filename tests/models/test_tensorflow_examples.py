"""Every TensorFlow example, served by `dl-inference predict`, answers its samples; its client prints the answers."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from fixtures.expectation import differences
from fixtures.lacking import lacking
from fixtures.processes import ROOT, Process
from google.protobuf.json_format import MessageToDict, ParseDict

from dl_inference import messages
from tf_predict.service import METHODS

CASES = (ROOT / "models").glob("*/samples/expected.json")
EXAMPLES = sorted(path.parent.parent for path in CASES if "/tensorflow.serving." in path.read_text())
ANSWERS = {"Predict": messages.PredictResponse, "Classify": messages.ClassificationResponse}
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
IMPORT_S = 240
"""The first import of TensorFlow reads gigabytes."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda path: path.name)
def served(request):
    """Serve an example, made first where it has no model; give its folder and address."""
    if importlib.util.find_spec("tensorflow") is None:
        lacking("TensorFlow is not installed: make setup")
    folder: Path = request.param
    if not any(folder.glob("*/saved_model.pb")):
        subprocess.run([sys.executable, folder / "make_model.py"], check=True, timeout=IMPORT_S)
    command = [sys.executable, "-m", "dl_inference.cli", "predict", folder, "--listen", "127.0.0.1:0"]
    process = Process(command, env=ENVIRONMENT)
    yield folder, process.wait_line(r"serving \S+ version \d+ on (\S+)", timeout_s=IMPORT_S)[1]
    process.kill()
    print(process.log)


def test_there_is_an_example():
    assert EXAMPLES


def test_a_served_tensorflow_example_answers_its_samples(served):
    folder, address = served
    with grpc.insecure_channel(address) as channel:
        for case in json.loads((folder / "samples" / "expected.json").read_text()):
            answer_class = ANSWERS[case["method"].rpartition("/")[2]]
            request = ParseDict(case["request"], METHODS[case["method"]].request())
            call = channel.unary_unary(
                case["method"], lambda message: message.SerializeToString(), answer_class.FromString
            )
            if "error" in case:
                with pytest.raises(grpc.RpcError) as caught:
                    call(request, timeout=20)
                assert caught.value.code().name == case["error"]["code"]
                assert case["error"]["text"] in caught.value.details()
                continue
            answer = MessageToDict(call(request, timeout=20))
            assert differences(case["expect"], answer, case.get("tolerance", 0)) == []


def test_a_tensorflow_examples_client_prints_an_answer_for_each_sample(served):
    folder, address = served
    files = sorted(file for file in folder.glob("samples/*.*") if file.name != "expected.json")
    command = [sys.executable, folder / "client.py", address, *files]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert len(lines) == len(files)
    for file, line in zip(files, lines, strict=True):
        assert line.startswith(f"{file}: ")
        assert file.stem in line.removeprefix(str(file))
