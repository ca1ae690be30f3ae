"""Files that no server reads, and folders that look like versions and are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from dl_inference.local.check import check, holds_model_folders
from dl_inference.serving.foreign import FOREIGN, foreign_files


def told(folder: Path) -> list[str]:
    return [f"{each.message}; {each.remedy}" for each in check(folder, allow_pickle=False).problems]


@pytest.mark.parametrize("suffix", FOREIGN)
def test_a_file_that_no_server_reads_is_told_with_what_it_is_and_what_to_do(tmp_path: Path, suffix):
    (tmp_path / f"resnet{suffix}").touch()
    (text,) = told(tmp_path)
    what, _ = FOREIGN[suffix]
    assert text.startswith(f"is {what}, which no server here reads; ")


def test_the_remedy_for_a_keras_file_names_it(tmp_path: Path):
    (tmp_path / "net.h5").touch()
    (problem,) = foreign_files(tmp_path)
    assert problem.remedy == "save it as a SavedModel: keras.saving.load_model('net.h5').export('1')"


def test_a_model_under_another_name_is_told(tmp_path: Path):
    (tmp_path / "resnet.pt2").touch()
    assert told(tmp_path) == ["is not the name of a model's file; rename it to model.pt2"]


@pytest.mark.parametrize("name", ["1.0", "v1", "V1_2", "1.0.3"])
@pytest.mark.parametrize("file", ["model.pt2", "saved_model.pb"])
def test_a_folder_that_looks_like_a_version_is_told(tmp_path: Path, name, file):
    (tmp_path / name).mkdir()
    (tmp_path / name / file).touch()
    assert not holds_model_folders(tmp_path)
    assert told(tmp_path) == [
        "is no version: the folder of a version is called by a whole number, such as 1; rename it, for example to 1"
    ]


def test_files_beside_a_model_are_nobodys_concern(tmp_path: Path):
    (tmp_path / "resnet.onnx").touch()
    (tmp_path / "saved_model.pb").write_bytes(b"\x12\x09\x0a\x07\x22\x05serve")
    assert told(tmp_path) == []
