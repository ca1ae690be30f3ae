"""Files that somebody else may be rewriting: what is read of them, and what is refused."""

import os
from pathlib import Path

import pytest

from access.files import FileError, fingerprint, read_text


def test_a_text_is_read_up_to_its_limit(tmp_path: Path):
    (tmp_path / "file").write_text("äb")
    assert read_text(tmp_path / "file", 3) == "äb"
    with pytest.raises(FileError, match=r"file: more than 2 bytes$"):
        read_text(tmp_path / "file", 2)


def test_what_is_no_text_is_named(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"a\xffb")
    with pytest.raises(FileError, match=r"file: not UTF-8 at byte 1$"):
        read_text(tmp_path / "file", 100)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(FileError, match=r"file: cannot be read: No such file or directory$"):
        read_text(tmp_path / "file", 100)


@pytest.mark.timeout(10)
def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match=r"pipe: not a regular file$"):
        read_text(tmp_path / "pipe", 100)


def test_a_fingerprint_changes_with_the_content_alone(tmp_path: Path):
    path = tmp_path / "file"
    missing = fingerprint(path, 100)
    path.write_text("one")
    times = (1_000_000_000, 1_000_000_000)
    os.utime(path, ns=times)
    one = fingerprint(path, 100)
    os.utime(path)
    assert fingerprint(path, 100) == one
    path.write_text("two")
    os.utime(path, ns=times)
    assert len({missing, one, fingerprint(path, 100), fingerprint(path, 2)}) == 4
