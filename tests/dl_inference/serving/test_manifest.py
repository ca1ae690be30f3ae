"""SHA256SUMS of a model folder: what it covers, and what is refused."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from dl_inference.serving.load_error import LoadError
from dl_inference.serving.manifest import check, is_complete, parse


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files, one of them further down, and a list of them that sha256sum wrote."""
    folder = tmp_path / "m"
    (folder / "nets").mkdir(parents=True)
    for name, text in {"model.pt2": "weights", "processor.py": "x = 1\n", "nets/mlp.py": ""}.items():
        (folder / name).write_text(text)
    listed(folder)
    return folder


def listed(folder: Path) -> None:
    """Write SHA256SUMS by the command that the error names."""
    command = "find . -type f ! -name 'SHA256SUMS*' | sort | xargs sha256sum > SHA256SUMS"
    subprocess.run(command, shell=True, check=True, cwd=folder)


def test_a_folder_as_sha256sum_lists_it_passes_and_is_complete(folder):
    check(folder)
    assert is_complete(folder)
    assert not is_complete(folder, limit_bytes=3)


def test_a_folder_without_a_list_passes_but_nobody_knows_whether_it_is_complete(folder):
    (folder / "SHA256SUMS").unlink()
    check(folder)
    assert not is_complete(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "processor.py").write_text("x = 2\n"), "processor.py: has another SHA-256 sum"),
        (lambda folder: (folder / "nets" / "mlp.py").unlink(), "nets/mlp.py: is listed in SHA256SUMS and missing"),
        (lambda folder: (folder / "more.py").touch(), "more.py: is not listed in SHA256SUMS"),
        (lambda folder: (folder / "nets" / "more.py").touch(), "nets/more.py: is not listed"),
    ],
)
def test_a_file_that_is_not_as_it_is_listed_is_named(folder, change, words):
    change(folder)
    with pytest.raises(LoadError, match=words):
        check(folder)
    assert not is_complete(folder)


def test_what_is_hidden_or_a_cache_is_not_listed(folder):
    (folder / ".git").mkdir()
    (folder / ".git" / "config").touch()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "processor.cpython-311.pyc").touch()
    (folder / "out.log").touch()
    check(folder)


def test_a_version_with_a_list_of_its_own_is_none_of_the_model_folders(folder):
    shutil.copytree(folder, folder / "1")
    check(folder)
    (folder / "1" / "SHA256SUMS").unlink()
    with pytest.raises(LoadError, match="is not listed"):
        check(folder)
    check(folder, [folder / "1"])


SUM = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("name", ["/etc/passwd", "../other/model.pt2", "a/../../b", "\\model"])
def test_no_list_leads_out_of_its_folder(tmp_path, name):
    with pytest.raises(LoadError, match="SHA256SUMS:2: is no sum of a file in this folder"):
        parse(tmp_path, f"{SUM}  model.pt2\n{SUM}  {name}\n".encode())


@pytest.mark.parametrize("line", ["x", f"{SUM} model.pt2", f"{SUM[:-1]}  model.pt2", f"{SUM.upper()}  m", ""])
def test_a_line_that_is_no_sum_is_refused(tmp_path, line):
    with pytest.raises(LoadError, match="xargs sha256sum"):
        parse(tmp_path, f"{line}\n".encode())


def test_names_are_taken_as_the_two_forms_of_sha256sum_write_them(tmp_path):
    content = f"{SUM}  ./a b\n{SUM} *nets/c\n".encode()
    assert parse(tmp_path, content) == {"a b": SUM, "nets/c": SUM}
