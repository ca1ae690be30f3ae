"""What the snippets example's hooks do with texts and tags of every kind."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_predict import InvalidInput
from torch_predict.modules import import_from

FOLDER = Path(__file__).parents[2] / "models" / "snippets"


@pytest.fixture
def processor(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield import_from(FOLDER, "processor")
    del sys.modules["processor"], sys.modules["windows"]


class Counts(torch.nn.Module):
    """Stands for the model: a window's logits are how many a, b and c it has."""

    def __init__(self):
        super().__init__()
        self.device = torch.nn.Parameter(torch.zeros(1))
        self.calls = []

    def forward(self, x):
        self.calls.append(tuple(x.shape))
        return torch.stack([(x == ord(letter)).sum(1).float() for letter in "abc"], 1)


@pytest.mark.parametrize(
    ("x", "texts"),
    [
        ("é\0", ["é "]),
        ("é".encode(), ["é"]),
        (["a", "b"], ["a", "b"]),
        (np.array(["a", "bcd"]), ["a", "bcd"]),
        (np.array("a"), ["a"]),
        (np.array(["é".encode(), b"b"], object), ["é", "b"]),
    ],
)
def test_texts_of_every_kind_become_a_list(processor, x, texts):
    assert processor.preprocess(x, meta={}) == texts


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (b"ab\xff", "byte 2 of text 0 is not UTF-8"),
        ("", "text 0 is empty"),
        (["a", " \n"], "text 1 is empty"),
        ([], "0 texts; send 1 to 64"),
        (["a"] * 65, "65 texts; send 1 to 64"),
        ("é" * 32_769, "65538 bytes; at most 65536"),
        (1.0, "send a text"),
        (None, "send a text"),
        ({"a": "b"}, "send a text"),
        (["a", None], "list of texts"),
        (np.array([["a"]]), "list of texts"),
        (np.zeros((2, 2)), "list of texts"),
    ],
)
def test_anything_else_is_an_invalid_input_that_says_what_to_send(processor, x, text):
    with pytest.raises(InvalidInput, match=text):
        processor.preprocess(x, meta={})


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"top_k": 0.0}, "tag top_k is 0; send a number of 1 to 3"),
        ({"top_k": 4.0}, "tag top_k is 4; send a number of 1 to 3"),
        ({"top_k": 1.5}, "tag top_k is 1.5; send a whole number"),
        ({"top_k": "2"}, "tag top_k is '2'; send a number"),
        ({"top_k": True}, "tag top_k is True; send a number"),
        ({"top_k": None}, "tag top_k is None; send a number"),
        ({"top_k": float("nan")}, "tag top_k is nan"),
        ({"threshold": -0.1}, "tag threshold is -0.1; send a number of 0 to 1"),
        ({"threshold": {}}, "tag threshold is {}; send a number of 0 to 1, or leave it out for 0"),
    ],
)
def test_a_tag_that_makes_no_sense_is_refused_before_the_model_runs(processor, tags, text):
    with pytest.raises(InvalidInput, match=text):
        processor.preprocess("text", meta={"tags": tags})


def test_tags_choose_how_many_languages_are_named_and_from_which_score_on(processor):
    scores = torch.tensor([[0.2, 0.7, 0.1]])

    def answer(**tags):
        return processor.postprocess(scores, meta={"tags": {"model": "snippets", **tags}})["predictions"][0]

    first, second = {"class": "english", "score": pytest.approx(0.7)}, {"class": "cpp", "score": pytest.approx(0.2)}
    assert answer() == {**first, "top": [first]}
    assert answer(top_k=2.0)["top"] == [first, second]
    assert answer(threshold=0.8)["class"] == "unknown"
    assert answer(threshold=0.6)["class"] == "english"
    assert processor.postprocess(scores, meta={})["predictions"] == [answer()]


def test_texts_of_any_length_are_scored_in_one_call_of_the_model(processor):
    model = Counts()
    scores = processor.run_model(model, ["a", "c" * 600, "b" * 256])
    assert model.calls == [(5, 256)]
    assert scores.argmax(1).tolist() == [0, 2, 1]
    assert scores.sum(1).tolist() == pytest.approx([1, 1, 1])


def test_the_texts_beside_it_do_not_change_a_texts_scores(processor):
    texts = ["abc", "aab" * 300, "c"]
    together = processor.run_model(Counts(), texts)
    alone = torch.cat([processor.run_model(Counts(), [text]) for text in texts])
    assert torch.allclose(together, alone)


def test_a_window_is_part_of_one_text_and_all_of_the_text_is_in_windows(processor):
    texts = ["é" * 300, "x", "y" * 257]
    rows, owners = processor.windows(texts)
    assert rows.shape == (6, 200)
    for place, text in enumerate(texts):
        parts = [bytes(row[row > 0].tolist()) for row in rows[owners == place]]
        assert b"".join(parts) == text.encode()
