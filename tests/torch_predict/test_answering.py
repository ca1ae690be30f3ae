"""Batches through hooks and model: what is joined, and whose error is whose."""

from __future__ import annotations

import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.torch_fakes import FakeBatch, FakeItem

from dl_inference.code import Code
from torch_predict import InvalidInput, hooks
from torch_predict.joining import Joining, Pad
from torch_predict.predictor import Predictor

CPU = torch.device("cpu")
ON = Joining(is_on=True)


class Model:
    """Doubles its input and notes what it was called with; fails where a number is 13."""

    def __init__(self):
        self.rows = []

    def __call__(self, x):
        self.rows.append(len(x))
        if (x == 13).any():
            raise RuntimeError("thirteen")
        return x * 2


class Counts:
    def __init__(self):
        self.calls, self.left = [], 0

    def measured(self, calls, rows, *stages):
        self.calls.append((calls, rows))
        assert min(stages) >= 0

    def left_out(self, calls):
        self.left += calls


def predictor(own=None, joining=ON, model=None):
    made = Predictor(model or Model(), own or hooks.Hooks(), CPU)
    made.joining = joining
    return made


def tensor(*rows, **meta):
    return FakeItem("tensor", np.array(rows, np.float64), meta)


@pytest.mark.parametrize("hook", ["preprocess(x", "run_model(model, x", "postprocess(x"])
def test_a_joined_hook_gets_the_tags_of_its_requests_and_of_one_that_is_alone_everything(tmp_path, hook):
    source = f"seen = []\n@torch_predict.joined\ndef {hook}, meta):\n    seen.append(meta)\n    return x\n"
    own = load(tmp_path, source)
    seen = sys.modules["processor"].seen
    tags = {"tags": {"lang": "en"}}
    batch = FakeBatch(tensor([1.0], puid="a", **tags), tensor([2.0], puid="b", **tags), tensor([3.0], puid="c"))
    predictor(own, model=lambda x: x).answer(batch)
    assert seen == [tags, {"puid": "c"}]
    seen.clear()
    predictor(own, model=lambda x: x).answer(FakeBatch(tensor([1.0], puid="a"), tensor([2.0], puid="b")))
    assert seen == [{}]


def load(tmp_path, source):
    (tmp_path / "processor.py").write_text("import torch_predict\n" + source)
    return hooks.load(tmp_path)


def test_the_model_is_called_once_for_all_and_each_gets_its_own_rows():
    counts, it = Counts(), predictor()
    batch = FakeBatch(tensor([1.0]), tensor([2.0], [3.0]), tensor([4.0]))
    it.answer(batch, counts)
    assert it.model.module.rows == [4]
    assert counts.calls == [(3, 4)]
    assert [batch.answers[index][1].tolist() for index in range(3)] == [[[2]], [[4], [6]], [[8]]]


def test_where_the_model_fails_only_the_request_to_blame_does():
    it = predictor()
    batch = FakeBatch(*(tensor([float(number)]) for number in range(16)))
    it.answer(batch)
    assert list(batch.failures) == [13]
    assert {index: answer[1].item() for index, answer in batch.answers.items()} == {
        number: 2 * number for number in range(16) if number != 13
    }
    assert len(it.model.module.rows) == 9


def test_an_error_of_a_hook_belongs_to_its_request(tmp_path):
    own = load(
        tmp_path,
        """
def preprocess(x):
    if x[0, 0] == 1: raise torch_predict.InvalidInput("one")
    return x
def postprocess(x):
    if x[0, 0] == 4: raise torch_predict.Error("ABORTED", "two")
    return x.numpy()
""",
    )
    batch = FakeBatch(*(tensor([float(number)]) for number in range(4)))
    predictor(own).answer(batch)
    assert {index: failure[:2] for index, failure in batch.failures.items()} == {
        1: (Code.INVALID_ARGUMENT, "one"),
        2: (Code.ABORTED, "two"),
    }
    assert {index: answer[1].item() for index, answer in batch.answers.items()} == {0: 0, 3: 6}


