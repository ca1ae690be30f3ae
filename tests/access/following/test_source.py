"""A source as the access service follows it, with a resolver that a test moves."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from access.discovery.base import Announced, Entry, LiveSourceConfig, Resolver, Snapshot
from access.errors import DiscoveryError
from access.following.source import FollowedSource
from dl_inference.registry.schema import Release, ReleaseDocument


class Moved(Resolver):
    """A resolver whose state is a test's."""

    name = "zk://here/dl-inference"

    def __init__(self, answer: Snapshot | str) -> None:
        self.answer = answer
        self.steps: list[str] = []
        self.changed: Callable[[], None] = lambda: None

    @classmethod
    def create(cls, config: object, folder: Path) -> "Moved":
        raise AssertionError("the test makes it")

    def start(self, changed: Callable[[], None]) -> None:
        self.steps.append("start")
        self.changed = changed

    def read(self) -> Snapshot:
        if isinstance(self.answer, str):
            raise DiscoveryError(self.answer)
        return self.answer

    def stop(self) -> None:
        self.steps.append("stop")

    def watch_paths(self) -> list[Path]:
        return []

    def report(self, document: object) -> None:
        raise AssertionError("nothing has been applied")

    def say(self, answer: Snapshot | str) -> None:
        self.answer = answer
        self.changed()


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def snapshot(*hosts: int) -> Snapshot:
    return Snapshot({"digits": Entry(tuple(Announced(address=f"10.0.0.{host}:5000", version="3") for host in hosts))})


def hosts(source: FollowedSource) -> list[str]:
    return [each.address for each in source.value.entries["digits"].endpoints]


def make(resolver: Moved, state_dir: Path | None = None, **config: object) -> tuple[FollowedSource, Clock]:
    clock = Clock()
    source = FollowedSource(resolver, LiveSourceConfig.model_validate({"kind": "x", **config}), state_dir, now=clock)
    source.begin()
    return source, clock


def test_a_change_is_read_when_the_source_says_so_and_wakes_the_owner():
    resolver, woken = Moved(snapshot(1)), threading.Event()
    source = FollowedSource(resolver, LiveSourceConfig(kind="x"), None)
    source.begin(woken.set)
    source.start()
    assert not source.look()
    resolver.say(snapshot(1, 2))
    assert woken.is_set()
    assert source.look()
    assert hosts(source) == ["10.0.0.1:5000", "10.0.0.2:5000"]
    assert not source.look()


def test_a_lost_source_keeps_its_last_good_state_and_says_so_once(caplog):
    resolver = Moved(snapshot(1))
    source, _ = make(resolver)
    source.start()
    for _ in range(3):
        resolver.say("unreachable since 12:00:00")
        assert not source.look()
    assert hosts(source) == ["10.0.0.1:5000"]
    assert caplog.text.count("unreachable") == 1
    status = source.status()
    assert (status["ok"], status["error"]) == (False, "unreachable since 12:00:00")
    assert status["last_good_unix_s"] > 0
    resolver.say(snapshot(1))
    source.look()
    assert source.status()["ok"]


def test_a_source_that_is_away_at_the_start_begins_with_the_saved_state(tmp_path: Path):
    before, _ = make(Moved(snapshot(1, 2)), tmp_path)
    before.start()
    before.stop()
    resolver = Moved("nobody answers")
    source, _ = make(resolver, tmp_path, fallback={"digits": {"endpoints": ["10.0.0.9:5000"]}})
    source.start()
    assert hosts(source) == ["10.0.0.1:5000", "10.0.0.2:5000"]
    assert source.value.entries["digits"].endpoints[0].version == "3"
    status = source.status()
    assert (status["ok"], status["origin"]) == (False, "saved")
    assert status["last_good_unix_s"] > 1e9
    resolver.say(snapshot(3, 1))
    assert source.look()
    assert (source.status()["ok"], source.status()["origin"]) == (True, "source")
    assert hosts(source)[:2] == ["10.0.0.3:5000", "10.0.0.1:5000"]


def test_the_first_list_after_a_start_from_the_saved_state_is_looked_at_with_the_same_care(tmp_path: Path):
    before, _ = make(Moved(snapshot(1, 2, 3)), tmp_path)
    before.start()
    before.stop()
    resolver = Moved("nobody answers")
    source, clock = make(resolver, tmp_path)
    source.start()
    resolver.say(snapshot())
    source.look()
    assert len(hosts(source)) == 3
    clock.now_s += 31
    assert source.look()
    assert hosts(source) == []


