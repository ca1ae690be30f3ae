"""The contract of a discovery source, over all of RESOLVERS. What each kind is tried with: source_examples.py."""

import functools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
from fixtures.processes import Process
from fixtures.zookeeper_process import Ensemble, start_ensemble
from source_examples import EXAMPLES, MODEL, Example

from access.discovery import RESOLVERS, Resolver
from access.discovery.base import Snapshot
from access.errors import DiscoveryError
from access.following.followed import Followed
from access.following.watch import FolderWatcher

LIVE = [kind for kind in RESOLVERS if EXAMPLES[kind].is_live]
TWO = {"10.0.0.1:8500": 1, "10.0.0.2:8500": 2}
THREE = {**TWO, "10.0.0.3:8500": 3}
# A change is to be noticed within 2 s; the limit is for a machine that does other things, too.
NOTICED_S = 10
LIMIT_S = 40


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Ensemble]]:
    """Give a ZooKeeper that runs; it is started for the first who asks."""
    started: list[Process] = []

    def start(command: Sequence[str | Path]) -> Process:
        started.append(Process(command))
        return started[-1]

    yield functools.cache(lambda: start_ensemble(start, tmp_path_factory.mktemp("zookeeper"), 1))
    for process in started:
        process.kill()


@pytest.fixture
def example(kind: str, tmp_path: Path, zookeeper: Callable[[], Ensemble]) -> Iterator[Example]:
    example = EXAMPLES[kind](tmp_path, zookeeper)
    try:
        example.put(TWO)
        yield example
    finally:
        example.close()


@pytest.fixture
def resolver(kind: str, example: Example, tmp_path: Path) -> Iterator[Resolver]:
    source = RESOLVERS[kind]
    resolver = source.resolver.create(source.config.model_validate(example.config), tmp_path)
    yield resolver
    resolver.stop()


class Following:
    """Reads a source again when it calls, or when something happens in its files' folders, as the service does."""

    def __init__(self, resolver: Resolver) -> None:
        self._poked = threading.Event()
        self._followed: Followed[Snapshot] = Followed("example", resolver.read, resolver.watch_paths)
        self._watcher = FolderWatcher(self._poked.set)
        self.calls = 0
        resolver.start(self._changed)
        self._followed.start()
        if self._followed.paths:
            self._watcher.watch(self._followed.paths)
            assert self._poked.wait(LIMIT_S), "the watch does not stand"

    def _changed(self) -> None:
        self.calls += 1
        self._followed.poke()
        self._poked.set()

    def wait(self, wanted: Callable[[Snapshot, str | None], bool], timeout_s: float = LIMIT_S) -> Snapshot:
        """Return what is known as soon as the last good snapshot and the error, if any, are as wanted."""
        deadline = time.monotonic() + timeout_s
        while not wanted(self._followed.value, self._followed.error):
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"{self._followed.error} {self._followed.value}"
            # A file that is still being written is looked at again soon, without any event.
            self._poked.wait(0.05 if self._followed.is_settling() else left_s)
            self._poked.clear()
            self._followed.look()
        return self._followed.value

    def stop(self) -> None:
        self._watcher.stop()


@pytest.fixture
def following(resolver: Resolver) -> Iterator[Following]:
    following = Following(resolver)
    yield following
    resolver.stop()
    following.stop()


def weights(snapshot: Snapshot, key: str = MODEL) -> dict[str, int]:
    return {each.address: each.weight for each in snapshot.entries[key].endpoints}


def has(endpoints: dict[str, int]) -> Callable[[Snapshot, str | None], bool]:
    return lambda snapshot, error: error is None and MODEL in snapshot.entries and weights(snapshot) == endpoints


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def await_end(begun: set[threading.Thread]) -> None:
    """Wait until threads have ended."""
    for thread in begun:
        thread.join(LIMIT_S)
    assert not [thread for thread in begun if thread.is_alive()]


def test_every_kind_has_an_example():
    assert RESOLVERS.keys() <= EXAMPLES.keys()


