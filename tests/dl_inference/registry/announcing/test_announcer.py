"""Announcing endpoints in a real ZooKeeper: what is there, what comes back, and what the server waits for."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from fixtures.access_process import wait_until
from fixtures.registry_client import LIMIT_S, PatientClient
from fixtures.zookeeper_process import Server, one_server, start_ensemble
from kazoo.exceptions import NoAuthError, NoNodeError, NotEmptyError
from kazoo.security import make_digest_acl

from dl_inference.registry import zookeeper
from dl_inference.registry.announcing import announcer as announce
from dl_inference.registry.announcing.announcer import Announcer
from dl_inference.registry.schema import EndpointDocument
from dl_inference.registry.zookeeper import Zookeeper

SESSION_S = 2.0
"""Short, so that what waits for a session's end ends soon; long beside a stall of a busy machine."""
PROMPT_S = 5.0
"""More than a stall of a busy machine, less than a wait for a registry that does not answer, had it no limit."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch) -> None:
    """Seconds of waiting before a line, or another attempt, prove nothing."""
    monkeypatch.setattr(announce, "PATIENCE_S", 0.5)
    monkeypatch.setattr(announce, "FIRST_DELAY_S", 0.2)
    monkeypatch.setattr(zookeeper, "MAX_RECONNECT_DELAY_S", 0.5)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with one_server(tmp_path_factory.mktemp("zookeeper")) as made:
        yield made


@pytest.fixture
def place(server: Server) -> Zookeeper:
    return Zookeeper(server.address, f"/t{uuid.uuid4().hex}/fleet", session_timeout_s=SESSION_S)


@pytest.fixture
def look(place: Zookeeper) -> Iterator[PatientClient]:
    """Someone else's client."""
    made = PatientClient(place.hosts, timeout=SESSION_S)
    yield made
    made.end()


@pytest.fixture
def announcer(place: Zookeeper) -> Iterator[Callable[..., Announcer]]:
    made: list[Announcer] = []

    def make(at: Zookeeper = place, **options) -> Announcer:
        made.append(Announcer(at, **{"program": "test 1", "linger_s": 0.3, **options}))
        return made[-1]

    yield make
    for each in made:
        each.close(LIMIT_S)


class Prompt:
    """Asserts that what is done inside does not wait for a registry."""

    def __enter__(self) -> None:
        self.begin = time.monotonic()

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            assert time.monotonic() - self.begin < PROMPT_S


def document(model: str = "m", address: str = "10.0.0.1:5000", **fields) -> EndpointDocument:
    return EndpointDocument(address=address, protocol="seldon", model=model, **fields)


def path(place: Zookeeper, model: str = "m", address: str = "10.0.0.1:5000") -> str:
    return f"{place.chroot}/models/{model}/endpoints/{address}"


def read(look: PatientClient, path: str) -> dict | None:
    with contextlib.suppress(NoNodeError, ValueError):
        return json.loads(look.get(path)[0])
    return None


def owner(look: PatientClient, path: str) -> int:
    stat = look.exists(path)
    return stat.ephemeralOwner if stat else 0


def await_node(look: PatientClient, path: str, **fields) -> dict:
    def fits() -> dict | None:
        found = read(look, path)
        return found if found is not None and fields.items() <= found.items() else None

    return wait_until(fits, f"{path} is there with {fields}: {read(look, path)}", LIMIT_S)


def await_gone(look: PatientClient, path: str) -> None:
    wait_until(lambda: look.exists(path) is None, f"{path} is gone", LIMIT_S)


def warnings(caplog) -> list[str]:
    """Return what our side has warned of; `look` says something, too."""
    return [each.getMessage() for each in caplog.records if (each.name, each.levelno >= 30) == ("registry", True)]


