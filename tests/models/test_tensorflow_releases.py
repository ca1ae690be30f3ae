"""A TensorFlow example under `serve`: a version that answers otherwise, or with another signature, stays out."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from fixtures.access_process import wait_until
from fixtures.lacking import lacking
from fixtures.processes import ROOT
from fixtures.serve_process import Serve
from google.protobuf.json_format import ParseDict

from dl_inference.messages import PredictRequest, PredictResponse

EXAMPLE = ROOT / "models" / "breast_cancer"
METHOD = "/tensorflow.serving.PredictionService/Predict"
LOAD_S = 240
"""The first import of TensorFlow reads gigabytes."""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def example() -> Path:
    if importlib.util.find_spec("tensorflow") is None:
        lacking("TensorFlow is not installed: make setup")
    if not (EXAMPLE / "2" / "saved_model.pb").is_file():
        subprocess.run([sys.executable, EXAMPLE / "make_model.py"], check=True, timeout=LOAD_S)
    return EXAMPLE


def test_a_tensorflow_version_that_callers_would_notice_is_quarantined_and_the_live_one_answers(
    run, example, tmp_path: Path
):
    model = tmp_path / "models" / "cells"
    case = next(each for each in json.loads((example / "samples" / "expected.json").read_text()) if "expect" in each)
    case["request"]["modelSpec"] = {"name": "cells"}
    (model / "samples").mkdir(parents=True)
    (model / "samples" / "expected.json").write_text(json.dumps([case | {"tolerance": 1e-4}]))
    shutil.copytree(example / "2", model / "1")
    serve = Serve(run, model.parent, real=True, env={"CUDA_VISIBLE_DEVICES": "-1", "TMPDIR": str(tmp_path)})
    request = ParseDict(case["request"], PredictRequest())

    def put(source: Path, version: int, *, renamed: tuple[bytes, bytes] | None = None) -> None:
        made = shutil.copytree(source, tmp_path / f"made-{version}")
        if renamed is not None:
            graph = made / "saved_model.pb"
            graph.write_bytes(graph.read_bytes().replace(*renamed))
        made.rename(model / str(version))

    def wait_quarantined(version: int, step: str, words: str) -> None:
        def is_there() -> bool:
            found = serve.folder("cells")
            kept = [each for each in found["quarantined"] if each["version"] == version]
            return bool(kept) and kept[0]["step"] == step and words in f"{kept[0]['reason']}; {kept[0]['remedy']}"

        wait_until(is_there, f"{version}: {step}: {words}; {serve.folder('cells')}\n{serve.process.log}", LOAD_S)

    with grpc.insecure_channel(serve.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        predict = channel.unary_unary(METHOD, PredictRequest.SerializeToString, PredictResponse.FromString)

        def answering() -> int:
            return predict(request, timeout=LOAD_S).model_spec.version.value

        serve.wait_state("cells", "serving", LOAD_S)
        assert answering() == 1
        put(example / "1", 2)
        wait_quarantined(2, "golden", "case 0: answer.outputs.probabilities.floatVal[")
        wait_quarantined(2, "golden", "golden: {required: false}")
        assert answering() == 1
        put(example / "2", 3, renamed=(b"probabilities", b"probabilitiez"))
        (model / "samples" / "expected.json").unlink()
        wait_quarantined(3, "compare", "output probabilities is gone")
        assert answering() == 1
        (model / "model.yaml").write_text("allow_signature_change: true")
        wait_until(lambda: answering() == 3, f"3 is let through; {serve.folder('cells')}", LOAD_S)
