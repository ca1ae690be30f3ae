"""Every example model answers its samples as models/README.md promises, here without a socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.expectation import differences

from torch_predict import repository
from torch_predict.config import ServerSettings
from torch_predict.errors import RequestError
from torch_predict.loading import load_predictor
from torch_predict.samples import read

MODELS = Path(__file__).parents[2] / "models"
# Those for TensorFlow are in test_tensorflow_examples.py.
CASES = [path for path in MODELS.glob("*/samples/expected.json") if "/tensorflow.serving." not in path.read_text()]
EXAMPLES = sorted(path.parent.parent for path in CASES)


@pytest.fixture(scope="module", autouse=True)
def _as_before():
    directory, path = os.getcwd(), list(sys.path)
    yield
    os.chdir(directory)
    sys.path[:] = path
    for name in ("processor", "model"):
        sys.modules.pop(name, None)


def made(folder: Path) -> Path:
    """Return the example's folder with its model in it."""
    if not any(folder.glob("**/model.pt*")):
        subprocess.run([sys.executable, folder / "make_model.py"], check=True)
    return folder


def as_json(answer):
    """Return an answer in protobuf's JSON form of SeldonMessage."""
    if answer.kind == "tensor":
        tensor = {"shape": list(answer.value.shape), "values": answer.value.ravel().tolist()}
        return {"data": {"names": answer.names, "tensor": tensor}}
    if answer.kind == "ndarray":
        return {"data": {"names": answer.names, "ndarray": answer.value}}
    return {answer.kind: answer.value}


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_an_example_answers_its_samples(folder):
    found = repository.find(made(folder))
    assert repository.check(folder) == []
    predictor = load_predictor(found, found.chosen()[-1], allow_pickle=False, settings=ServerSettings(torch_threads=1))
    cases = json.loads((folder / "samples" / "expected.json").read_text())
    samples, _ = read(folder)
    assert len(samples) == len(cases)
    for case, sample in zip(cases, samples, strict=True):
        if "error" in case:
            with pytest.raises(RequestError) as caught:
                predictor.predict(sample)
            assert caught.value.code.name == case["error"]["code"]
            assert case["error"]["text"] in caught.value.text
            continue
        answer = predictor.predict(sample)
        assert differences(case["expect"], as_json(answer), case.get("tolerance", 0)) == []


def test_there_is_an_example():
    assert [folder.name for folder in EXAMPLES]
