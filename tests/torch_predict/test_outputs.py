"""What a model gives by itself, as both protocols send it: through the predictor, without a front."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures.torch_fakes import FakeBatch, FakeItem

from torch_predict.hooks import Hooks
from torch_predict.predictor import Predictor

T = torch.tensor([1.0, 2.0])


def ask(result, kind, value):
    batch = FakeBatch(FakeItem(kind, value))
    Predictor(lambda x: result, Hooks(), torch.device("cpu")).answer(batch)
    return batch


def outputs(result):
    batch = ask(result, "infer", {"x": np.zeros(1)})
    assert batch.failures == {}
    return {name: array.tolist() for name, array in batch.answers[0][1].items()}


def sent(result, kind="tensor"):
    batch = ask(result, kind, np.zeros(1) if kind == "tensor" else [0.0])
    assert batch.failures == {}
    kind, value, _ = batch.answers[0]
    return kind, value.tolist() if hasattr(value, "tolist") else value


@pytest.mark.parametrize(
    ("result", "in_oip", "in_json"),
    [
        ((T, None), {"output_0": [1.0, 2.0]}, {"output_0": [1.0, 2.0], "output_1": None}),
        (
            (T, (T.int(), [T.bool()])),
            {"output_0": [1.0, 2.0], "output_1_0": [1, 2], "output_1_1_0": [True, True]},
            {"output_0": [1.0, 2.0], "output_1": [[1, 2], [[True, True]]]},
        ),
        (((T, T),), {"output_0": [1.0, 2.0], "output_1": [1.0, 2.0]}, {"output_0": [1.0, 2.0], "output_1": [1.0, 2.0]}),
        (
            {"scores": T, "boxes": {"left": T, "right": None}, "past": (T,)},
            {"scores": [1.0, 2.0], "boxes_left": [1.0, 2.0], "past_0": [1.0, 2.0]},
            {"scores": [1.0, 2.0], "boxes": {"left": [1.0, 2.0], "right": None}, "past": [[1.0, 2.0]]},
        ),
        (
            (T, 3, 0.5, True, "text", [4, 5]),
            {
                "output_0": [1.0, 2.0],
                "output_1": 3,
                "output_2": 0.5,
                "output_3": True,
                "output_4": "text",
                "output_5": [4, 5],
            },
            {
                "output_0": [1.0, 2.0],
                "output_1": 3,
                "output_2": 0.5,
                "output_3": True,
                "output_4": "text",
                "output_5": [4, 5],
            },
        ),
    ],
)
def test_each_part_of_what_a_model_gives_has_a_name_in_every_protocol(result, in_oip, in_json):
    assert outputs(result) == in_oip
    assert sent(result) == ("jsonData", in_json)


@pytest.mark.parametrize("result", [torch.tensor(3.0), 3.0, (torch.tensor(3.0),)])
def test_a_single_number_is_sent_by_every_protocol(result):
    assert outputs(result) == {"output": 3.0}
    assert sent(result) == ("tensor", 3.0)
    assert sent(result, "ndarray") == ("ndarray", [3.0])


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "the model returned None; return a tensor, or a tuple, list or dict of tensors"),
        ((T, {1, 2}), "'output_1' is a set"),
        ((T, {"a": object()}), "'output_1_a' is a object"),
        ((T, torch.complex(T, T)), "'output_1' is complex64"),
        ({"a": {"b": T}, "a_b": T}, "two of the model's outputs would be called 'a_b'"),
        ((None, None), "'output_0' is a NoneType; return"),
    ],
)
def test_a_part_that_cannot_be_sent_is_named_with_what_to_return(result, words):
    code, message, kind = ask(result, "infer", {"x": np.zeros(1)}).failures[0]
    assert (code, kind) == (13, "hook")
    assert words in message
    assert "return" in message or "rename" in message


def test_a_model_that_returns_none_is_told_so_in_every_protocol():
    assert "the model returned None; return a tensor" in ask(None, "tensor", np.zeros(1)).failures[0][1]
