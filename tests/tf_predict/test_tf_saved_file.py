"""What is told of a SavedModel's files without TensorFlow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dl_inference.messages import SignatureDef
from tf_predict import repository, summary
from tf_predict.samples import METHOD
from tf_predict.saved_file import problems, signatures


def field(number: int, value: bytes) -> bytes:
    """Return a field of protobuf's wire format."""
    length = len(value)
    size = bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])
    return bytes([number << 3 | 2]) + size + value


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Write a version as TensorFlow does: a graph with a variable, and the variable's value beside it."""
    signature = SignatureDef(method_name="tensorflow/serving/predict")
    for side, name in ((signature.inputs, "x"), (signature.outputs, "y")):
        side[name].dtype = 1
        for size in (-1, 10):
            side[name].tensor_shape.dim.add(size=size)
    node = field(1, b"weights") + field(2, b"VarHandleOp")
    graph = field(1, field(4, b"serve")) + field(2, field(1, node))
    graph += field(5, field(1, b"serving_default") + field(2, signature.SerializeToString()))
    place = tmp_path / "m" / "1"
    (place / "variables").mkdir(parents=True)
    (place / "saved_model.pb").write_bytes(b"\x08\x01" + field(2, graph))
    for name in ("variables.index", "variables.data-00000-of-00001"):
        (place / "variables" / name).write_bytes(b"values")
    return place


def told(place: Path) -> list[str]:
    return [f"{Path(each.place).relative_to(place)}: {each.message}" for each in problems(place) if each.remedy]


def test_a_whole_saved_model_has_no_problem(copied: Path):
    assert problems(copied) == []


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_cut_off_graph_is_told(copied: Path, share):
    file = copied / "saved_model.pb"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    (text,) = told(copied)
    assert text.startswith(f"saved_model.pb: is cut off, or no SavedModel ({file.stat().st_size} bytes)")
    assert signatures(copied) == {}
    assert [each.message for each in repository.check(copied.parent)] == [text.partition(": ")[2]]


def test_a_graph_for_training_only_is_told(copied: Path):
    (copied / "saved_model.pb").write_bytes(b"\x12\x09\x0a\x07\x22\x05train")
    assert told(copied) == ["saved_model.pb: holds no graph with the tag 'serve'"]


def test_missing_variables_are_told(copied: Path):
    (copied / "variables" / "variables.data-00000-of-00001").rename(copied / "variables.data-00000-of-00001")
    assert told(copied) == ["variables/variables.data-00000-of-00001: is missing"]
    shutil.rmtree(copied / "variables")
    assert told(copied) == [
        "variables/variables.index: is missing: the graph has variables, whose values lie beside it"
    ]


def test_a_graph_without_variables_needs_none(copied: Path):
    shutil.rmtree(copied / "variables")
    (copied / "saved_model.pb").write_bytes(b"\x12\x09\x0a\x07\x22\x05serve")
    assert problems(copied) == []


def test_the_signatures_are_told(copied: Path):
    parts = summary.of(repository.find(copied.parent))
    assert parts["versions"] == "1"
    assert parts["inputs of serving_default"] == "x float [-1, 10]"
    assert parts["outputs of serving_default"] == "y float [-1, 10]"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "cannot be read as JSON"),
        ("{}", "holds a dict, not a list of cases"),
        (f'[{{"method": "{METHOD}", "request": {{"input": 1}}}}]', "case 0 cannot be read: ParseError"),
        (f'[{{"method": "{METHOD}"}}]', "case 0 cannot be read: KeyError"),
    ],
)
def test_broken_samples_are_told(copied: Path, text, words):
    (copied.parent / "samples").mkdir()
    (copied.parent / "samples" / "expected.json").write_text(text)
    (problem,) = repository.check(copied.parent)
    assert problem.message.startswith(words)
    assert problem.remedy