def test_a_document_appears_changes_and_goes(place, look, announcer):
    ours = announcer()
    ours.announce([document(version="3", labels=("stable",), weight=2, capacity=8)])
    found = await_node(look, path(place))
    assert found.pop("since").endswith("+00:00")
    assert found == {
        "schema": 1,
        "address": "10.0.0.1:5000",
        "protocol": "seldon",
        "model": "m",
        "version": "3",
        "versions": [],
        "labels": ["stable"],
        "weight": 2,
        "capacity": 8,
        "state": "ready",
        "program": "test 1",
        "instance": ours.instance,
    }
    assert owner(look, path(place)) != 0
    ours.announce([document(version="4"), document("n")])
    assert await_node(look, path(place), version="4", weight=1).get("capacity") is None
    await_node(look, path(place, "n"))
    assert ours.close(LIMIT_S)
    assert read(look, path(place)) is None
    assert read(look, path(place, "n")) is None


def test_a_document_that_is_no_longer_wanted_says_goodbye_before_it_goes(place, look, announcer):
    ours = announcer(linger_s=1.0)
    ours.announce([document(), document("n")])
    await_node(look, path(place))
    ours.announce([document("n")])
    await_node(look, path(place), state="draining")
    begin = time.monotonic()
    await_gone(look, path(place))
    assert time.monotonic() - begin > 0.7, "the linger_s of 1.0, but for how late its begin was seen"
    assert read(look, path(place, "n"))["state"] == "ready"


def test_a_document_that_is_wanted_again_before_it_went_stays(place, look, announcer):
    ours = announcer(linger_s=60)
    ours.announce([document()])
    before = await_node(look, path(place))
    ours.announce([])
    await_node(look, path(place), state="draining")
    ours.announce([document()])
    assert await_node(look, path(place), state="ready") == before


def test_the_goodbye_is_written_when_it_returns_and_nothing_comes_back_after_it(place, look, announcer):
    ours = announcer()
    ours.announce([document(), document("n")])
    await_node(look, path(place, "n"))
    assert ours.goodbye(LIMIT_S)
    assert [read(look, path(place, name))["state"] for name in ("m", "n")] == ["draining", "draining"]
    ours.announce([document(weight=7), document("n")])
    assert await_node(look, path(place), weight=7)["state"] == "draining"
    look.delete(path(place, "n"))
    assert ours.goodbye(LIMIT_S)
    assert ours.close(LIMIT_S)
    assert look.get_children(f"{place.chroot}/models/m/endpoints") == []
    assert look.get_children(f"{place.chroot}/models/n/endpoints") == []


def test_keys_that_others_wrote_stay_when_the_server_changes_its_document(place, look, announcer):
    ours = announcer()
    ours.announce([document()])
    found = await_node(look, path(place))
    look.set(path(place), json.dumps({**found, "rack": ["b", {"4": None}]}).encode())
    ours.announce([document(weight=3)])
    assert await_node(look, path(place), weight=3)["rack"] == ["b", {"4": None}]
    look.delete(path(place))
    assert await_node(look, path(place), weight=3)["rack"] == ["b", {"4": None}]


@pytest.mark.parametrize("wrong", [b"", b"\xff", b"[]", b'{"weight": "many"}'])
def test_what_others_overwrote_is_mended(place, look, announcer, wrong):
    ours = announcer()
    ours.announce([document()])
    found = await_node(look, path(place))
    look.set(path(place), wrong)
    wait_until(lambda: look.get(path(place))[0] != wrong, "it is mended", LIMIT_S)
    assert read(look, path(place)) == found


def test_a_node_that_somebody_deleted_comes_back_again_and_again(place, look, announcer):
    ours = announcer()
    ours.announce([document()])
    for _ in range(3):
        await_node(look, path(place))
        look.delete(path(place))
    await_node(look, path(place))

    def is_deleted():
        try:
            look.delete(f"{place.chroot}/models", recursive=True)
        except NotEmptyError:  # it was back before the rest had gone
            return False
        return True

    wait_until(is_deleted, "everything is deleted", LIMIT_S)
    await_node(look, path(place))