def test_requests_of_other_shapes_or_tags_are_joined_among_themselves():
    it = predictor(model=(model := Model()))
    tags = {"tags": {"taskId": "3"}}
    batch = FakeBatch(tensor([1.0]), tensor([1.0, 2.0]), tensor([3.0]), tensor([4.0], **tags), tensor([5.0], **tags))
    it.answer(batch)
    assert sorted(model.rows) == [1, 2, 2]
    assert len(batch.answers) == 5


def test_a_larger_request_is_cut_and_smaller_ones_fill_batches_of_at_most_max_rows():
    it = predictor(joining=replace(ON, max_rows=4))
    batch = FakeBatch(tensor(*[[float(row)] for row in range(10)]), *(tensor([1.0], [2.0], [3.0]) for _ in range(3)))
    it.answer(batch)
    assert sorted(it.model.module.rows) == [2, 3, 3, 3, 4, 4]
    assert batch.answers[0][1][:, 0].tolist() == [2.0 * row for row in range(10)]


def test_batches_are_rounded_up_to_the_sizes_that_are_allowed():
    it = predictor(joining=replace(ON, allowed_rows=(4, 64)))
    batch = FakeBatch(tensor([1.0]), tensor([2.0]))
    it.answer(batch)
    it.answer(lone := FakeBatch(tensor([3.0])))
    assert it.model.module.rows == [4, 4]
    assert [batch.answers[0][1].tolist(), batch.answers[1][1].tolist()] == [[[2]], [[4]]]
    assert lone.answers[0][1].tolist() == [[6]]


def test_ragged_requests_are_padded_where_that_is_set():
    it = predictor(joining=replace(ON, pad=Pad(1, 0)))
    batch = FakeBatch(tensor([1.0, 2.0, 3.0]), tensor([4.0]))
    it.answer(batch)
    assert it.model.module.rows == [2]
    assert [batch.answers[0][1].tolist(), batch.answers[1][1].tolist()] == [[[2, 4, 6]], [[8]]]


def test_a_model_whose_answers_have_no_rows_is_asked_for_each_from_then_on():
    it = predictor(model=lambda x: x.sum())
    batch = FakeBatch(tensor([1.0]), tensor([2.0]))
    it.answer(batch)
    assert not it.joining.is_on
    assert [batch.answers[index][1].item() for index in range(2)] == [1, 2]


def test_a_request_that_nobody_waits_for_does_not_come_to_the_model():
    counts, it = Counts(), predictor()
    batch = FakeBatch(tensor([1.0]), tensor([2.0]), tensor([3.0]))
    batch.is_gone = lambda index: index == 1
    it.answer(batch, counts)
    assert it.model.module.rows == [2]
    assert (sorted(batch.answers), batch.failures, counts.left) == ([0, 2], {}, 1)


def test_joined_hooks_get_all_rows_at_once(tmp_path):
    own = load(
        tmp_path,
        """
@torch_predict.joined
def preprocess(x):
    assert len(x) == 3
    return x + 1
@torch_predict.joined
def run_model(model, x):
    return model(x)
@torch_predict.joined
def postprocess(x):
    return x - len(x)
""",
    )
    batch = FakeBatch(tensor([1.0]), tensor([2.0], [3.0]))
    predictor(own).answer(batch)
    assert batch.failures == {}
    assert [batch.answers[0][1].tolist(), batch.answers[1][1].tolist()] == [[[1]], [[3], [5]]]


def test_batched_hooks_give_each_request_a_result_or_an_error_of_its_own(tmp_path):
    own = load(
        tmp_path,
        """
@torch_predict.batched
def preprocess(xs, metas):
    return [torch_predict.InvalidInput("no " + x) if x == "b" else {"x": x, **meta} for x, meta in zip(xs, metas)]
@torch_predict.batched
def run_model(model, xs):
    return [{**x, "of": len(xs)} for x in xs]
@torch_predict.batched
def postprocess(xs):
    return [KeyError("c") if x["x"] == "c" else x for x in xs]
""",
    )
    batch = FakeBatch(*(FakeItem("strData", text, {"puid": text}) for text in "abcd"))
    it = predictor(own, Joining())
    assert it.is_joining
    it.answer(batch)
    assert batch.failures[1][:2] == (Code.INVALID_ARGUMENT, "no b")
    assert batch.failures[2][0] == Code.INTERNAL
    assert [batch.answers[index][1] for index in (0, 3)] == [
        {"x": "a", "puid": "a", "of": 3},
        {"x": "d", "puid": "d", "of": 3},
    ]
    assert it.predict(FakeItem("strData", "e", {})).value == {"x": "e", "of": 1}
    with pytest.raises(InvalidInput, match="no b"):
        it.predict(FakeItem("strData", "b", {}))


