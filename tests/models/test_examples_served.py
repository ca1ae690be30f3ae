"""Every example model, served by its server, answers its samples over gRPC; its client prints the answers."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from fixtures.expectation import differences
from fixtures.processes import ROOT, Process
from google.protobuf.json_format import MessageToDict, ParseDict

from dl_inference.messages import SeldonMessage

CASES = (ROOT / "models").glob("*/samples/expected.json")
# Those for TensorFlow are in test_tensorflow_examples.py.
EXAMPLES = sorted(path.parent.parent for path in CASES if "/tensorflow.serving." not in path.read_text())
SERVE = """
import sys
from dl_inference.serving.options import ServeOptions
from torch_predict.server import serve
sys.exit(serve(ServeOptions(model_dir=sys.argv[1], listen=["127.0.0.1:0"])))
"""

pytestmark = pytest.mark.timeout(300)  # making a model and importing torch take long where the cores are shared


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda path: path.name)
def served(request):
    """Serve an example, made first where it has no model; give its folder and address."""
    folder: Path = request.param
    if not any(folder.glob("**/model.pt*")):
        subprocess.run([sys.executable, folder / "make_model.py"], check=True)
    process = Process([sys.executable, "-c", SERVE, folder], env={"DL_INFERENCE_TORCH_THREADS": "1"})
    yield folder, process.wait_line(r"serving \S+ version \d+ on (\S+)", timeout_s=180)[1]
    process.kill()


def as_message(request: dict, samples: Path) -> SeldonMessage:
    """Return a case's request with the files that it names read in."""
    request = json.loads(json.dumps(request))
    data, text, tensor = request.get("binData"), request.get("strData"), request.get("data", {}).get("tensor", {})
    if isinstance(data, dict):
        request["binData"] = base64.b64encode((samples / data["file"]).read_bytes()).decode()
    if isinstance(text, dict):
        request["strData"] = (samples / text["file"]).read_text()
    if "file" in tensor:
        file = samples / tensor["file"]
        rows = np.array(np.load(file) if file.suffix == ".npy" else json.loads(file.read_text()))
        request["data"]["tensor"] = {"shape": list(rows.shape), "values": rows.ravel().tolist()}
    return ParseDict(request, SeldonMessage())


def test_a_served_example_answers_its_samples(served):
    folder, address = served
    with grpc.insecure_channel(address) as channel:
        predict = channel.unary_unary(
            "/seldon.protos.Model/Predict",
            request_serializer=SeldonMessage.SerializeToString,
            response_deserializer=SeldonMessage.FromString,
        )
        for case in json.loads((folder / "samples" / "expected.json").read_text()):
            message = as_message(case["request"], folder / "samples")
            if "error" in case:
                with pytest.raises(grpc.RpcError) as caught:
                    predict(message, timeout=10)
                assert caught.value.code().name == case["error"]["code"]
                assert case["error"]["text"] in caught.value.details()
                continue
            answer = MessageToDict(predict(message, timeout=10))
            assert differences(case["expect"], answer, case.get("tolerance", 0)) == []


def test_an_examples_client_prints_an_answer_for_each_sample(served):
    folder, address = served
    files = sorted(folder.glob("samples/*.*"))
    files = [file for file in files if file.name != "expected.json"]
    command = [sys.executable, folder / "client.py", address, *files]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert len(lines) == len(files)
    for file, line in zip(files, lines, strict=True):
        assert line.startswith(f"{file}: ")
        assert file.stem in line.removeprefix(str(file))