def test_after_an_expired_session_everything_comes_back_once(place, look, announcer):
    ours = announcer()
    ours.announce([document(), document("n")])
    await_node(look, path(place, "n"))
    before = owner(look, path(place))
    # Whoever shows a session's id and password has it, and may end it.
    PatientClient(place.hosts, client_id=ours._link.client.client_id, timeout=SESSION_S).end()
    for name in ("m", "n"):
        wait_until(lambda name=name: owner(look, path(place, name)) not in (0, before), "of a new session", LIMIT_S)
        assert read(look, path(place, name))["instance"] == ours.instance
        assert len(look.get_children(f"{place.chroot}/models/{name}/endpoints")) == 1


def test_a_node_of_our_own_former_session_is_replaced(place, look, announcer):
    ours = announcer()
    left = document().model_copy(update={"instance": ours.instance})
    other = PatientClient(place.hosts, timeout=SESSION_S)
    other.create(path(place), left.dump(), ephemeral=True, makepath=True)
    former = owner(look, path(place))
    ours.announce([document()])
    wait_until(lambda: owner(look, path(place)) not in (0, former), "of our session", LIMIT_S)
    other.end()
    assert read(look, path(place))["instance"] == ours.instance


def test_the_later_of_two_announcers_of_one_address_has_it_and_the_other_waits(place, look, announcer, caplog):
    first, second = announcer(), announcer(program="rival 2")
    first.announce([document(weight=1)])
    await_node(look, path(place), instance=first.instance)
    second.announce([document(weight=2)])
    await_node(look, path(place), instance=second.instance)
    wait_until(lambda: "rival 2" in caplog.text, "the first says so", LIMIT_S)
    first.announce([document(weight=3)])
    assert first.goodbye(LIMIT_S), "a goodbye to what is not ours is done"
    assert read(look, path(place))["instance"] == second.instance
    assert caplog.text.count("is no longer ours") == 1
    assert second.close(LIMIT_S)
    await_gone(look, path(place))


def test_an_address_whose_usurper_has_gone_is_taken_again(place, look, announcer):
    first, second = announcer(), announcer()
    first.announce([document()])
    await_node(look, path(place), instance=first.instance)
    second.announce([document()])
    await_node(look, path(place), instance=second.instance)
    second.close(LIMIT_S)
    await_node(look, path(place), instance=first.instance)


def test_a_node_that_holds_no_document_is_replaced_at_the_start(place, look, announcer):
    look.create(path(place), b"\x00 not JSON", makepath=True)
    ours = announcer()
    ours.announce([document()])
    await_node(look, path(place), instance=ours.instance)
    assert owner(look, path(place)) != 0


def test_what_cannot_be_replaced_is_said_once_and_costs_the_others_nothing(place, look, announcer, caplog):
    look.create(f"{path(place)}/child", makepath=True)
    ours = announcer()
    ours.announce([document(), document("n")])
    await_node(look, path(place, "n"))
    wait_until(lambda: "in the way" in caplog.text, "it is said", LIMIT_S)
    look.delete(path(place), recursive=True)
    await_node(look, path(place), instance=ours.instance)
    assert len(warnings(caplog)) == 1


# --- who may


def test_what_is_made_may_be_changed_only_by_who_logs_in_as_the_same(place, look, announcer):
    ours = announcer(replace(place, username="fleet", password="secret"))
    ours.announce([document()])
    await_node(look, path(place))
    parts = path(place).split("/")
    for depth in range(2, len(parts) + 1):
        acls, _ = look.get_acls("/".join(parts[:depth]))  # "x": the server shows no hash to who may not administer it
        assert [(acl.id.scheme, acl.id.id, acl.acl_list) for acl in acls] == [
            ("digest", "fleet:x", ["ALL"]),
            ("world", "anyone", ["READ"]),
        ]
    with pytest.raises(NoAuthError):
        look.set(path(place), b"{}")
    with pytest.raises(NoAuthError):
        look.create(path(place, address="10.0.0.2:5000"))


