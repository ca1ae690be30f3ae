"""A real ZooKeeper for the tests of a file, and in it a registry for each test."""

import itertools
from collections.abc import Iterator

import pytest
from fixtures.processes import Process
from fixtures.registry_hand import Followed, Hand
from fixtures.zookeeper_process import Ensemble, start_ensemble

numbers = itertools.count()


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """One server; a file with wishes of its own has a fixture of this name."""
    started: list[Process] = []

    def start(command: list[str]) -> Process:
        started.append(Process(command))
        return started[-1]

    yield start_ensemble(start, tmp_path_factory.mktemp("zookeeper"), 1)
    for process in started:
        process.kill()


@pytest.fixture
def hand(ensemble: Ensemble) -> Iterator[Hand]:
    """Write a registry of the test's own, which does not exist yet."""
    hand = Hand(ensemble.hosts, f"/fleet{next(numbers)}")
    yield hand
    hand.close()


@pytest.fixture
def followed(hand: Hand) -> Iterator[Followed]:
    """Follow it."""
    with Followed(hand.hosts, hand.chroot) as followed:
        yield followed
