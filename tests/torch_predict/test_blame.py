"""Whose fault it is when a model raises: the caller's, a hook's, the model's or the server's."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from fixtures.torch_fakes import FakeBatch, FakeItem

from torch_predict.arguments import Argument
from torch_predict.hooks import Hooks
from torch_predict.predictor import Predictor
from torch_predict.signature import Signature, TensorSpec

CPU = torch.device("cpu")
KNOWN = Signature((Argument("x"),), (TensorSpec("x", "float32", (-1, 3)),))


class Layer(torch.nn.Linear):
    def __init__(self, failure=None):
        super().__init__(3, 2)
        self.failure = failure

    def forward(self, x):
        if self.failure is not None:
            raise self.failure
        return super().forward(x)


def predictor(model, preprocess=None, signature=None):
    hooks = Hooks() if preprocess is None else Hooks(preprocess=lambda x, meta: preprocess(x))
    return Predictor(model, hooks, CPU, None, signature)


def failure(predictor, value=None, kind="infer", meta=None):
    value = {"x": np.ones((1, 4), np.float32)} if value is None else value
    batch = FakeBatch(FakeItem(kind, value, meta or {}))
    predictor.answer(batch)
    assert batch.answers == {}
    return batch.failures[0]


def test_what_an_operator_says_of_the_callers_tensors_reaches_the_caller():
    code, text, kind = failure(predictor(Layer()))
    assert (code, kind) == (3, "bad_request")
    assert text.startswith("this model cannot take 'x' float32 [1, 4]: ")
    assert text.endswith("mat1 and mat2 shapes cannot be multiplied (1x4 and 3x2)")


def test_of_what_callers_bring_about_the_log_has_the_traceback_once(caplog):
    asked = predictor(Layer())
    with caplog.at_level(logging.INFO):
        for size in (4, 5, 6):
            failure(asked, {"x": np.ones((1, size), np.float32)})
    assert caplog.text.count("Traceback") == 1
    assert len(caplog.records) == 3


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("password=1"),
        ValueError("password=1"),
        torch.OutOfMemoryError("password=1"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    ],
)
def test_what_the_models_own_code_raises_stays_in_the_log(error):
    assert failure(predictor(Layer(error)))[:2] == (13, "the model failed on this request; request id id-1")


def test_what_a_device_or_memory_fails_with_is_no_callers_fault():
    class Elsewhere(torch.nn.Module):
        def forward(self, x):
            return x + torch.ones(1, 4, device="meta")

    class Huge(torch.nn.Module):
        def forward(self, x):
            return torch.empty(2**55)

    for model in (Elsewhere(), Huge()):
        assert failure(predictor(model))[0] == 13


@pytest.mark.parametrize("made", [np.ones((3, 4)), torch.ones(3, 4, dtype=torch.float64)])
def test_what_preprocess_made_is_judged_before_the_model_and_named(made):
    for kind, value in (("infer", {"x": np.ones(1)}), ("tensor", np.ones(1))):
        code, text, error_kind = failure(predictor(Layer(), lambda x: made, KNOWN), value, kind)
        assert (code, error_kind) == (13, "hook")
        assert "processor.py's preprocess returned 'x' float" in text
        assert "has the shape [3, 4]: this model takes [-1, 3]; request id id-1" in text


def test_what_preprocess_made_is_named_where_only_an_operator_knows():
    _, text, _ = failure(predictor(Layer(), lambda x: np.ones((3, 4))))
    assert text.startswith("processor.py's preprocess returned 'x' float32 [3, 4], which the model cannot take: ")
    assert text.endswith("mat1 and mat2 shapes cannot be multiplied (3x4 and 3x2); request id id-1")
    assert "an array of strings: no tensor" in failure(predictor(Layer(), lambda x: np.array(["a"])))[1]


def test_tags_that_are_no_arguments_of_the_model_are_named():
    meta = {"tags": {"taskId": 39.0, "user": "x"}}
    code, text, _ = failure(predictor(Layer()), np.ones((1, 3)), "tensor", meta)
    assert code == 3
    assert text.startswith("the tags 'taskId', 'user' are no arguments of this model")
