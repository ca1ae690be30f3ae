"""The saved state of a source: whole or not at all."""

import json
import os
from pathlib import Path

import pytest

from access.discovery.base import Announced, Entry
from access.following.saved_state import SavedState, SavedStateError
from dl_inference.registry.schema import ReleaseDocument

RELEASE = ReleaseDocument.parse(
    b'{"schema":1,"model":"digits","revision":7,"releases":{"3":{"phase":"production"}},"labels":{"stable":"3"},"new":[1]}'
)
ENTRIES = {
    "digits": Entry(
        (Announced(address="10.0.0.1:5000", weight=2, version="3", versions=("2",)), Announced(address="[::1]:5000")),
        timeout_ms=800,
        protocol="seldon",
        release=RELEASE,
    ),
    "69": Entry(()),
}


def test_what_is_saved_is_loaded(tmp_path: Path):
    keep = SavedState(tmp_path / "new" / "folder", "zk://a/b")
    keep.save(ENTRIES)
    entries, saved_at = keep.load()
    assert entries == ENTRIES
    assert entries["digits"].release.model_extra == {"new": [1]}
    assert abs(saved_at - os.stat(keep.path).st_mtime) < 5


def test_nothing_saved_is_nothing(tmp_path: Path):
    assert SavedState(tmp_path, "zk://a/b").load() is None


def test_sources_have_files_of_their_own(tmp_path: Path):
    SavedState(tmp_path, "one").save(ENTRIES)
    assert SavedState(tmp_path, "two").load() is None


def _flip(path: Path, index: int) -> None:
    data = bytearray(path.read_bytes())
    data[index] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.write_bytes(b"[" * 100_000),
        lambda path: path.write_text("[]\n{}"),
        lambda path: _flip(path, -20),
        lambda path: path.write_text(path.read_text().replace('"format": 1', '"format": 2')),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_spoiled_file_is_said_and_not_used(tmp_path: Path, spoil):
    keep = SavedState(tmp_path, "zk://a/b")
    keep.save(ENTRIES)
    spoil(keep.path)
    with pytest.raises(SavedStateError, match=str(keep.path)):
        keep.load()


def test_a_hostile_file_with_a_right_sum_gives_no_hostile_endpoint(tmp_path: Path):
    keep = SavedState(tmp_path, "zk://a/b")
    keep.save({"digits": Entry((Announced.model_construct(address="../etc:1", weight=1, version=None, versions=()),))})
    with pytest.raises(SavedStateError, match="it is not used"):
        keep.load()


def test_a_failed_save_leaves_the_former_state_whole(tmp_path: Path, monkeypatch):
    keep = SavedState(tmp_path, "zk://a/b")
    keep.save(ENTRIES)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SavedStateError, match="No space left"):
        keep.save({})
    assert keep.load()[0] == ENTRIES
    assert [each.name for each in tmp_path.iterdir()] == [keep.path.name]
    assert json.loads(keep.path.read_text().splitlines()[0])["name"] == "zk://a/b"


def test_two_services_with_one_folder_never_write_into_each_others_file(tmp_path: Path, monkeypatch):
    one, other = SavedState(tmp_path, "zk://a/b"), SavedState(tmp_path, "zk://a/b")
    really_sync = os.fsync

    def sync(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", really_sync)
        other.save(ENTRIES)  # comes and goes while the first one writes
        really_sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    one.save(ENTRIES)
    assert one.load() is not None
    assert [each.name for each in tmp_path.iterdir()] == [one.path.name]
