"""Golden requests of the Open Inference Protocol: how they are read, run and compared."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dl_inference.serving.settings import Golden
from torch_predict import hooks
from torch_predict.oip_samples import METHOD, message_of
from torch_predict.predictor import Predictor
from torch_predict.samples import read
from torch_predict.warmup import WarmUp, warm_up


class Sum(torch.nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left + right


PROCESSOR = """
import torch_predict
def run_model(model, x): return x
def postprocess(x):
    asked = torch_predict.request()
    if isinstance(x, bytes): return {"length": len(x), "score": 0.5}
    if asked.inputs: return [str(asked.inputs)]
    if asked.parameters.get("fail"): raise torch_predict.InvalidInput("as you like")
    return x * 2
"""


def tensor(name: str, *values: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": [1, 2], "contents": {"fp32Contents": [*values]}} | more


def case(*inputs: Any, **more: Any) -> dict[str, Any]:
    return {"method": METHOD, "request": {"inputs": [*inputs]}} | more


def write(folder: Path, *cases: Any) -> Path:
    (folder / "samples").mkdir(exist_ok=True)
    (folder / "samples" / "expected.json").write_text(json.dumps(cases))
    return folder


@pytest.fixture
def warmed(tmp_path: Path):
    """Send cases through a model that adds its inputs, or through hooks that double one."""

    def warm(*cases: Any, has_hooks: bool = False) -> WarmUp:
        own = hooks.Hooks()
        if has_hooks:
            (tmp_path / "processor.py").write_text(PROCESSOR)
            own = hooks.load(tmp_path)
        return warm_up(Predictor(Sum(), own, torch.device("cpu")), write(tmp_path, *cases), Golden())

    return warm


BOTH = (tensor("left", 1.0, 2.0), tensor("right", 10.0, 20.0))


def test_named_inputs_are_compared_by_output_whatever_their_form(warmed):
    raw = {
        "outputs": [{"name": "output", "datatype": "FP32", "shape": [1, 2]}],
        "rawOutputContents": [b64encode(struct.pack("<2f", 11.0, 22.0)).decode()],
    }
    sent_raw = case(*(each | {"contents": None} for each in BOTH), expect=raw)
    for each in sent_raw["request"]["inputs"]:
        del each["contents"]
    sent_raw["request"]["rawInputContents"] = [
        b64encode(struct.pack("<2f", *values)).decode() for values in ((1.0, 2.0), (10.0, 20.0))
    ]
    cases = [
        case(*BOTH, expect={"outputs": [tensor("output", 11.001, 22.0)]}),
        case(*reversed(BOTH), expect={"outputs": [{"name": "output", "datatype": "FP32", "shape": [1, 2]}]}),
        case(*BOTH, expect={"outputs": [{"name": "output"}]}),
        sent_raw,
        case(BOTH[0], error={"code": "INVALID_ARGUMENT", "text": "missing inputs"}),
    ]
    found = warmed(*cases)
    assert found.problems == []
    assert [(each.name, each.dtype, each.shape) for each in found.inputs] == [
        ("left", "float32", (-1, 2)),
        ("right", "float32", (-1, 2)),
    ]
    assert [each.name for each in found.outputs] == ["output"]


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ({"outputs": [tensor("output", 11.0, 23.0)]}, "answer.outputs.output.values[0][1] is 22, not 23: the largest"),
        ({"outputs": [tensor("other", 11.0, 22.0)]}, "answer.outputs.other is missing"),
        ({"outputs": [{"name": "output", "datatype": "FP64"}]}, "output.datatype is 'FP32', not 'FP64'"),
        ({"outputs": [{"name": "output", "shape": [2, 2]}]}, "output.shape[0] is 1, not 2"),
        ({"outputs": [tensor("output", 11.0)]}, "case 0 cannot be read: BadTensorError: output 'output'"),
        ({"output": []}, "case 0 cannot be read: ValueError: Message type"),
    ],
)
def test_an_oip_answer_that_is_not_the_expected_one_is_named_by_its_output(warmed, expect, words):
    (problem,) = warmed(case(*BOTH, expect=expect)).problems
    assert words in problem


def test_files_parameters_and_texts_reach_hooks_as_a_caller_sends_them(warmed, tmp_path: Path):
    write(tmp_path)
    np.save(tmp_path / "samples" / "rows.npy", np.array([[1.5, 2.5]], np.float32))
    (tmp_path / "samples" / "seven.png").write_bytes(b"\x89PNG\0")
    rows = {"name": "rows", "contents": {"file": "rows.npy"}}
    words = {"name": "output", "datatype": "BYTES", "shape": [1]}
    told = {"contents": {"bytesContents": [b64encode(b"{'rows': {'unit': 'mm'}}").decode()]}}
    scored = {"contents": {"bytesContents": [b64encode(b'{"length":5, "score": 0.5000001}').decode()]}}
    failing = case(rows, error={"code": "INVALID_ARGUMENT", "text": "as you like"})
    failing["request"]["parameters"] = {"fail": {"boolParam": True}}
    cases = [
        case(rows, expect={"outputs": [tensor("output", 3.0, 5.0)]}),
        case(rows | {"parameters": {"unit": {"stringParam": "mm"}}}, expect={"outputs": [words | told]}),
        failing,
        case(
            {"name": "binData", "contents": {"file": "seven.png"}},
            expect={"outputs": [words | {"name": "jsonData"} | scored]},
        ),
    ]
    assert warmed(*cases, has_hooks=True).problems == []


def test_a_sample_is_sent_as_the_request_that_it_was_read_from(tmp_path: Path):
    first = case(*BOTH)
    first["request"] |= {"id": "seven", "parameters": {"k": {"int64Param": "3"}}}
    first["request"]["inputs"][0] |= {"parameters": {"unit": {"stringParam": "mm"}}}
    (sample,), problems = read(write(tmp_path, first))
    message = message_of(sample.value, sample.meta, sample.inputs or {})
    assert problems == []
    assert (message.id, message.parameters["k"].int64_param) == ("seven", 3)
    assert [each.name for each in message.inputs] == ["left", "right"]
    assert message.inputs[0].parameters["unit"].string_param == "mm"
    assert np.frombuffer(message.raw_input_contents[1], np.float32).tolist() == [10.0, 20.0]
