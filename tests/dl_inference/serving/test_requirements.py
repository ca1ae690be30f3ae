"""What a folder's requirements.txt asks for and is not here."""

from __future__ import annotations

from pathlib import Path

import pytest

from dl_inference.serving.requirements import problems


def told(folder: Path, text: str) -> list[str]:
    (folder / "requirements.txt").write_text(text)
    return [f"{Path(each.place).name} {each.message}" for each in problems(folder)]


def test_what_is_not_installed_or_in_another_version_is_told_with_its_line(tmp_path: Path):
    found = told(tmp_path, "# ours\nnumpy\nof-nobody>=2  # soon\nnumpy<1 --hash=sha256:00\nnumpy >> 1\n")
    assert found[0] == "requirements.txt:3 asks for of-nobody, which is not installed"
    assert found[1].startswith("requirements.txt:4 asks for numpy<1, and ")
    assert found[2].startswith("requirements.txt:5 is no requirement")
    assert len(found) == 3
    assert problems(tmp_path)[0].remedy == (
        f"the server installs nothing: pip install -r {tmp_path}/requirements.txt where it runs, "
        "or dl-inference serve --make-environments"
    )


@pytest.mark.parametrize(
    "line",
    ["numpy>=1", "of-nobody; python_version < '3'", "-r other.txt", "-e .", "git+https://host/x.git", "", "numpy \\"],
)
def test_what_is_there_or_only_pip_knows_is_not_named(tmp_path: Path, line):
    assert told(tmp_path, line) == []


def test_a_folder_without_the_file_asks_for_nothing(tmp_path: Path):
    assert problems(tmp_path) == []
