"""What is read again when its files change: when that is, and what a bad reading leaves."""

from pathlib import Path

import pytest

from access.errors import AccessError
from access.files import FileError, read_text
from access.following.followed import MAX_UNSETTLED_LOOKS, Followed


class Readings:
    """A file that is followed, and what was counted."""

    def __init__(self, path: Path, **options: object) -> None:
        self.path = path
        self.counted: list[tuple[str, bool]] = []
        self.followed: Followed[str] = Followed(
            "it", lambda: read_text(path, 1000), lambda: (path,), count=self._count, **options
        )

    def _count(self, name: str, ok: bool) -> None:
        self.counted.append((name, ok))

    def looks(self, number: int = 2) -> list[bool]:
        return [self.followed.look() for _ in range(number)]


@pytest.fixture
def readings(tmp_path: Path) -> Readings:
    (tmp_path / "file").write_text("one")
    readings = Readings(tmp_path / "file", now=lambda: 1_000.0)
    readings.followed.start()
    return readings


def test_before_the_start_there_is_no_value(tmp_path):
    with pytest.raises(AccessError, match="it has not been read yet"):
        _ = Readings(tmp_path / "file").followed.value


def test_a_start_that_cannot_read_fails(tmp_path):
    with pytest.raises(FileError, match="No such file"):
        Readings(tmp_path / "file").followed.start()


def test_the_first_reading_is_not_counted_as_a_reload(readings):
    assert readings.followed.value == "one"
    assert readings.counted == []


def test_without_a_change_nothing_is_read(readings):
    assert readings.looks(3) == [False, False, False]
    assert readings.counted == []


def test_a_change_is_read_when_two_looks_saw_the_same(readings):
    readings.path.write_text("two")
    assert not readings.followed.look()
    assert readings.followed.is_settling()
    assert readings.followed.look()
    assert not readings.followed.is_settling()
    assert readings.followed.value == "two"
    assert readings.counted == [("it", True)]


def test_a_change_that_is_taken_back_is_none(readings):
    readings.path.write_text("two")
    readings.followed.look()
    readings.path.write_text("one")
    assert readings.looks() == [False, False]
    assert not readings.followed.is_settling()
    assert readings.counted == []


def test_a_file_that_never_comes_to_rest_is_read_in_the_end(readings):
    for number in range(MAX_UNSETTLED_LOOKS):
        readings.path.write_text(f"still {number}")
        assert not readings.followed.look()
    readings.path.write_text("and on")
    assert readings.followed.look()
    assert readings.followed.value == "and on"


def test_force_reads_at_once(readings):
    readings.path.write_text("two")
    assert readings.followed.look(force=True)
    assert readings.followed.value == "two"
    assert readings.looks() == [False, False]


def test_a_poke_makes_the_next_look_read_and_no_other(readings):
    readings.followed.poke()
    assert readings.looks() == [True, False]
    assert readings.counted == [("it", True)]


def test_a_bad_reading_keeps_the_last_good_value_and_is_said_once(readings, caplog):
    readings.path.unlink()
    assert readings.looks() == [False, False]
    readings.followed.look(force=True)
    assert readings.followed.value == "one"
    assert readings.counted == [("it", False)] * 2
    assert [each.levelname for each in caplog.records if "the last good state stays" in each.message] == ["ERROR"]


def test_another_error_is_said_and_so_is_the_end_of_it(readings, caplog):
    caplog.set_level("INFO", "access")
    readings.path.unlink()
    readings.looks()
    readings.path.write_bytes(b"\xff")
    readings.looks()
    readings.path.write_text("two")
    readings.looks()
    assert [text.partition(": ")[2].partition(":")[0] for text in caplog.messages] == [
        "the last good state stays",
        "still",
        "good again",
    ]
    assert readings.followed.error is None


def test_the_status_tells_the_age_of_the_good_value(readings):
    assert readings.followed.status() == {
        "name": "it",
        "ok": True,
        "error": None,
        "last_good": "1970-01-01T00:16:40+00:00",
        "last_good_unix_s": 1000.0,
        "failed_since_unix_s": None,
        "reloads_ok": 0,
        "reloads_failed": 0,
    }
    readings.path.unlink()
    readings.looks()
    status = readings.followed.status()
    assert (status["ok"], status["reloads_failed"], status["last_good_unix_s"]) == (False, 1, 1000.0)
    assert "No such file" in status["error"]


def test_the_age_of_a_lost_value_counts_from_when_it_was_last_known_to_hold(tmp_path):
    now, path = [1000.0], tmp_path / "file"
    path.write_text("one")
    followed = Followed("it", lambda: read_text(path, 100), lambda: [path], now=lambda: now[0])
    followed.start()
    now[0] = 5000.0
    assert not followed.look()
    assert followed.status()["last_good_unix_s"] == 1000.0
    path.unlink()
    now[0] = 5001.0
    followed.look(force=True)
    now[0] = 6000.0
    followed.look()
    followed.look(force=True)
    status = followed.status()
    assert (status["ok"], status["last_good_unix_s"]) == (False, 5000.0)
    assert status["failed_since_unix_s"] == 5001.0, "when it failed first, not when it was tried last"
    path.write_text("two")
    followed.look(force=True)
    assert followed.status()["failed_since_unix_s"] is None


def test_a_value_from_elsewhere_holds_until_a_reading_ends_well(tmp_path):
    readings = Readings(tmp_path / "file")
    readings.followed.start_with("saved", 0.0, "nobody answers")
    assert (readings.followed.value, readings.followed.error) == ("saved", "nobody answers")
    assert readings.followed.status()["last_good"] is None
    readings.path.write_text("one")
    readings.followed.look(force=True)
    assert (readings.followed.value, readings.followed.error) == ("one", None)


def test_a_rejected_reading_waits_for_the_files_that_it_names_too(tmp_path):
    main, named = tmp_path / "main", tmp_path / "named"
    main.write_text("alone")
    paths = [main]

    def read() -> str:
        paths[1:] = [named] if main.read_text() == "with" else []
        return read_text(paths[-1], 1000)

    followed = Followed("it", read, lambda: tuple(paths))
    followed.start()
    main.write_text("with")
    assert [followed.look(), followed.look()] == [False, False]
    assert followed.error is not None
    named.write_text("named")
    assert [followed.look(), followed.look()] == [False, True]
    assert followed.value == "named"
