"""Texts as token ids: the real library, with a small tokenizer made here."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.lacking import lacking
from fixtures.processes import ROOT

from torch_predict.errors import InvalidInput


@pytest.fixture(autouse=True)
def _tokenizers() -> None:
    if importlib.util.find_spec("tokenizers") is None:
        lacking("tokenizers is not installed")


def save(file: Path, **options: Any) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "a": 4, "b": 5, "ä": 6}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    if options:
        made.enable_padding(**options)
    made.save(str(file))
    return file


def test_texts_are_padded_to_the_longest_and_cut_at_the_limit(tmp_path: Path):
    from torch_predict.steps import texts

    by = texts.tokenizer(save(tmp_path / "tokenizer.json"), max_length=5)
    found = texts.tokenise(by, ["a", "a b c", "a a a a a a a"])
    assert found["input_ids"].tolist() == [[1, 4, 2, 3, 3], [1, 4, 5, 0, 2], [1, 4, 4, 4, 2]]
    assert found["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert found["input_ids"].dtype == found["attention_mask"].dtype == np.int64
    assert texts.tokenise(by, "a b")["input_ids"].tolist() == [[1, 4, 5, 2]]
    fixed = texts.tokenizer(tmp_path / "tokenizer.json", max_length=6, is_fixed=True)
    assert texts.tokenise(fixed, "a")["input_ids"].tolist() == [[1, 4, 2, 3, 3, 3]]


def test_the_files_own_padding_holds(tmp_path: Path):
    from torch_predict.steps import texts

    by = texts.tokenizer(save(tmp_path / "t.json", direction="left", pad_id=5, pad_token="b"))
    assert texts.tokenise(by, ["a", "a a"])["input_ids"].tolist() == [[5, 1, 4, 2], [1, 4, 4, 2]]


def test_every_form_of_texts_that_a_request_has_is_read(tmp_path: Path):
    from torch_predict.steps import texts

    by = texts.tokenizer(save(tmp_path / "t.json"))
    expected = [[1, 4, 2], [1, 6, 2]]
    for x in (["a", "ä"], np.array(["a", "ä"]), np.array([[b"a"], ["ä".encode()]], object)):
        assert texts.tokenise(by, x)["input_ids"].tolist() == expected
    assert texts.tokenise(by, "")["input_ids"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ([], "not an empty one"),
        (np.array([]), "not an empty one"),
        (b"a", "not bytes"),
        ({"a": 1}, "not dict"),
        (["a", 1], "element 1 is a int"),
        (np.ones(2), "element 0 is a float"),
        (np.array([b"\xff"], object), "text 0 is not UTF-8"),
        (["\ud800"], "cannot be written as UTF-8"),
        (["a" * 600_000, "b" * 500_000], "the texts have 1100000 characters; at most 1000000 are read"),
    ],
    ids=["none", "no elements", "bytes", "dict", "number", "numbers", "not utf-8", "surrogate", "long"],
)
def test_what_are_no_texts_is_the_callers_mistake(tmp_path: Path, x: Any, words: str):
    from torch_predict.steps import texts

    by = texts.tokenizer(save(tmp_path / "t.json"))
    with pytest.raises(InvalidInput, match=words):
        texts.tokenise(by, x)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path):
    from torch_predict.steps import texts

    (tmp_path / "t.json").write_text("{}")
    for name in ("t.json", "missing.json"):
        with pytest.raises(ValueError, match=name):
            texts.tokenizer(tmp_path / name)


def test_the_example_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    guide = (ROOT / "docs" / "torch_predict.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    save(tmp_path / "tokenizer.json")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(next(block for block in blocks if "texts.tokenise" in block), names)
    ids, mask = names["run_model"](lambda *tensors: tensors, names["preprocess"]("a b"))
    assert (ids.tolist(), mask.tolist()) == ([[1, 4, 5, 2]], [[1, 1, 1, 1]])
