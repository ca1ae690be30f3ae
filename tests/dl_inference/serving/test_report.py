"""What a model server tells `serve` of how far it has come."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dl_inference.problem import Problem
from dl_inference.serving.load_error import LoadError
from dl_inference.serving.report import Report, Reporter, Tensor, read
from dl_inference.serving.room import NoRoomError, writing
from dl_inference.serving.settings import ModelFolderError

PROBLEM = Problem("m/model.pt2", "is damaged", "copy it again")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "report"


def test_a_process_tells_each_step_as_it_begins_so_that_its_end_is_known_however_it_ends(file):
    reporter = Reporter(file)
    assert read(file).step == "find"
    reporter.at("warm-up")
    assert read(file) == Report(step="warm-up")


def test_a_disk_without_room_is_not_the_folders_fault_whatever_the_step(file):
    reporter = Reporter(file)
    reporter.at("manifest")
    with pytest.raises(NoRoomError) as caught, writing(Path("/copies")):
        raise OSError(errno.ENOSPC, "no space")
    reporter.failed(caught.value)
    report = read(file)
    assert (report.reason, report.is_final) == ("/copies: cannot be written: no space is left on its disk", False)
    with pytest.raises(FileNotFoundError), writing(Path("/copies")):  # anything else is what it is
        raise FileNotFoundError


@pytest.mark.parametrize(
    ("step", "error", "is_final"),
    [
        ("golden", LoadError(PROBLEM.place, PROBLEM.message, PROBLEM.remedy), True),
        ("find", ModelFolderError([PROBLEM]), True),
        ("load", LoadError(PROBLEM.place, PROBLEM.message, PROBLEM.remedy), False),
        ("find", OSError("too many open files"), False),
    ],
)
def test_reason_and_remedy_are_told_apart_and_what_is_not_the_folders_fault_may_pass(file, step, error, is_final):
    reporter = Reporter(file)
    reporter.at(step)
    reporter.failed(error)
    report = read(file)
    assert (report.step, report.is_final) == (step, is_final)
    if not isinstance(error, OSError):
        assert (report.reason, report.remedy) == ("m/model.pt2: is damaged", "copy it again")


def test_of_several_problems_each_keeps_its_remedy(file):
    reporter = Reporter(file)
    reporter.failed(ModelFolderError([PROBLEM, Problem("m/model.yaml", "is not YAML", "correct it")]))
    assert read(file).reason == "m/model.pt2: is damaged; copy it again\nm/model.yaml: is not YAML; correct it"


def test_inputs_and_outputs_are_told(file):
    spec = Tensor(name="x", dtype="int64", shape=(-1, 4))
    Reporter(file).found([spec], [spec], optional=["x"], nan={"a": ("y",)})
    report = read(file)
    assert report.inputs == (spec.model_copy(update={"is_optional": True}),)
    assert report.outputs == (spec,)
    assert report.nan == {"a": ("y",)}


def test_what_cannot_be_written_as_on_a_full_disk_keeps_a_process_from_nothing(tmp_path, caplog):
    reporter = Reporter(tmp_path / "gone" / "report")
    reporter.at("load")
    assert "cannot be told" in caplog.text
    Reporter(None).at("load")


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b'{"step": "dance"}'])
def test_a_process_that_told_nothing_that_can_be_read_is_taken_to_load(file, content):
    if content is not None:
        file.write_bytes(content)
    assert read(file) == Report(step="load")
