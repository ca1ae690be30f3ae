"""Golden requests: what is compared, by how much numbers may differ, and what keeps a version from being served."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest

from dl_inference.serving.load_error import LoadError
from dl_inference.serving.report import Reporter, read
from dl_inference.serving.settings import Golden
from torch_predict import loading, repository
from torch_predict.config import ServerSettings
from torch_predict.errors import InvalidInput
from torch_predict.golden import difference, failure
from torch_predict.samples import Sample
from torch_predict.seldon import Answer

PROCESSOR = """
import numpy, torch_predict
def run_model(model, x): return x
def postprocess(x):
    if isinstance(x, str):
        if x == "bad": raise torch_predict.InvalidInput("no such word: bad")
        if x == "leave": raise SystemExit(3)
        return {"word": x, "score": %s}
    return x * 2
"""
MODEL = "import torch\ndef Model(): return torch.nn.Linear(1, 1)\n"


@pytest.fixture
def load(write, tmp_path):
    """Load a model with such cases; return what it reported. It doubles arrays and scores words 0.5."""
    import torch

    def load(cases: Any, score: str = "0.5", **settings: Any) -> Any:
        sys.modules.pop("processor", None)
        text = cases if isinstance(cases, str) else json.dumps(cases)
        folder = write(
            {
                "processor.py": PROCESSOR % score,
                "model.py": MODEL,
                "samples/expected.json": text,
                "model.yaml": json.dumps(settings),
            }
        )
        torch.save({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}, folder / "model.pt")
        found = repository.find(folder)
        reporter = Reporter(tmp_path / "report")
        try:
            loading.load_predictor(
                found,
                found.versions[0],
                allow_pickle=False,
                settings=ServerSettings(torch_threads=1, torch_device="cpu"),
                reporter=reporter,
            )
        except LoadError as error:
            reporter.failed(error)
        return read(tmp_path / "report")

    return load


ARRAY = {"data": {"tensor": {"shape": [1, 2], "values": [1.0, 2.0]}}}


def doubled(*values: float) -> dict[str, Any]:
    return {"data": {"tensor": {"shape": [1, 2], "values": [*values]}}}


def test_expected_answers_within_the_tolerance_let_a_version_be_served(load):
    cases = [
        {"request": ARRAY, "expect": doubled(2.0, 4.003)},
        {"request": {"strData": "a"}, "expect": {"jsonData": {"word": "a"}}},
        {"request": {"strData": "bad"}, "error": {"code": "INVALID_ARGUMENT", "text": "no such word"}},
        {"request": {"strData": "a"}, "expect": {"jsonData": {"score": 0.6}}, "tolerance": 0.2},
    ]
    report = load(cases)
    assert (report.step, report.reason) == ("golden", "")
    assert [each.name for each in report.outputs] == ["output"]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            {"request": ARRAY, "expect": doubled(2.0, 5.0)},
            "case 0: answer.data.tensor.values[1] is 4, not 5: the largest difference is 1; numbers that",
        ),
        ({"request": {"strData": "a"}, "expect": {"jsonData": {"word": "b"}}}, "answer.jsonData.word is 'a', not 'b'"),
        ({"request": {"strData": "a"}, "expect": {"strData": "a"}}, "answer.strData is missing"),
        ({"request": {"strData": "bad"}, "expect": {"jsonData": {}}}, "failed: InvalidInput: no such word: bad"),
        ({"request": {"strData": "leave"}, "expect": {"jsonData": {}}}, "failed: SystemExit"),
        (
            {"request": {"strData": "a"}, "error": {"code": "INVALID_ARGUMENT"}},
            "was answered, and is to fail with INVALID_ARGUMENT",
        ),
        (
            {"request": {"strData": "bad"}, "error": {"code": "NOT_FOUND", "text": "word"}},
            "failed with INVALID_ARGUMENT: no such word: bad, and is to fail with NOT_FOUND: word",
        ),
        ({"request": {"binData": {"file": "none.png"}}, "expect": {}}, "case 0 names"),
    ],
)
def test_an_answer_that_is_not_the_expected_one_keeps_a_version_from_being_served(load, case, words):
    report = load([case])
    assert report.step == "golden"
    assert words in report.reason
    assert "golden: {required: false}" in report.remedy


def test_a_file_of_samples_that_is_cut_off_may_expect_anything_and_is_refused(load):
    report = load('[{"request": {"strData": "a"}, "exp')
    assert report.step == "golden"
    assert "cannot be read as JSON" in report.reason


def test_golden_answers_that_are_not_required_only_warn(load, caplog):
    report = load([{"request": ARRAY, "expect": doubled(2.0, 5.0)}], golden={"required": False})
    assert report.reason == ""
    assert "case 0: answer.data.tensor.values[1] is 4, not 5" in caplog.text


def test_model_yaml_says_by_how_much_numbers_may_differ(load):
    cases = [{"request": ARRAY, "expect": doubled(2.0, 4.4)}]
    assert "values[1] is 4, not 4.4" in load(cases).reason
    assert load(cases, golden={"rtol": 0.2}).reason == ""
    assert load(cases, golden={"atol": 0.5}).reason == ""


def test_a_case_far_down_the_file_is_compared_too(load):
    cases = [{"request": {"strData": "a"}}] * 40 + [{"request": ARRAY, "expect": doubled(0.0, 0.0)}]
    assert "case 40:" in load(cases).reason


def test_nan_where_a_number_is_expected_is_a_difference_and_where_nan_is_expected_it_is_not(load):
    case = {"request": {"strData": "a"}, "expect": {"jsonData": {"score": 0.5}}}
    assert "score is nan, not 0.5" in load([case], score="float('nan')").reason
    case["expect"] = {"jsonData": {"score": "NaN"}}
    assert load([case], score="float('nan')").reason == ""
    assert "score is inf, not nan" in load([case], score="float('inf')").reason


def test_samples_without_an_expected_answer_tell_where_they_got_nan(load):
    report = load([{"request": ARRAY}, {"request": {"strData": "a"}}], score="float('nan')")
    assert sorted(report.nan.values()) == [(), ("jsonData",)]


def test_an_array_tells_where_it_holds_nan_or_infinity_too(load):
    for value, outputs in ((float("nan"), ("output",)), (float("inf"), ("output",)), (1.0, ())):
        request = {"data": {"tensor": {"shape": [1, 2], "values": [value, 1.0]}}}
        assert [*load([{"request": request}]).nan.values()] == [outputs]


def compared(expect: Any, kind: str, value: Any, **settings: Any) -> str:
    return difference(Sample("strData", "", expect=expect), Answer(kind, value, ["t:0"]), Golden(**settings))


def test_every_kind_of_answer_is_compared_in_the_form_that_samples_have():
    array = np.array([[1.0, np.inf]])
    assert compared({"data": {"names": ["t:0"], "tensor": {"values": [1, "Infinity"]}}}, "tensor", array) == ""
    assert compared({"data": {"ndarray": [[1, "a"]]}}, "ndarray", np.array([[1, "a"]], object)) == ""
    assert compared({"strData": "a"}, "strData", "a") == ""
    assert compared({"binData": "YQ=="}, "binData", b"a") == ""
    assert compared({"jsonData": {"a": [True, None]}}, "jsonData", {"a": [True, None]}) == ""
    assert compared({"meta": {"puid": "x"}}, "strData", "a") == ""
    assert "is True, not 1" in compared({"jsonData": {"a": 1}}, "jsonData", {"a": True})
    assert "has 1 elements, not 2" in compared({"jsonData": {"a": [1, 2]}}, "jsonData", {"a": [1]})


def test_the_largest_difference_is_the_one_that_is_named():
    expect = {"jsonData": {"a": [1.0, 2.0, 3.0, 4.0]}}
    text = compared(expect, "jsonData", {"a": [1.5, 2.0, 9.0, 4.1]})
    assert text.startswith("answer.jsonData.a[2] is 9, not 3: the largest difference is 6;")
    assert text.endswith(": 3")
    assert compared(expect, "jsonData", {"a": [1.0, 2.0, 9.0, float("nan")]}).startswith("answer.jsonData.a[3] is nan")


def test_an_error_that_is_expected_is_no_failure():
    sample = Sample("strData", "", error={"code": "INVALID_ARGUMENT", "text": "PNG"})
    assert failure(sample, InvalidInput("send a PNG")) == ""
    assert "is to fail with INVALID_ARGUMENT: PNG" in failure(sample, InvalidInput("send a GIF"))
