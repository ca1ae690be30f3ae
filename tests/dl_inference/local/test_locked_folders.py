"""The lock on MODELS_DIR and the private folder for sockets."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dl_inference.local import locked_folders
from dl_inference.local.locked_folders import InUseError, locked, socket_folder


def test_a_locked_folder_is_refused_under_every_name_and_free_afterwards(tmp_path: Path):
    (tmp_path / "models").mkdir()
    (tmp_path / "link").symlink_to("models")
    refused = pytest.raises(InUseError, match=f"by process {os.getpid()}")
    with locked(tmp_path / "models"), refused, locked(tmp_path / "link"):
        pass
    with locked(tmp_path / "link"):
        assert list((tmp_path / "models").iterdir()) == []  # nothing is written into it


def test_the_lock_of_a_killed_process_is_none(tmp_path: Path):
    hold = (
        "import sys, os, signal; from pathlib import Path; from dl_inference.local.locked_folders import locked\n"
        "with locked(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", hold, tmp_path], check=False)
    assert done.returncode == -9
    with locked(tmp_path):
        pass


def test_where_no_folder_for_sockets_can_be_made_the_error_says_what_to_do(tmp_path: Path, monkeypatch):
    def refuse(**_: object) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "folder")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with (
        pytest.raises(OSError, match=r"no folder for sockets in .*: Read-only file system; free space"),
        socket_folder(),
    ):
        pass
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    with (
        pytest.raises(OSError, match=r"No usable temporary directory found in .*; free space .* TMPDIR"),
        socket_folder(),
    ):
        pass


def test_the_socket_folder_is_private_short_and_gone_afterwards(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with socket_folder() as folder:
        assert folder.parent in (tmp_path, Path("/tmp"))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(os.fsencode(folder)) + 1 + locked_folders.SOCKET_NAME_BYTES <= 107
    assert not folder.exists()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 20)))
    with socket_folder() as folder:
        assert folder.parent == Path("/tmp")


def test_what_a_killed_process_left_is_removed_and_a_living_ones_stays(tmp_path: Path, monkeypatch):
    base = tmp_path if len(str(tmp_path)) < 40 else Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    with socket_folder() as alive:
        stale, young = base / "dl-inference-serve-stale", base / "dl-inference-serve-young"
        for folder in (stale, young):
            folder.mkdir()
            (folder / "socket").touch()
        for folder in (stale, alive):
            os.utime(folder, (0, 0))
        with socket_folder():
            assert not stale.exists()
            assert young.exists()
            assert alive.exists()
    (young / "socket").unlink()
    young.rmdir()
    if base != tmp_path:
        base.rmdir()
