"""Joined inputs and split results, as pure functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_predict import joining
from torch_predict.joining import Joining, NotByRowError, Pad

ROWS = st.lists(st.integers(1, 5), min_size=1, max_size=8)


@given(rows=ROWS, trailing=st.lists(st.integers(1, 3), max_size=2), tensors=st.booleans(), named=st.booleans())
def test_what_is_joined_and_split_comes_back_as_it_was(rows, trailing, tensors, named):
    def made(index, count):
        array = np.arange(count * int(np.prod(trailing)), dtype=np.float32).reshape(count, *trailing) + 100 * index
        x = torch.from_numpy(array) if tensors else array
        return {"a": x, "b": x + 1} if named else x

    xs = [made(index, count) for index, count in enumerate(rows)]
    assert len({joining.key_of(x) for x in xs}) == 1
    whole = joining.joined(xs)
    assert joining.rows_of(whole) == sum(rows)
    parts = joining.split((whole, "text", None), rows, sum(rows))
    for x, (part, text, nothing) in zip(xs, parts, strict=True):
        assert (text, nothing) == ("text", None)
        for one, other in zip(x.values() if named else [x], part.values() if named else [part], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("tensors", [False, True])
def test_requests_that_differ_in_a_padded_axis_are_joined_and_their_answers_shortened(tensors):
    pad = Pad(1, -1)
    xs = [np.ones((1, 3)), np.ones((2, 1)), np.ones((1, 2))]
    xs = [torch.from_numpy(x) for x in xs] if tensors else xs
    assert len({joining.key_of(x, pad) for x in xs}) == 1
    assert len({joining.key_of(x) for x in xs}) == 3
    whole = joining.joined(xs, pad)
    assert whole.tolist() == [[1, 1, 1], [1, -1, -1], [1, -1, -1], [1, 1, -1]]
    parts = joining.split(whole, [1, 2, 1], 4, (1, [3, 1, 2]))
    assert [tuple(part.shape) for part in parts] == [(1, 3), (2, 1), (1, 2)]
    assert all((part == 1).all() for part in parts)


@pytest.mark.parametrize(
    "x",
    [
        np.array(["a"]),
        np.array(1.0),
        "text",
        [1.0],
        {},
        {"a": np.ones(2), "b": np.ones(3)},
        {"a": {"b": np.ones(2)}},
        torch.eye(2).to_sparse(),
    ],
    ids=["text array", "rank 0", "text", "list", "empty", "other rows", "nested", "sparse"],
)
def test_what_has_no_rows_of_numbers_is_not_joined(x):
    assert joining.key_of(x) is None


def test_types_shapes_and_names_must_be_the_same():
    xs = [
        np.ones((2, 3)),
        np.ones((2, 3), np.float32),
        np.ones((2, 4)),
        np.ones((2, 3, 1)),
        torch.ones(2, 3),
        {"a": np.ones((2, 3))},
        {"b": np.ones((2, 3))},
    ]
    assert len({joining.key_of(x) for x in xs}) == len(xs)


def test_a_result_with_other_rows_is_refused():
    for result in (np.ones(3), torch.tensor(1.0), {"a": np.ones(2), "b": np.ones(3)}, object()):
        with pytest.raises(NotByRowError):
            joining.split(result, [1, 1], 2)


def test_sizes_are_rounded_up_to_the_allowed_ones_with_the_last_row():
    plan = Joining(allowed_rows=(1, 4, 8))
    assert [plan.rounded(rows) for rows in (1, 2, 4, 5, 8, 9)] == [1, 4, 4, 8, 8, 9]
    assert joining.filled(np.array([[1], [2]]), 4).tolist() == [[1], [2], [2], [2]]
    assert joining.filled({"a": torch.tensor([[1], [2]])}, 3)["a"].tolist() == [[1], [2], [2]]
    assert joining.split(np.arange(4), [1, 1], 4)[1].tolist() == [1]


def test_a_large_input_is_cut_and_its_results_put_together():
    x = {"a": torch.arange(7)}
    cut = list(joining.pieces(x, 3))
    assert [piece["a"].tolist() for piece in cut] == [[0, 1, 2], [3, 4, 5], [6]]
    next(joining.pieces(x, 3))["a"][0] = 9
    assert x["a"][0] == 0
    assert joining.put_together([(piece["a"],) for piece in cut])[0].tolist() == list(range(7))
    with pytest.raises(NotByRowError):
        joining.put_together([torch.tensor(1), torch.tensor(2)])
