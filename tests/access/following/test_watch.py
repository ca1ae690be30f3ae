"""File events: that something in a folder changed, whatever it is, and until when."""

import logging
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from access.following import watch
from access.following.watch import FolderWatcher

LIMIT_S = 20


class Changes:
    """Counts calls of a watcher, and waits for them."""

    def __init__(self, *, recursive: bool = False) -> None:
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.watcher = FolderWatcher(lambda: self._calls.put(None), recursive=recursive)

    def wait(self) -> None:
        """Return at the next call; a burst may make several, of which the others are forgotten."""
        self._calls.get(timeout=LIMIT_S)

    def forget(self, quiet_s: float = 1.5) -> None:
        """Wait until nothing has been called for a time that is longer than any burst's last step."""
        while True:
            try:
                self._calls.get(timeout=quiet_s)
            except queue.Empty:
                return

    def none_come(self, quiet_s: float = 1.5) -> bool:
        try:
            self._calls.get(timeout=quiet_s)
        except queue.Empty:
            return True
        return False


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "access-watch"]


@pytest.fixture
def changes(tmp_path: Path) -> Iterator[Changes]:
    """A watcher whose watch of `file` stands."""
    changes = Changes()
    changes.watcher.watch([tmp_path / "file"])
    changes.wait()  # what changed before the watch stood is looked for once
    changes.forget()
    yield changes
    changes.watcher.stop()


@pytest.mark.parametrize("change", ["write", "rename", "link", "remove"])
def test_a_change_of_a_file_is_told(tmp_path, change):
    path = tmp_path / "file"
    path.write_text("one")
    (tmp_path / "other").write_text("two")
    changes = Changes()
    changes.watcher.watch([path])
    changes.wait()
    changes.forget()
    match change:
        case "write":
            path.write_text("two")
        case "rename":
            (tmp_path / "other").rename(path)
        case "link":
            (tmp_path / "new").symlink_to("other")
            (tmp_path / "new").rename(path)
        case "remove":
            path.unlink()
    changes.wait()
    changes.watcher.stop()


def test_a_file_that_comes_is_told(tmp_path, changes):
    (tmp_path / "file").write_text("one")
    changes.wait()


@pytest.mark.parametrize("recursive", [False, True])
def test_folders_inside_count_only_where_asked_for(tmp_path, recursive):
    (tmp_path / "inside").mkdir()
    changes = Changes(recursive=recursive)
    changes.watcher.watch([tmp_path / "any"])
    changes.wait()
    changes.forget()
    (tmp_path / "inside" / "file").write_text("one")
    assert changes.none_come() is not recursive
    changes.watcher.stop()


def test_the_files_given_last_are_watched_instead(tmp_path, changes):
    (tmp_path / "other").mkdir()
    changes.watcher.watch([tmp_path / "other" / "file"])
    changes.wait()
    changes.forget()
    (tmp_path / "file").write_text("one")
    assert changes.none_come()
    (tmp_path / "other" / "file").write_text("one")
    changes.wait()


def test_the_same_folders_keep_the_same_thread(tmp_path, changes):
    before = threads()
    changes.watcher.watch([tmp_path / "another file of the folder"])
    assert threads() == before


def test_after_the_end_there_is_no_thread(changes):
    assert len(threads()) == 1
    changes.watcher.stop()
    assert threads() == []
    changes.watcher.stop()


def test_folders_that_do_not_exist_are_left_out(tmp_path):
    watcher = FolderWatcher(lambda: None)
    watcher.watch([tmp_path / "missing" / "file"])
    assert threads() == []


def test_where_the_system_gives_no_events_it_is_said_once(tmp_path, monkeypatch, caplog):
    said = threading.Event()

    def refuse(*folders: Path, **options: object) -> None:
        raise OSError("OS file watch limit reached")

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.set()

    monkeypatch.setattr(watch.watchfiles, "watch", refuse)
    handler = Heard()
    logging.getLogger("access").addHandler(handler)
    watcher = FolderWatcher(lambda: None)
    try:
        watcher.watch([tmp_path / "file"])
        assert said.wait(LIMIT_S)
        watcher.watch([tmp_path / "file"])
    finally:
        watcher.stop()
        logging.getLogger("access").removeHandler(handler)
    expected = f"no file events for {tmp_path}: OS file watch limit reached; changes are found by looking instead"
    assert caplog.messages == [expected]
