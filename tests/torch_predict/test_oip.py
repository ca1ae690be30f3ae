"""OIP requests through the predictor, without a front."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from fixtures.torch_fakes import FakeBatch, FakeItem

from torch_predict.hooks import Hooks
from torch_predict.oip import hook_input_of, outputs_of
from torch_predict.predictor import Predictor

CPU = torch.device("cpu")


def one(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def ask(inputs, model, hooks=None, meta=None):
    batch = FakeBatch(FakeItem("infer", inputs, meta or {}))
    Predictor(model, hooks or Hooks(), CPU).answer(batch)
    return batch


def answer(inputs, model, hooks=None, meta=None):
    batch = ask(inputs, model, hooks, meta)
    assert batch.failures == {}
    kind, value, names = batch.answers[0]
    assert (kind, names) == ("infer", [])
    return value


class Pair(torch.nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=dtype))

    def forward(self, a, b=None):
        self.seen = a, b
        return {"sum": a + (0 if b is None else b), "a": a}


def test_a_dict_of_tensors_becomes_outputs_by_name():
    value = answer({"b": np.full(2, 10), "a": np.ones(2)}, Pair())
    assert {name: array.tolist() for name, array in value.items()} == {"sum": [11.0, 11.0], "a": [1.0, 1.0]}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
def test_floats_are_cast_to_the_models_dtype_and_come_back_in_it(dtype):
    for sent in (np.float16, np.float32, np.float64):
        model = Pair(dtype)
        value = answer({"a": np.ones(2, sent)}, model)
        assert model.seen[0].dtype is dtype
        assert value["sum"].dtype.name == str(dtype).removeprefix("torch.")
        assert value["sum"].astype(np.float32).tolist() == [1.0, 1.0]


def test_integers_stay_what_they_are():
    model = Pair()
    answer({"a": np.ones(2, np.int32), "b": np.ones(2, np.uint8)}, model)
    assert [x.dtype for x in model.seen] == [torch.int32, torch.uint8]


def test_several_results_without_names_are_numbered():
    assert list(answer({"x": np.ones(2)}, lambda x: (x, x + 1))) == ["output_0", "output_1"]
    assert list(answer({"x": np.ones(2)}, lambda x: [x, x + 1])) == ["output_0", "output_1"]
    assert list(answer({"x": np.ones(2)}, lambda x: (x,))) == ["output"]


def test_parameters_are_no_arguments_of_the_model():
    seen = []

    def model(x, **tags):
        seen.append(tags)
        return x

    meta = {"tags": {"priority": 1, "timeout": 5}}
    answer({"x": np.ones(2)}, model, meta=meta)
    answer({"x": np.ones(2)}, model, Hooks(preprocess=lambda x, meta: x), meta)
    assert seen == [{}, {}]


def test_hooks_get_the_array_of_one_input_and_a_dict_of_several():
    seen = []
    hooks = Hooks(preprocess=lambda x, meta: seen.append((x, meta)) or x, run_model=lambda model, x, meta: "done")
    array = np.ones((1, 2), np.float16)
    answer({"x": array}, None, hooks, {"puid": "7"})
    answer({"x": array, "y": array}, None, hooks)
    assert seen[0][0] is array
    assert seen[0][1] == {"puid": "7"}
    assert list(seen[1][0]) == ["x", "y"]


def test_a_dict_from_preprocess_goes_to_the_arguments_that_it_names():
    halved = Hooks(preprocess=lambda x, meta: {name: array / 2 for name, array in x.items()})
    value = answer({"b": np.full(2, 10.0), "a": np.ones(2)}, Pair(), halved)
    assert value["sum"].tolist() == [5.5, 5.5]
    other = Hooks(preprocess=lambda x, meta: {"c": torch.from_numpy(x["a"])})
    assert answer({"a": np.ones(1), "b": np.ones(1)}, lambda x: x["c"], other)["output"].tolist() == [1.0]


def test_postprocess_alone_gets_what_the_model_gave():
    hooks = Hooks(postprocess=lambda x, meta: {"best": int(x.argmax())})
    value = answer({"x": np.array([1.0, 3.0])}, lambda x: x, hooks)
    assert json.loads(value["jsonData"].item()) == {"best": 1}


def test_every_kind_of_result_has_its_output():
    def items(result):
        return {name: (array.dtype.name, array.tolist()) for name, array in outputs_of(result).items()}

    assert items([1, 2]) == {"output": ("int64", [1, 2])}
    assert items(["a", "b\0"]) == {"output": ("object", ["a", "b\0"])}
    assert items([b"a\0"]) == {"output": ("object", [b"a\0"])}
    assert items(np.array([True])) == {"output": ("bool", [True])}
    assert items(torch.ones(1, requires_grad=True)) == {"output": ("float32", [1.0])}
    assert items({"a": np.ones(1), "b": torch.zeros(1)}) == {"a": ("float64", [1.0]), "b": ("float32", [0.0])}
    assert items({"a": np.float64(1)}) == {"jsonData": ("object", [b'{"a": 1.0}'])}
    assert items({"a": np.ones(1), "b": np.int64(1)}) == {"jsonData": ("object", [b'{"a": [1.0], "b": 1}'])}
    assert items({}) == {"jsonData": ("object", [b"{}"])}
    assert items("é") == {"strData": ("object", ["é".encode()])}
    assert items(bytearray(b"\xff")) == {"binData": ("object", [b"\xff"])}


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (1.0, "it is a float"),
        (None, "it is a NoneType"),
        ([[1], [1, 2]], "ragged"),
        (np.array([1j]), "complex128"),
        ((np.ones(1), "text"), "'output_1' is a str"),
        ((np.ones(1), None), "'output_1' is a NoneType"),
        ({"a": {1, 2}}, "it is a set; make it a dict"),
        ((), "it is an empty tuple; return at least one output"),
    ],
)
def test_what_no_output_can_hold_is_an_error_of_the_hook(result, text):
    hooks = Hooks(run_model=lambda model, x, meta: result)
    batch = ask({"x": np.ones(1)}, None, hooks)
    code, message, kind = batch.failures[0]
    assert (code, kind) == (13, "hook")
    assert text in message


def test_only_the_named_single_elements_stand_for_seldons_payloads():
    assert hook_input_of({"binData": one(b"\xff")}) == b"\xff"
    assert hook_input_of({"strData": one("é".encode())}) == "é"
    assert hook_input_of({"jsonData": one(b'{"a": [1, null]}')}) == {"a": [1.0, None]}
    assert isinstance(hook_input_of({"other": one(b"x")}), np.ndarray)
    assert list(hook_input_of({"binData": one(b"x"), "y": one(b"x")})) == ["binData", "y"]
