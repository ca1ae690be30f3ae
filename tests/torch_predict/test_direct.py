"""The short way to a model of one tensor: what takes it, and that it is no other way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures.torch_fakes import FakeBatch, FakeItem

from dl_inference.code import Code
from torch_predict.calling import Model
from torch_predict.hooks import Hooks
from torch_predict.predictor import Predictor
from torch_predict.runtimes.exported import Exported

CPU = torch.device("cpu")


class Twice(torch.nn.Module):
    def forward(self, x):
        return x * 2


def exported(model=None, example=None, dims=None):
    rows = torch.export.Dim("rows", min=1, max=8)
    example = torch.zeros(2, 3) if example is None else example
    return torch.export.export(
        model or Twice(), (example,), dynamic_shapes=({0: rows} if dims is None else dims,)
    ).module()


@pytest.fixture(scope="module")
def program():
    module = exported()
    return Model(module, CPU, Exported().signature(module))


ROW = np.ones((2, 3))


@pytest.mark.parametrize(
    "x",
    [
        ROW,
        ROW.astype(np.int64),
        ROW.astype(bool),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.broadcast_to(1.0, (2, 3)),
        np.ones((8, 3), np.float16),
    ],
    ids=["float64", "int64", "bool", "in another order", "read-only", "most rows"],
)
def test_arrays_that_fit_have_the_same_answer_as_on_the_long_way(program, x):
    assert program.takes(x)
    answer = program.call_direct(x, is_made=False)
    assert answer.dtype is torch.float32
    assert torch.equal(answer, program.call(program.named(x, "tensor"), {}))


@pytest.mark.parametrize(
    "x",
    [
        np.ones((2, 4)),
        np.ones(3),
        np.ones((9, 3)),
        np.ones((0, 3)),
        np.ones((2, 3), complex),
        np.full((2, 3), b"x", object),
        torch.ones(2, 3, dtype=torch.float64),
        torch.nn.Parameter(torch.ones(2, 3)),
        [[1.0, 2.0, 3.0]],
    ],
    ids=["size", "rank", "too many rows", "no rows", "complex", "bytes", "other tensor", "parameter", "list"],
)
def test_what_does_not_fit_goes_the_long_way(program, x):
    assert not program.takes(x)


def test_inputs_by_name_fit_where_it_is_the_models_own(program):
    assert program.takes_named({"x": ROW})
    assert not program.takes_named({"strange": ROW})
    assert not program.takes_named({"x": ROW, "y": ROW})
    assert not program.takes_named({})


@pytest.mark.parametrize(
    "model",
    [
        lambda: Model(lambda a, b: a + b, CPU, None),
        lambda: Model(lambda *x: x, CPU, None),
        lambda: Model(lambda *, x: x, CPU, None),
    ],
    ids=["two arguments", "any number", "keyword only"],
)
def test_models_of_another_form_have_no_short_way(model):
    assert not model().takes(ROW)


def test_a_program_whose_axes_depend_on_each_other_has_no_short_way():
    size = torch.export.Dim("size", min=2, max=8)
    module = exported(example=torch.zeros(3, 3), dims={0: size, 1: size})
    assert not Model(module, CPU, Exported().signature(module)).takes(np.ones((3, 3)))


def test_whole_floats_for_a_program_of_integers_go_the_long_way():
    module = exported(example=torch.zeros(2, 3, dtype=torch.int64))
    model = Model(module, CPU, Exported().signature(module))
    assert not model.takes(ROW)
    batch = FakeBatch(FakeItem("tensor", ROW, {}))
    Predictor(module, Hooks(), CPU, None, Exported().signature(module)).answer(batch)
    assert batch.answers[0][1].tolist() == (ROW * 2).tolist()


def test_a_forward_hook_of_the_users_is_called():
    module = exported()
    module.register_forward_hook(lambda module, given, result: result + 1)
    model = Model(module, CPU, Exported().signature(module))
    assert model.call_direct(ROW, is_made=False).tolist() == [[3.0] * 3] * 2


def test_tags_go_to_the_model_as_ever():
    batch = FakeBatch(FakeItem("tensor", ROW, {"tags": {"strange": 1.0, "other": 2.0}}))
    module = exported()
    Predictor(module, Hooks(), CPU, None, Exported().signature(module)).answer(batch)
    assert batch.failures[0][0] == Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("hooks", "code"), [(Hooks(), Code.INVALID_ARGUMENT), (Hooks(lambda x, meta: x), Code.INTERNAL)]
)
def test_an_operator_that_does_not_take_it_is_the_fault_of_who_made_it(hooks, code):
    batch = FakeBatch(FakeItem("tensor", ROW, {}))
    Predictor(torch.nn.Linear(4, 1), hooks, CPU).answer(batch)
    assert batch.failures[0][0] == code
    assert "2x3" in batch.failures[0][1] or code == Code.INTERNAL