@pytest.mark.parametrize("kind", RESOLVERS)
def test_its_kind_is_its_row_and_it_has_a_name_and_absolute_paths_to_watch(kind, example, resolver):
    assert RESOLVERS[kind].config.model_validate(example.config).kind == kind
    assert resolver.name
    assert all(path.is_absolute() for path in resolver.watch_paths())


@pytest.mark.parametrize("kind", RESOLVERS)
def test_reading_gives_every_endpoint_with_its_weight_and_twice_the_same(kind, resolver):
    resolver.start(lambda: None)
    first = resolver.read()
    assert weights(first) == TWO
    assert not first.warnings
    assert resolver.read() == first


@pytest.mark.parametrize("kind", RESOLVERS)
def test_stopping_works_without_a_start_and_twice_and_leaves_no_thread(kind, resolver):
    before = threads()
    resolver.stop()
    resolver.start(lambda: None)
    resolver.read()
    resolver.stop()
    resolver.stop()
    await_end(threads() - before)


@pytest.mark.parametrize("kind", LIVE)
def test_a_change_is_noticed_and_no_change_is_not(kind, example, following):
    following.wait(has(TWO))
    calls = following.calls
    example.put(THREE)
    begin = time.monotonic()
    following.wait(has(THREE), NOTICED_S)
    assert time.monotonic() - begin < NOTICED_S
    # A kind may notice in steps what is changed in steps.
    assert following.calls - calls <= len(THREE) + len(TWO) + 1


@pytest.mark.parametrize("kind", LIVE)
def test_what_cannot_be_used_is_a_warning_and_hurts_nothing_else(kind, example, following):
    example.spoil()
    snapshot = following.wait(lambda snapshot, error: bool(snapshot.warnings))
    assert weights(snapshot) == TWO


@pytest.mark.parametrize("kind", LIVE)
def test_every_good_endpoint_stays_and_every_bad_one_is_named_in_whatever_order_they_come(kind, example, following):
    draw = random.Random(20261129)
    for _ in range(8):
        good = [f"10.0.0.{number}:8500" for number in draw.sample(range(1, 99), draw.randint(1, 8))]
        bad = [example.bad(number) for number in draw.sample(range(1, 99), draw.randint(1, 3))]
        mixed = [*good, *bad]
        draw.shuffle(mixed)
        example.put(dict.fromkeys(mixed, 1))
        # Some name the node that holds the address, a name server knows no ports.
        shown = [quote(each, safe=":") if kind == "zookeeper" else each for each in bad]
        shown = [each.removesuffix(":80") for each in shown]

        def is_so(snapshot: Snapshot, error: str | None, good: list[str] = good, shown: list[str] = shown) -> bool:
            told = " ".join(str(each) for each in snapshot.warnings)
            return has(dict.fromkeys(good, 1))(snapshot, error) and all(each in told for each in shown)

        following.wait(is_so)


@pytest.mark.parametrize("kind", LIVE)
def test_loss_is_a_discovery_error_and_ends(kind, example, resolver, following):
    example.lose()
    last = following.wait(lambda snapshot, error: error is not None)
    assert weights(last) == TWO
    with pytest.raises(DiscoveryError):
        resolver.read()
    example.recover()
    following.wait(has(TWO))


@pytest.mark.parametrize("kind", LIVE)
def test_stopping_while_the_source_hangs_takes_no_longer_than_a_moment(kind, example, resolver):
    before = threads()
    example.hang()
    resolver.start(lambda: None)
    begin = time.monotonic()
    resolver.stop()
    assert time.monotonic() - begin < NOTICED_S
    await_end(threads() - before)


@pytest.mark.parametrize("kind", LIVE)
def test_stopping_after_the_source_began_to_hang_takes_no_longer_than_a_moment(kind, example, resolver):
    before = threads()
    resolver.start(lambda: None)
    assert weights(resolver.read()) == TWO
    example.hang()
    begin = time.monotonic()
    resolver.stop()
    assert time.monotonic() - begin < NOTICED_S
    await_end(threads() - before)