def test_a_restart_beside_a_list_that_turned_empty_keeps_what_was_saved_for_the_grace(tmp_path: Path):
    before, _ = make(Moved(snapshot(1, 2, 3)), tmp_path)
    before.start()
    before.stop()
    source, clock = make(Moved(snapshot()), tmp_path)
    source.start()
    assert len(hosts(source)) == 3
    clock.now_s += 31
    assert source.look()
    assert hosts(source) == []
    # A list that keeps half is believed at once, over a restart as otherwise.
    source.stop()
    other, _ = make(Moved(snapshot(1, 2)), tmp_path / "other")
    other.start()
    other.stop()
    restarted, _ = make(Moved(snapshot(2)), tmp_path / "other")
    restarted.start()
    assert hosts(restarted) == ["10.0.0.2:5000"]


def released(revision: int | None, *, is_unknown: bool = False) -> Snapshot:
    release = None
    if revision is not None:
        shares = {"3": Release(phase="production", weight=95), "4": Release(phase="canary", weight=5)}
        release = ReleaseDocument(model="digits", revision=revision, releases=shares)
    (entry,) = snapshot(1, 2).entries.values()
    return Snapshot({"digits": replace(entry, release=release, is_release_unknown=is_unknown)})


def test_a_restart_beside_a_release_that_cannot_be_used_keeps_the_saved_one(tmp_path: Path):
    before, _ = make(Moved(released(7)), tmp_path)
    before.start()
    before.stop()
    for _ in range(2):  # it is saved again
        resolver = Moved(released(None, is_unknown=True))
        source, clock = make(resolver, tmp_path)
        source.start()
        clock.now_s += 31
        resolver.say(released(None, is_unknown=True))
        source.look()
        release = source.value.entries["digits"].release
        assert release
        assert (release.revision, release.shares()) == (7, {"3": 95, "4": 5})
        assert [str(each) for each in source.value.warnings if "revision 7, which was saved, stays" in str(each)]
        source.stop()
    resolver.say(released(None))  # it was taken away
    source.look()
    assert source.value.entries["digits"].release is None
    assert not source.value.warnings


def test_without_a_saved_state_the_fallback_holds():
    source, _ = make(Moved("nobody answers"), fallback={"digits": {"endpoints": ["10.0.0.9:5000"]}})
    source.start()
    assert hosts(source) == ["10.0.0.9:5000"]
    assert source.status()["origin"] == "fallback"
    assert source.status()["last_good"] is None


def test_with_nothing_to_begin_with_it_cannot_start(tmp_path: Path):
    source, _ = make(Moved("nobody answers"), tmp_path)
    with pytest.raises(DiscoveryError, match="nobody answers"):
        source.start()


def test_a_spoiled_saved_state_is_said_and_the_fallback_holds(tmp_path: Path, caplog):
    before, _ = make(Moved(snapshot(1)), tmp_path)
    before.start()
    before.stop()
    next(tmp_path.iterdir()).write_text("{")
    source, _ = make(Moved("nobody answers"), tmp_path, fallback={"digits": {"endpoints": ["10.0.0.9:5000"]}})
    source.start()
    assert hosts(source) == ["10.0.0.9:5000"]
    assert "it is not used" in caplog.text


def test_the_saved_state_is_not_replaced_by_the_fallback_or_a_failure(tmp_path: Path):
    resolver = Moved("nobody answers")
    source, _ = make(resolver, tmp_path, fallback={"digits": {"endpoints": ["10.0.0.9:5000"]}})
    source.start()
    source.stop()
    assert not list(tmp_path.iterdir())


def test_a_burst_of_changes_is_saved_once_a_second_and_at_the_end(tmp_path: Path):
    resolver = Moved(snapshot(1))
    source, clock = make(resolver, tmp_path, empty_grace_ms=0)
    source.start()
    path = next(tmp_path.iterdir())
    first = path.read_text()
    for host in (2, 3, 4):
        resolver.say(snapshot(host))
        source.look()
    assert path.read_text() == first
    clock.now_s += 1
    source.look()
    assert "10.0.0.4" in path.read_text()
    resolver.say(snapshot(5))
    source.look()
    source.stop()
    assert "10.0.0.5" in path.read_text()
    assert resolver.steps == ["start", "stop"]


def test_a_state_dir_that_cannot_be_written_is_said_and_costs_nothing_else(tmp_path: Path, caplog):
    (tmp_path / "file").write_text("")
    source, _ = make(Moved(snapshot(1)), tmp_path / "file" / "folder")
    source.start()
    assert hosts(source) == ["10.0.0.1:5000"]
    assert "cannot be saved" in source.status()["save_error"]
    assert caplog.text.count("cannot be saved") == 1