def test_a_login_that_may_not_write_is_named_once(place, look, announcer, caplog):
    look.ensure_path(f"{place.chroot}/models/m")
    look.create(f"{place.chroot}/models/m/endpoints", acl=[make_digest_acl("boss", "b", all=True)])
    ours = announcer(replace(place, username="fleet", password="secret"))
    ours.announce([document(), document("n")])
    wait_until(lambda: "may not be written by fleet" in caplog.text, "it is said", LIMIT_S)
    ours.announce([document(weight=2), document("n")])
    await_node(look, path(place, "n"))
    assert "secret" not in caplog.text
    assert len(warnings(caplog)) == 1


def test_a_refused_login_is_said_once_and_tried_again(server, place, announcer, caplog):
    caplog.set_level(logging.DEBUG, "registry")
    ours = announcer(replace(place, username="fleet", password="wrong", sasl="DIGEST-MD5"))
    ours.announce([document()])
    wait_until(lambda: caplog.text.count("the login as fleet was refused") > 1, "it is said", LIMIT_S)
    assert warnings(caplog) == [
        f"registry {place.url}: the login as fleet was refused; nothing is announced, trying again"
    ]
    with Prompt():
        assert not ours.goodbye(0.1)
        ours.close(LIMIT_S)


# --- a registry that is away


def test_a_registry_that_was_dead_at_the_start_gets_everything_when_it_comes(run, tmp_path, announcer, caplog):
    caplog.set_level(logging.INFO, "registry")
    theirs = start_ensemble(run, tmp_path, 1).servers[0]
    place = Zookeeper(theirs.address, "/x", session_timeout_s=SESSION_S)
    theirs.kill()
    with Prompt():
        ours = announcer(place)
        ours.announce([document(weight=1)])
        ours.announce([document(weight=2)])
    wait_until(lambda: "cannot be reached" in caplog.text, "it is said", LIMIT_S)
    theirs.restart()
    theirs.await_ready()
    look = PatientClient(place.hosts)
    await_node(look, path(place), weight=2)
    wait_until(lambda: "announced 1 endpoint" in caplog.text, "all is well", LIMIT_S)
    # Killed while it runs: the same again, once, and the end does not wait.
    theirs.kill()
    wait_until(lambda: len(warnings(caplog)) == 2, "it is said once more", LIMIT_S)
    ours.announce([document(weight=3)])
    theirs.restart()
    theirs.await_ready()
    await_node(look, path(place), weight=3)
    theirs.kill()
    look.end()
    with Prompt():
        assert not ours.goodbye(0.2)
        ours.close(0.2)
    assert caplog.text.count("cannot be reached") == 2


def test_a_frozen_registry_keeps_nobody_waiting(server, place, look, announcer, caplog):
    caplog.set_level(logging.INFO, "registry")
    ours, leaving, late = announcer(), announcer(), announcer()
    ours.announce([document()])
    leaving.announce([document("n")])
    wait_until(lambda: caplog.text.count("announced 1 endpoint") == 2, "both are announced", LIMIT_S)
    server.freeze()
    try:
        with Prompt():
            ours.announce([document(weight=2)])
            late.announce([document("o")])
            for each in (leaving, late):
                assert not each.goodbye(0.2)
                assert not each.close(0.2)
        assert caplog.text.count("does not answer") == 1, "of the one that had announced something"
        wait_until(lambda: "cannot be reached" in caplog.text, "it is said", LIMIT_S)
    finally:
        server.thaw()
    await_node(look, path(place), weight=2, state="ready")
    await_gone(look, path(place, "n"))
    assert read(look, path(place, "o")) is None


def test_nothing_is_started_before_something_is_announced(place):
    before = set(threading.enumerate())
    ours = Announcer(replace(place, hosts="127.0.0.1:1"))
    ours.announce([])
    assert not ours.goodbye(LIMIT_S)
    assert ours.close(LIMIT_S)
    assert set(threading.enumerate()) == before


def test_many_announcements_in_a_row_end_with_the_last(place, look, announcer):
    ours = announcer()
    for weight in range(1, 300):
        ours.announce([document(str(number), weight=weight) for number in range(20)])
    for number in range(20):
        await_node(look, path(place, str(number)), weight=299)
