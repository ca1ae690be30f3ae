"""What shows that requests may be joined, and what keeps them from it."""

from __future__ import annotations

import json

import pytest
import torch
from torch.export import Dim, export, save

from dl_inference.serving.load_error import LoadError
from torch_predict import hooks, proof, repository
from torch_predict.config import BatchingSettings
from torch_predict.predictor import Predictor
from torch_predict.proof import prove

CPU = torch.device("cpu")


class Twice(torch.nn.Module):
    def forward(self, x):
        return x * 2


class Centred(torch.nn.Module):
    """Its rows depend on each other."""

    def forward(self, x):
        return x - x.mean(0, keepdim=True)


class Summed(torch.nn.Module):
    def forward(self, x):
        return x.sum(0)


class Restless(torch.nn.Module):
    def forward(self, x):
        return x + torch.rand(1)


class Attentive(torch.nn.Module):
    """Of what is padded with zeros, it makes the same as without."""

    def forward(self, x):
        return x.sum(1, keepdim=True)


def program(tmp_path, module, sizes=None):
    dynamic = ({0: Dim("batch", min=1, max=32)},) if sizes is None else sizes
    save(export(module, (torch.ones(2, 3),), dynamic_shapes=dynamic), tmp_path / "model.pt2")
    version = repository.find(tmp_path).versions[-1]
    model = version.runtime.load(version.file, CPU)
    return Predictor(model, hooks.load(tmp_path), CPU, signature=version.runtime.signature(model))


def samples(tmp_path, *rows):
    (tmp_path / "samples").mkdir()

    def case(values):
        return {"shape": [len(values), len(values[0])], "values": [each for row in values for each in row]}

    cases = [{"request": {"data": {"tensor": case(values)}}} for values in rows]
    (tmp_path / "samples" / "expected.json").write_text(json.dumps(cases))


def proved(tmp_path, predictor, **settings):
    return prove(predictor, BatchingSettings(**settings), tmp_path)


def test_a_program_with_one_open_first_axis_is_joined_up_to_its_own_bound(tmp_path):
    found = proved(tmp_path, program(tmp_path, Twice()))
    assert found.is_on
    assert found.max_rows == 32
    assert "requests are joined, 32 rows at most: inputs and outputs share the axis s" in found.reason
    assert "2 inputs gave the same answers alone and joined" in found.reason


def test_a_program_of_a_fixed_size_is_not(tmp_path):
    found = proved(tmp_path, program(tmp_path, Twice(), sizes=({},)))
    assert not found.is_on
    assert found.reason == (
        "requests are not joined: the program was exported without one open first axis for all inputs and outputs; "
        "'batching: {mode: always}' in model.yaml joins them nevertheless"
    )


def test_a_program_whose_rows_depend_on_each_other_is_not_although_it_shares_the_axis(tmp_path):
    found = proved(tmp_path, program(tmp_path, Centred()))
    assert not found.is_on
    assert "its answers to some inputs are others when these are joined" in found.reason


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Twice(), None),
        (Centred(), "others when these are joined"),
        (Summed(), "not one row for each row"),
        (Restless(), "differ from call to call"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_samples_show_whether_any_other_model_may(tmp_path, module, why):
    samples(tmp_path, [[4.0, 5.0, 6.0], [7.0, 8.0, 10.0]], [[1.0, 2.0, 3.0]])
    found = proved(tmp_path, Predictor(module, hooks.Hooks(), CPU))
    assert found.is_on is (why is None)
    assert (why or "2 inputs gave the same answers") in found.reason


def test_without_samples_such_a_model_is_not_joined(tmp_path):
    found = proved(tmp_path, Predictor(Twice(), hooks.Hooks(), CPU))
    assert not found.is_on
    assert "add samples/expected.json" in found.reason


def test_a_run_model_that_takes_one_request_keeps_them_apart(tmp_path):
    (tmp_path / "processor.py").write_text("def run_model(model, x): return model(x)\n")
    predictor = Predictor(Twice(), hooks.load(tmp_path), CPU)
    assert "mark it @torch_predict.joined" in proved(tmp_path, predictor).reason
    with pytest.raises(LoadError, match="takes one request"):
        proved(tmp_path, predictor, mode="always")


def test_the_owner_may_decide(tmp_path):
    centred = Predictor(Centred(), hooks.Hooks(), CPU)
    assert proved(tmp_path, centred, mode="always").is_on
    assert not proved(tmp_path, program(tmp_path, Twice()), mode="never").is_on


@pytest.mark.parametrize(("value", "is_on"), [(0, True), (1, False)])
def test_padding_must_change_no_answer(tmp_path, value, is_on):
    samples(tmp_path, [[1.0, 2.0, 3.0, 4.0]])
    found = proved(tmp_path, Predictor(Attentive(), hooks.Hooks(), CPU), pad={"axis": 1, "value": value})
    assert found.is_on is is_on, found.reason


def test_a_slow_model_is_probed_no_longer_than_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "_LONGEST_S", 0.0)
    samples(tmp_path, *([[float(number), 1.0, 2.0]] for number in range(5)))
    found = proved(tmp_path, Predictor(Twice(), hooks.Hooks(), CPU))
    assert "joined, 64 rows at most: 1 input gave the same answers" in found.reason


def test_a_batch_is_not_rounded_up_to_a_size_that_the_program_does_not_take(tmp_path):
    found = proved(tmp_path, program(tmp_path, Twice()), allowed_rows=(8, 64))
    assert (found.max_rows, found.allowed_rows, found.rounded(20)) == (32, (8,), 20)
