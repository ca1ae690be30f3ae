from __future__ import annotations

from pathlib import Path

import pytest

from dl_inference.serving.settings import ModelFolderError
from tf_predict import repository

SAVED = b"\x12\x09\x0a\x07\x22\x05serve"
"""A saved_model.pb with one graph, which is empty."""


@pytest.fixture
def write(tmp_path: Path):
    def write(*files: str, yaml: str | None = None) -> Path:
        root = tmp_path / "m"
        for name in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(SAVED if name.endswith("saved_model.pb") else b"")
        root.mkdir(exist_ok=True)
        if yaml is not None:
            (root / "model.yaml").write_text(yaml)
        return root

    return write


def numbers(versions) -> list[int]:
    return [version.number for version in versions]


def test_an_unversioned_folder_is_version_1(write):
    folder = repository.find(write("saved_model.pb"))
    assert (folder.name, numbers(folder.versions), folder.versions[0].path.name) == ("m", [1], "m")


def test_the_latest_version_is_served_unless_model_yaml_names_some(write):
    files = ("2/saved_model.pb", "10/saved_model.pbtxt", "00000003/saved_model.pb")
    folder = repository.find(write(*files))
    assert (numbers(folder.versions), numbers(folder.chosen(None))) == ([2, 3, 10], [10])
    assert numbers(folder.chosen(3)) == [3]
    assert numbers(repository.find(write(yaml="versions: [2, 10]")).chosen(None)) == [2, 10]


def test_a_version_that_is_still_empty_does_not_count(write):
    folder = repository.find(write("1/saved_model.pb", "2/variables/x", "assets/x", "-3/saved_model.pb"))
    assert numbers(folder.versions) == [1]


@pytest.mark.parametrize(
    ("files", "yaml", "words"),
    [
        ((), None, "holds no SavedModel"),
        (("1/variables/x",), None, "1: holds no SavedModel"),
        (("a/1/saved_model.pb", "b/1/saved_model.pb"), None, "name one: a, b"),
        (("1/saved_model.pb", "01/saved_model.pb"), None, "is version 1 again"),
        ((f"{2**63}/saved_model.pb",), None, "is more than 9223372036854775807"),
        (("1/saved_model.pb",), "versions: [2]", "there is no version 2; found: 1"),
        (("1/saved_model.pb",), "labels: {stable: 3}", "there is no version 3; found: 1"),
        (("1/saved_model.pb",), "versions: [1]\nlabels: {stable: 3}", "which is not in versions"),
        (("1/saved_model.pb",), "labels: 3", "model.yaml:1: labels"),
        (("1/saved_model.pb",), "[", "is not YAML"),
        (("1/saved_model.pb",), "- 1", "holds a list"),
        (("1/saved_model.pb",), "lables: {}", "did you mean 'labels'?"),
    ],
)
def test_a_folder_that_cannot_be_served_says_why(write, files, yaml, words):
    folder = write(*files, yaml=yaml)
    with pytest.raises(ModelFolderError, match=r"\w") as caught:
        repository.find(folder)
    assert words in str(caught.value)
    assert repository.check(folder) == caught.value.problems


def test_a_file_is_no_folder(write):
    with pytest.raises(ModelFolderError, match="is not a folder"):
        repository.find(write("saved_model.pb") / "saved_model.pb")


def test_a_fingerprint_changes_with_each_file(write):
    (version,) = repository.find(write("1/saved_model.pb")).versions
    before = version.fingerprint()
    assert before == version.fingerprint()
    (version.path / "variables").mkdir()
    (version.path / "variables" / "x").write_text("1")
    assert version.fingerprint() != before
