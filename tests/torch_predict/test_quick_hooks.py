"""Answers of hooks that are called for one request after the other: together where hooks are quick, else at once."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from fixtures.torch_fakes import FakeBatch, FakeItem

from torch_predict import predictor
from torch_predict.hooks import Hooks
from torch_predict.predictor import Predictor


def batch(count):
    return FakeBatch(*(FakeItem("tensor", np.full((1, 1), float(index)), {}) for index in range(count)))


def predictor_of(run_model):
    return Predictor(torch.nn.Identity(), Hooks(run_model=lambda model, x, meta: run_model(x)), torch.device("cpu"))


@pytest.fixture
def _generous(monkeypatch):
    """Let hooks be quick on a busy machine, too."""
    monkeypatch.setattr(predictor, "_QUICK_S", 5.0)
    monkeypatch.setattr(predictor, "_KEPT_S", 60.0)


@pytest.mark.usefixtures("_generous")
def test_answers_of_quick_hooks_wait_for_each_other_and_go_out_at_the_end():
    kept = []
    it = predictor_of(lambda x: (kept.append(len(given.kept)), x)[1])
    given = batch(40)
    it.answer(given)
    assert kept == [0] * 33 + list(range(1, 8))  # the first 32 show that they are quick
    assert (given.kept, len(given.answers)) == ([], 40)


@pytest.mark.usefixtures("_generous")
def test_after_one_slow_hook_answers_go_out_at_once(monkeypatch):
    it = predictor_of(lambda x: x)
    it.answer(batch(40))
    monkeypatch.setattr(predictor, "_QUICK_S", 0.5)
    slow = predictor_of(lambda x: (kept.append(len(given.kept)), time.sleep(0.6 if x[0, 0] == 2 else 0), x)[2])
    it.hooks, kept, given = slow.hooks, [], batch(5)
    it.answer(given)
    assert kept == [0, 1, 2, 0, 0]


@pytest.mark.usefixtures("_generous")
def test_answers_wait_for_each_other_for_a_limited_time(monkeypatch):
    it = predictor_of(lambda x: (kept.append(len(given.kept)), time.sleep(0.002), x)[2])
    kept, given = [], batch(32)
    it.answer(given)
    monkeypatch.setattr(predictor, "_KEPT_S", 0.001)
    kept, given = [], batch(4)
    it.answer(given)
    assert kept == [0, 0, 0, 0]


def test_a_hook_that_leaves_gradients_on_does_so_for_no_other_request():
    seen = []
    it = predictor_of(lambda x: (seen.append(torch.is_grad_enabled()), torch.set_grad_enabled(True), x)[2])
    it.answer(batch(3))
    assert seen == [False] * 3
    assert torch.is_grad_enabled()
