"""Sessions beside a real ZooKeeper that lost what it had."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fixtures.registry_client import LIMIT_S
from fixtures.registry_hand import Followed, Hand, addresses
from fixtures.zookeeper_process import Server, one_server

from dl_inference.registry import zookeeper
from dl_inference.registry.announcing.announcer import Announcer
from dl_inference.registry.schema import EndpointDocument
from dl_inference.registry.zookeeper import Zookeeper

SESSION_S = 2.0
ADDRESS = "10.0.0.1:5000"


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(zookeeper, "MAX_RECONNECT_DELAY_S", 0.5)
    with one_server(tmp_path) as made:
        yield made


@pytest.mark.parametrize("loss", ["emptied", "an old backup"])
def test_an_ensemble_that_went_back_has_its_servers_and_followers_again(server, tmp_path, caplog, loss):
    place = Zookeeper(server.address, "/fleet", session_timeout_s=SESSION_S)
    announcer = Announcer(place)
    announcer.announce([EndpointDocument(address=ADDRESS, protocol="tfs", model="m")])
    hand = Hand(server.address, place.chroot)
    hand.release("m", 1, v1=100)
    server.back_up(tmp_path / "backup")
    with Followed(server.address, place.chroot, session_timeout_ms=int(1000 * SESSION_S)) as followed:
        followed.wait(lambda said: addresses(said, "m") == [ADDRESS] and said.entries["m"].release.revision == 1)
        hand.release("m", 2, v1=100)
        for number in range(100):  # so that what comes after the loss is fewer changes than before it
            hand.announce("n", f"10.0.0.2:{5000 + number}")
        followed.wait(lambda said: len(addresses(said, "n")) == 100 and said.entries["m"].release.revision == 2)
        server.kill()
        hand.close()
        followed.wait_error("unreachable since")
        server.lose_data(None if loss == "emptied" else tmp_path / "backup")
        server.restart()
        server.await_ready()
        said = followed.wait(lambda said: addresses(said, "m") == [ADDRESS], 5 * SESSION_S)
        assert list(said.entries) == ["m"]
        release = said.entries["m"].release
        assert (release and release.revision) == (None if loss == "emptied" else 1)
        assert announcer.close(LIMIT_S), "it has a session again"
        followed.wait(lambda said: not said.entries.get("m") or not said.entries["m"].endpoints)
    told = [record.getMessage() for record in caplog.records if "went back from change" in record.getMessage()]
    assert told, "of the follower at least, who saw the last change before the loss"
    assert all("emptied, or has an old backup" in each and place.url in each for each in told)
