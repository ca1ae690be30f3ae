"""Golden requests of TensorFlow folders, and what `serve` is told of their signatures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in_server import FLOAT, STRING, StandIn

from dl_inference.local.compare import changes
from dl_inference.messages import SignatureDef
from dl_inference.serving.load_error import LoadError
from dl_inference.serving.report import Report, Reporter, read
from tf_predict import repository, signature
from tf_predict.config import ModelSettings
from tf_predict.loading import Loader
from tf_predict.samples import METHOD
from tf_predict.servable import Output
from tf_predict.versions import Versions

INT64, HALF = 9, 19


class Giving(StandIn):
    """Answers every request with the same tensor; none with refusing what it has no signature for."""

    def __init__(self, dtype: int, *values: Any) -> None:
        super().__init__(0)
        self._given = Output(dtype, np.array(values, {FLOAT: np.float32, INT64: np.int64, HALF: np.float16}[dtype]))

    def run(self, feeds: Any, fetches: Any) -> list[Output]:
        return [self._given]


def case(*values: float, expect: Any = None, error: Any = None, **spec: Any) -> dict[str, Any]:
    x = {"dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": len(values)}]}, "floatVal": [*values]}
    said = {"expect": expect} if expect is not None else {} if error is None else {"error": error}
    return {"method": METHOD, "request": {"modelSpec": {"name": "m"} | spec, "inputs": {"x": x}}} | said


def y(**tensor: Any) -> dict[str, Any]:
    return {"outputs": {"y": tensor}, "modelSpec": {"version": "77"}}


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Any]:
    """Load version 1 of a model folder that has such samples; return what was reported and the versions."""

    def load(*cases: Any, servable: Any = None, number: int = 1, **settings: Any) -> tuple[Report, Versions]:
        place = tmp_path / "m" / str(number)
        place.mkdir(parents=True, exist_ok=True)
        (place / "saved_model.pb").touch()
        (tmp_path / "m" / "model.yaml").write_text(json.dumps(settings))
        (tmp_path / "m" / "samples").mkdir(exist_ok=True)
        (tmp_path / "m" / "samples" / "expected.json").write_text(json.dumps(cases))
        folder = repository.find(tmp_path / "m")
        versions = Versions("m", folder.settings)
        reporter = Reporter(tmp_path / "report")
        loader = Loader(versions, lambda path, threads: servable or StandIn(10.0), 1)
        (version,) = [each for each in folder.versions if each.number == number]
        try:
            loader.load(folder, version, reporter)
        except LoadError as error:
            reporter.failed(error)
        return read(tmp_path / "report"), versions

    return load


def test_expected_answers_let_a_version_answer(load):
    cases = [
        case(1.0, 2.0, expect=y(dtype="DT_FLOAT", floatVal=[11.0, 12.001])),
        case(1.0, expect=y(floatVal=[11.5])) | {"tolerance": 0.6},
        case(1.0, signatureName="none", error={"code": "FAILED_PRECONDITION", "text": "not found"}),
    ]
    report, versions = load(*cases)
    assert (report.step, report.reason) == ("golden", "")
    assert versions.available() == (1,)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (case(1.0, expect=y(floatVal=[12.0])), "case 0: answer.outputs.y.floatVal[0] is 11, not 12: the largest"),
        (case(1.0, expect={"outputs": {"z": {}}}), "answer.outputs.z is missing"),
        (case(1.0, error={"code": "INVALID_ARGUMENT"}), "was answered, and is to fail with INVALID_ARGUMENT"),
        (case(1.0, signatureName="no", expect={}), "failed: FAILED_PRECONDITION: Serving signature key"),
        (case(1.0, signatureName="no", error={"code": "NOT_FOUND"}), "failed with FAILED_PRECONDITION: Serving"),
        ({"method": METHOD, "request": {"what": 1}, "expect": {}}, "case 0 cannot be read: ParseError"),
    ],
)
def test_an_answer_that_is_not_the_expected_one_keeps_a_version_from_answering(load, wrong, words):
    report, versions = load(wrong)
    assert report.step == "golden"
    assert words in report.reason
    assert "golden: {required: false}" in report.remedy
    assert report.is_final
    assert versions.available() == ()


def test_answers_that_are_not_required_only_warn(load, caplog):
    report, versions = load(case(1.0, expect=y(floatVal=[12.0])), golden={"required": False})
    assert (report.reason, versions.available()) == ("", (1,))
    assert "floatVal[0] is 11, not 12" in caplog.text


def test_a_case_is_compared_by_the_version_that_it_names_and_by_all_where_it_names_none(load):
    wrong = y(floatVal=[0.0])
    others = [case(1.0, version="2", expect=wrong), case(1.0, versionLabel="new", expect=wrong)]
    others += [case(1.0, name="other", error={"code": "NOT_FOUND"})]
    load(number=2)
    assert load(*others, labels={"new": 2}, versions=[1, 2])[0].reason == ""
    assert load(*others, labels={"new": 2}, versions=[1, 2], number=2)[0].reason.count("case 0:") == 1
    assert load(case(1.0, versionLabel="new", expect=wrong), labels={"new": 1})[0].reason != ""
    assert load(case(1.0, expect=wrong))[0].reason != ""


def test_a_version_that_answered_otherwise_is_tried_again_when_its_expected_answers_change(load, tmp_path: Path):
    _, versions = load()
    expected = tmp_path / "m" / "samples" / "expected.json"
    expected.write_text(json.dumps([case(1.0, expect=y(floatVal=[12.0]))]))
    (tmp_path / "m" / "2").mkdir()
    (tmp_path / "m" / "2" / "saved_model.pb").touch()
    loader = Loader(versions, lambda path, threads: StandIn(10.0), 1)
    served: list[Any] = []
    for _ in range(3):
        loader.follow(tmp_path / "m", served.append)
    assert served[-1] == {1}
    expected.write_text(json.dumps([case(1.0, expect=y(floatVal=[11.0]))]))
    for _ in range(2):
        loader.follow(tmp_path / "m", served.append)
    assert served[-1] == {2}


def test_zeros_long_numbers_and_halves_are_compared_as_numbers(load):
    right = case(1.0, expect=y(int64Val=["3", 4], tensorShape={"dim": [{"size": 2}]}))
    assert load(right, servable=Giving(INT64, 3, 4))[0].reason == ""
    nothing = case(1.0, expect=y(tensorShape={"dim": [{"size": 0}]}, floatVal=[]))
    assert load(nothing, servable=Giving(FLOAT))[0].reason == ""
    bits = np.array([1.0, 2.0], np.float16).view(np.uint16).tolist()
    halves = case(1.0, expect=y(dtype="DT_HALF", halfVal=bits))
    assert load(halves, servable=Giving(HALF, 1.0, 2.0005))[0].reason == ""
    assert "halfVal[1] is 3, not 2" in load(halves, servable=Giving(HALF, 1.0, 3.0))[0].reason
    assert "floatVal[0] is 5, not 0" in load(case(1.0, expect=y(floatVal=[0.0])), servable=Giving(FLOAT, 5.0))[0].reason


def test_samples_without_an_expected_answer_tell_which_outputs_hold_nan(load):
    found = [load(case(1.0), servable=Giving(FLOAT, value))[0].nan for value in (1.0, float("nan"), float("inf"))]
    assert [[*each.values()] for each in found] == [[()], [("y",)], [("y",)]]


def defined(method: str = "predict", dtype: int = FLOAT, shape: Any = (-1, 3), **names: str) -> Any:
    made: Any = SignatureDef(method_name=f"tensorflow/serving/{method}")
    for side, name in ((made.inputs, names.get("x", "x")), (made.outputs, names.get("y", "y"))):
        side[name].dtype = dtype
        side[name].tensor_shape.unknown_rank = shape is None
        for size in shape or ():
            side[name].tensor_shape.dim.add(size=size)
    return made


def compared(live: dict[str, Any], new: dict[str, Any]) -> str:
    return "; ".join(
        changes(*(Report(inputs=signature.inputs_of(each), outputs=signature.outputs_of(each)) for each in (live, new)))
    )


LIVE = {"serving_default": defined(), "more": defined("classify", dtype=STRING, shape=None)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"serving_default": defined(y="z")}, "output y is gone"),
        ({"serving_default": defined(dtype=INT64)}, "input x is int64, and was float32; output y is int64, and was"),
        ({"serving_default": defined(shape=(-1, 4))}, "input x has the size 4 on axis 1, and had 3"),
        ({"serving_default": defined(shape=None)}, ""),
        ({"more": defined("predict", dtype=STRING, shape=None)}, "signature more of Classify is gone"),
        ({"more": defined("classify", dtype=STRING, shape=(2,))}, "input x of signature more has 1 axes, [2], and had"),
        ({"another": defined()}, ""),
    ],
)
def test_what_callers_would_notice_of_a_signature_is_named(change, words):
    assert compared(LIVE, LIVE) == ""
    found = compared(LIVE, LIVE | change)
    assert found.startswith(words)
    assert bool(found) == bool(words)


def test_a_signature_that_is_gone_is_named_once_and_an_input_with_a_default_may_be_left_out():
    assert compared(LIVE, {"serving_default": LIVE["serving_default"]}) == (
        "signature more is gone; signature more of Classify is gone"
    )
    wider = defined()
    wider.inputs["scale"].CopyFrom(wider.inputs["x"])
    assert "input scale is new and must be sent" in compared(LIVE, LIVE | {"serving_default": wider})
    wider.defaults["scale"].dtype = FLOAT
    assert compared(LIVE, LIVE | {"serving_default": wider}) == ""


def test_a_version_tells_its_signatures(load):
    report, _ = load()
    assert [(each.name, each.dtype, each.shape) for each in report.inputs] == [
        ("x of signature fail", "float32", None),
        ("x", "float32", None),
        ("x of signature wait", "bytes", None),
    ]
    assert ModelSettings().allow_signature_change is False
