"""The best classes of scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torch_predict.steps.classes import top_k


def test_each_row_has_its_best_classes_first():
    scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]], requires_grad=True)
    found = top_k(scores, ["a", "b", "c"], 2)
    assert [[each["class"] for each in row] for row in found] == [["b", "c"], ["a", "c"]]
    assert [[each["index"] for each in row] for row in found] == [[1, 2], [0, 2]]
    assert found[0][0]["score"] == pytest.approx(0.7)


def test_equal_scores_keep_their_order_and_one_row_may_come_alone():
    found = top_k(np.array([1, 3, 3, 1]), k=9)
    assert [each["class"] for each in found[0]] == ["1", "2", "0", "3"]
    assert top_k(np.zeros((0, 3))) == []
    many = top_k(np.arange(999) % 2, k=999)[0]
    assert [each["index"] for each in many] == [*range(1, 999, 2), *range(0, 999, 2)]


def test_logits_become_probabilities_without_overflow():
    (row,) = top_k(torch.tensor([[1000.0, 1000.0, -1000.0]], dtype=torch.bfloat16), softmax=True)
    assert [each["score"] for each in row] == [0.5, 0.5, 0.0]
    assert type(row[0]["score"]) is float
    assert type(row[0]["index"]) is int


@pytest.mark.parametrize(
    ("scores", "options", "words"),
    [
        (np.zeros((2, 3, 4)), {}, r"the shape \[2, 3, 4\]"),
        (np.array([[1, np.nan]]), {}, "NaN"),
        (np.zeros((1, 3)), {"labels": ["a"]}, "of 3 classes, and there are 1 labels"),
        (np.zeros((1, 3)), {"k": 0}, "k is 0"),
    ],
)
def test_what_are_no_scores_is_a_fault_of_the_hook(scores: np.ndarray, options: dict[str, object], words: str):
    with pytest.raises(ValueError, match=words):
        top_k(scores, **options)
