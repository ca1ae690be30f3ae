"""A folder that is as its SHA256SUMS says is taken at once; any other one waits until it is still."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from fixtures.serve_process import write_model

from dl_inference.local.folders import ModelsDir


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def listed(folder: Path) -> None:
    command = "find . -type f ! -name 'SHA256SUMS*' | sort | xargs sha256sum > SHA256SUMS"
    subprocess.run(command, shell=True, check=True, cwd=folder)


def seen(models: ModelsDir) -> list[str]:
    return [change.because for change in models.look()]


def test_a_folder_that_is_complete_by_its_list_is_taken_at_once(root):
    listed(write_model(root / "m", "A"))
    assert seen(ModelsDir(root)) == ["new"]


@pytest.mark.parametrize("fault", ["no list", "a file is missing", "a file is cut off", "a file is not listed"])
def test_a_folder_that_is_not_complete_waits_until_it_is_still(root, fault):
    folder = write_model(root / "m", "A")
    listed(folder)
    {
        "no list": (folder / "SHA256SUMS").unlink,
        "a file is missing": (folder / "model.pt2").unlink,
        "a file is cut off": lambda: (folder / "model.pt2").write_bytes((folder / "model.pt2").read_bytes()[:50]),
        "a file is not listed": (folder / "processor.py").touch,
    }[fault]()
    models = ModelsDir(root)
    assert (seen(models), models.is_settling) == ([], True)


def test_a_complete_version_is_taken_at_once_whatever_the_others_have(root):
    write_model(root / "m" / "1", "A")
    models = ModelsDir(root)
    models.look(force=True)
    listed(write_model(root / "m" / "2", "B"))
    assert seen(models) == ["2/SHA256SUMS and 1 more"]
    write_model(root / "m" / "1", "C")  # which has no list
    assert seen(models) == []
    listed(write_model(root / "m" / "3", "D"))
    assert (seen(models), models.is_settling) == ([], True)
