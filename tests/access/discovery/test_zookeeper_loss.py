"""What following does while ZooKeeper is away, hangs, forgets the session, or changes its leader."""

import threading
import time

import pytest
from fixtures.registry_client import PatientClient
from fixtures.registry_hand import LIMIT_S, Followed, Hand, addresses
from fixtures.zookeeper_process import start_ensemble

from access.discovery.base import Snapshot
from access.errors import DiscoveryError

# Frozen servers are noticed after two thirds of it.
SESSION_MS = 1500


@pytest.fixture
def followed(hand):
    hand.announce("m", "a:1")
    hand.release("m", 1, v3=100)
    with Followed(hand.hosts, hand.chroot, session_timeout_ms=SESSION_MS) as followed:
        followed.wait(lambda said: addresses(said, "m") == ["a:1"] and said.entries["m"].release)
        yield followed


def test_a_restarted_server_is_read_again_before_the_state_is_good(ensemble, hand, followed):
    (server,) = ensemble.servers
    before = followed.read()
    server.kill()
    followed.wait_error("unreachable since")
    with pytest.raises(DiscoveryError, match="unreachable since"):
        followed.resolver.read()
    hand.client.stop()
    server.restart()
    assert followed.wait(lambda said: True) == before
    # Every watch is set anew: children, data and the release.
    hand.client.start(LIMIT_S)
    hand.announce("m", "b:1")
    followed.wait(lambda said: addresses(said, "m") == ["a:1", "b:1"])
    hand.announce("m", "a:1", weight=7)
    followed.wait(lambda said: said.entries["m"].endpoints[0].weight == 7)
    hand.release("m", 2, v3=100)
    followed.wait(lambda said: said.entries["m"].release.revision == 2)
    hand.announce("n", "c:1")
    followed.wait(lambda said: addresses(said, "n") == ["c:1"])


def test_what_changed_while_it_was_away_is_seen(ensemble, hand, followed):
    (server,) = ensemble.servers
    hand.announce("gone", "g:1")
    followed.wait(lambda said: "gone" in said.entries)
    follower = followed.resolver._follower
    begin, may_begin = follower._reader.begin, threading.Event()

    def held(client):
        assert may_begin.wait(LIMIT_S)
        begin(client)

    follower._reader.begin = held
    server.kill()
    followed.wait_error()
    server.restart()
    server.await_ready()
    hand.client.delete(f"{hand.chroot}/models/gone", recursive=True)
    hand.announce("m", "b:1")
    hand.client.delete(hand.path("m", "a:1"))
    hand.client.delete(f"{hand.chroot}/models/m/release")
    may_begin.set()
    said = followed.wait(lambda said: True)
    assert list(said.entries) == ["m"]
    assert addresses(said, "m") == ["b:1"]
    assert said.entries["m"].release is None


def test_a_frozen_server_is_noticed_and_is_good_again_after_it(ensemble, hand, followed):
    (server,) = ensemble.servers
    server.freeze()
    try:
        followed.wait_error("unreachable since")
    finally:
        server.thaw()
    followed.wait(lambda said: addresses(said, "m") == ["a:1"])
    hand.announce("m", "b:1")
    followed.wait(lambda said: addresses(said, "m") == ["a:1", "b:1"])


@pytest.mark.parametrize("when", ["connected", "connecting"])
def test_stopping_ends_within_seconds_while_the_server_is_frozen(ensemble, hand, followed, when):
    (server,) = ensemble.servers
    server.freeze()
    try:
        if when == "connecting":
            followed.wait_error("unreachable since")
        begun = time.monotonic()
        followed.resolver.stop()
        assert time.monotonic() - begun < 5
        said = len(followed.said)
        names = {thread.name for thread in threading.enumerate()}
        assert not names & {"registry", "zookeeper-close"}
    finally:
        server.thaw()
    hand.announce("m", "b:1")
    assert hand.client.exists(hand.path("m", "b:1"))
    assert len(followed.said) == said


def test_an_expired_session_is_replaced_and_everything_read_again(hand, followed):
    session = followed.resolver._follower._session.client
    begun = len(followed.said)
    PatientClient(hand.hosts, client_id=session.client_id).end()  # who connects with a session's id takes it over
    hand.announce("m", "b:1")
    followed.wait(lambda said: addresses(said, "m") == ["a:1", "b:1"])
    said = followed.said[begun:]
    assert isinstance(said[0], DiscoveryError)
    assert all(addresses(each, "m") for each in said if isinstance(each, Snapshot))
    hand.announce("m", "a:1", weight=7)
    followed.wait(lambda said: said.entries["m"].endpoints[0].weight == 7)


def test_a_fault_of_this_program_is_said_and_the_following_begins_anew(hand, followed, monkeypatch, caplog):
    reader = followed.resolver._follower._reader
    monkeypatch.setattr("dl_inference.registry.following.follower.RETRY_S", 0.1)
    with monkeypatch.context() as broken:
        broken.setattr(reader, "tick", lambda now: 1 / 0)
        hand.announce("m", "b:1")
        followed.wait_error("a fault of this program")
    followed.wait(lambda said: addresses(said, "m") == ["a:1", "b:1"])
    assert "ZeroDivisionError" in caplog.text


def test_the_death_of_the_leader_and_of_the_whole_ensemble_is_survived(tmp_path, run):
    ensemble = start_ensemble(run, tmp_path, 3)
    hand = Hand(ensemble.hosts, "/fleet")
    hand.announce("m", "a:1")
    with Followed(hand.hosts, hand.chroot) as followed:
        followed.wait(lambda said: addresses(said, "m") == ["a:1"])
        leader = ensemble.leader
        leader.kill()
        hand.announce("m", "b:1")
        followed.wait(lambda said: addresses(said, "m") == ["a:1", "b:1"])
        leader.restart()
        leader.await_ready()
        for server in ensemble.servers:
            server.kill()
        followed.wait_error("unreachable since")
        for server in ensemble.servers:
            server.restart()
        ensemble.await_ready()
        followed.wait(lambda said: addresses(said, "m") == ["a:1", "b:1"])
        hand.announce("m", "c:1")
        followed.wait(lambda said: addresses(said, "m") == ["a:1", "b:1", "c:1"])
        words = [str(said) for said in followed.said if isinstance(said, DiscoveryError)]
    hand.close()
    assert len(words) < 20  # said once, with a few reasons; not at every attempt