def test_a_batched_hook_that_changed_its_inputs_and_then_failed_gets_them_again_as_they_were(tmp_path):
    own = load(
        tmp_path,
        """
@torch_predict.batched
def preprocess(xs):
    for x in xs:
        x += 1
        if x[0, 0] == 3: raise ValueError("three")
    return xs
""",
    )
    batch = FakeBatch(*(tensor([float(number)]) for number in range(4)))
    predictor(own).answer(batch)
    assert list(batch.failures) == [2]
    assert {index: answer[1].item() for index, answer in batch.answers.items()} == {0: 2, 1: 4, 3: 8}


@pytest.mark.parametrize("returned", ["[x.numpy() for x in xs][:1]", "7"])
def test_a_batched_hook_that_returns_another_number_of_results_fails_each_by_itself(tmp_path, returned):
    own = load(tmp_path, f"@torch_predict.batched\ndef postprocess(xs):\n    return {returned}\n")
    batch = FakeBatch(tensor([1.0]), tensor([2.0]))
    predictor(own).answer(batch)
    if returned == "7":
        assert "batched" in batch.failures[0][1]
        assert len(batch.failures) == 2
    else:  # which is right for one
        assert len(batch.answers) == 2


@pytest.mark.parametrize("seed", range(20))
def test_rows_and_identities_are_never_mixed(seed):
    """Random sizes, shapes, kinds, errors and callers that go; each answer is the one to its own request."""
    rng = random.Random(seed)
    plan = replace(ON, max_rows=rng.choice([2, 5, 64]), allowed_rows=rng.choice([(), (1,)]))
    plan = replace(plan, allowed_rows=(plan.max_rows,) if plan.allowed_rows else ())
    items, gone = [], set()
    for index in range(rng.randrange(1, 40)):
        value = np.full((rng.randrange(1, 8), rng.choice([1, 3])), float(index))
        value[rng.randrange(len(value))] += 0.25
        if rng.random() < 0.1:
            value[-1] = 13
        kind = rng.choice(["tensor", "ndarray", "infer", "strData"])
        value = {"ndarray": value.tolist(), "infer": {"x": value}, "strData": "x"}.get(kind, value)
        items.append(FakeItem(kind, value, {"puid": str(index)}))
        if rng.random() < 0.1:
            gone.add(index)
    batch = FakeBatch(*items)
    batch.is_gone = gone.__contains__
    predictor(joining=plan).answer(batch)
    for index, item in enumerate(items):
        value = item.value["x"] if item.kind == "infer" else item.value
        if index in gone:
            assert index not in batch.answers
        elif item.kind == "strData" or (np.array(value) == 13).any():
            assert index in batch.failures
        else:
            answer = batch.answers[index][1]
            answer = answer["output"] if item.kind == "infer" else answer
            np.testing.assert_array_equal(answer, np.array(value) * 2)


def test_the_front_takes_together_what_is_alike_before_the_first_hook_that_makes_shapes(tmp_path):
    each = "def preprocess(x): return x\n"
    cases = [
        ("", "shapes"),
        ("@torch_predict.joined\n" + each, "shapes"),
        (each, "tags"),
        ("@torch_predict.batched\n" + each, "tags"),
        ("@torch_predict.batched\ndef run_model(model, xs): return xs\n", "all"),
    ]
    for index, (source, alike) in enumerate(cases):
        folder = tmp_path / str(index)
        folder.mkdir()
        assert predictor(load(folder, source)).alike == alike, source
    assert predictor(joining=Joining()).alike == "all"
