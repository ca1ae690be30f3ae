"""What both model servers know of a model folder; tests/torch_predict and tests/tf_predict have what each adds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from dl_inference.serving.folder import PYTORCH_FILES, ModelFolder, holds_model, kind_of, version_folders
from dl_inference.serving.settings import CommonSettings, ModelFolderError
from torch_predict.runtimes import RUNTIMES


@dataclass(frozen=True)
class Version:
    number: int


def folder_with(*numbers: int, **settings: object) -> ModelFolder[CommonSettings, Version]:
    return ModelFolder("m", Path("/m"), CommonSettings.model_validate(settings), tuple(map(Version, numbers)))


def test_the_latest_version_is_chosen_unless_model_yaml_or_the_caller_names_others():
    assert folder_with(1, 2, 10).chosen() == (Version(10),)
    assert folder_with(1, 2, 10, versions=[2, 1]).chosen() == (Version(1), Version(2))
    assert folder_with(1, 2, 10, versions=[2, 1]).chosen(10) == (Version(10),)
    with pytest.raises(ModelFolderError, match="/m: there is no version 3; found: 1, 2"):
        folder_with(1, 2).chosen(3)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("saved_model.pb", "TensorFlow"),
        ("2/saved_model.pbtxt", "TensorFlow"),
        ("other/saved_model.pb", "PyTorch"),
        ("model.pt2", "PyTorch"),
        ("1/model.pt", "PyTorch"),
    ],
)
def test_what_a_folder_holds_tells_which_server_it_is_for(tmp_path: Path, file: str, kind: str):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert kind_of(tmp_path) == kind
    assert holds_model(tmp_path) is ("/" not in file)


def test_a_folder_that_is_missing_is_left_to_who_opens_it(tmp_path: Path):
    assert kind_of(tmp_path / "missing") == "PyTorch"


def test_the_files_of_pytorch_models_are_those_that_a_runtime_loads():
    suffixes = dict.fromkeys(suffix for runtime in RUNTIMES for suffix in runtime.suffixes)
    assert tuple(f"model{suffix}" for suffix in suffixes) == PYTORCH_FILES


def test_versions_are_ordered_by_number_and_one_number_counts_once(tmp_path: Path):
    for name in ("10", "9", "010", "v1", ".3"):
        (tmp_path / name).mkdir()
    (tmp_path / "4").touch()
    problems = []
    assert list(version_folders(tmp_path, problems)) == [9, 10]
    assert [str(problem) for problem in problems] == [f"{tmp_path / '10'}: is version 10 again; remove it or 010"]
    assert list(version_folders(tmp_path, [], lambda number, place: number > 9)) == [10]
