"""Following a registry, and saying in it what has been applied."""

import json
import statistics
import time

from fixtures.registry_hand import LIMIT_S, Followed, Hand, addresses, document

from access.discovery.base import Snapshot
from dl_inference.registry.schema import AccessDocument


def test_the_first_reading_waits_for_the_whole_state(hand):
    for model in range(20):
        for number in range(5):
            hand.announce(
                f"m{model}", f"10.0.0.{number}:80", version="3", versions=("2",), labels=("stable",), weight=number + 1
            )
    with Followed(hand.hosts, hand.chroot) as followed:
        snapshot = followed.resolver.read()
    assert list(snapshot.entries) == sorted(f"m{model}" for model in range(20))
    entry = snapshot.entries["m7"]
    assert [(each.address, each.weight, each.version, each.versions) for each in entry.endpoints] == [
        (f"10.0.0.{number}:80", number + 1, "3", ("2",)) for number in range(5)
    ]
    assert {each.labels for each in entry.endpoints} == {("stable",)}
    assert entry.protocol == "tfs"
    assert not snapshot.warnings


def test_a_change_is_told_within_a_second(hand, followed):
    followed.resolver.read()
    delays = []
    for weight in range(1, 12):
        written = time.monotonic()
        hand.announce("m", "a:1", weight=weight)
        followed.wait(lambda said, weight=weight: [e.weight for e in said.entries["m"].endpoints] == [weight])
        delays.append(time.monotonic() - written)
    assert statistics.median(delays) < 1
    hand.announce("m", "b:1", version="7")
    followed.wait(lambda said: addresses(said, "m") == ["a:1", "b:1"])
    hand.announce("m", "b:1", version="8", versions=("7",))
    said = followed.wait(lambda said: said.entries["m"].endpoints[1].version == "8")
    assert said.entries["m"].endpoints[1].versions == ("7",)
    hand.client.delete(hand.path("m", "b:1"))
    followed.wait(lambda said: addresses(said, "m") == ["a:1"])


def test_what_is_written_at_once_is_told_once_and_never_by_halves(hand, followed):
    old, new = [f"10.0.0.{n}:80" for n in range(50)], [f"10.0.1.{n}:80" for n in range(50)]
    for address in old:
        hand.announce("m", address)
    followed.wait(lambda said: addresses(said, "m") == sorted(old))
    begun = len(followed.said)
    swap = hand.client.transaction()
    for address in old:
        swap.delete(hand.path("m", address))
    for address in new:
        swap.create(hand.path("m", address), document("m", address))
    assert not [result for result in swap.commit() if isinstance(result, Exception)]
    followed.wait(lambda said: addresses(said, "m") == sorted(new))
    hand.announce("m", new[0], weight=9)  # something told after it
    followed.wait(lambda said: said.entries["m"].endpoints[0].weight == 9)
    assert [len(said.entries["m"].endpoints) for said in followed.said[begun:]] == [50, 50]


def test_a_registry_that_is_made_later_is_noticed(hand, followed):
    assert followed.resolver.read() == Snapshot()
    hand.client.create(hand.chroot)
    hand.client.create(f"{hand.chroot}/models")
    hand.client.create(f"{hand.chroot}/models/m")
    followed.wait(lambda said: "m" in said.entries and not said.entries["m"].endpoints)
    hand.client.create(f"{hand.chroot}/models/m/endpoints")
    hand.announce("m", "a:1")
    followed.wait(lambda said: addresses(said, "m") == ["a:1"])
    hand.client.delete(hand.chroot, recursive=True)
    followed.wait(lambda said: not said.entries)
    hand.announce("m", "b:1")
    followed.wait(lambda said: "m" in said.entries and addresses(said, "m") == ["b:1"])


def test_a_draining_endpoint_is_leaving_until_it_is_back(hand, followed):
    hand.announce("m", "a:1")
    hand.announce("m", "b:1")
    followed.wait(lambda said: addresses(said, "m") == ["a:1", "b:1"])
    path = hand.announce("m", "a:1", state="draining")
    said = followed.wait(lambda said: addresses(said, "m") == ["b:1"])
    assert said.entries["m"].leaving == {"a:1"}
    hand.client.delete(path)
    hand.announce("m", "c:1")
    said = followed.wait(lambda said: addresses(said, "m") == ["b:1", "c:1"])
    assert said.entries["m"].leaving == {"a:1"}
    hand.announce("m", "a:1")
    said = followed.wait(lambda said: addresses(said, "m") == ["a:1", "b:1", "c:1"])
    assert said.entries["m"].leaving == frozenset()


def test_a_release_document_comes_changes_and_goes(hand, followed):
    hand.announce("m", "a:1")
    followed.wait(lambda said: "m" in said.entries and said.entries["m"].release is None)
    path = hand.release("m", 1, v3=100)
    followed.wait(lambda said: said.entries["m"].release is not None)
    hand.release("m", 2, v3=90, v4=10)
    said = followed.wait(lambda said: said.entries["m"].release.revision == 2)
    assert said.entries["m"].release.shares() == {"3": 90, "4": 10}
    hand.client.delete(path)
    followed.wait(lambda said: said.entries["m"].release is None)
    hand.release("m", 3, v4=1)
    followed.wait(lambda said: said.entries["m"].release is not None)


def test_a_release_document_that_cannot_be_used_leaves_the_last_good_one(hand, followed):
    path = hand.release("m", 1, v3=100)
    followed.wait(lambda said: "m" in said.entries and said.entries["m"].release is not None)
    for data in (b"{", b'{"schema": 2}', json.dumps({"model": "m", "revision": 9, "releases": {}}).encode()):
        hand.client.put(path, data)
        said = followed.wait(lambda said: said.warnings)
        assert said.entries["m"].release.revision == 1
        assert [(each.place, "revision 1 stays" in each.message) for each in said.warnings] == [(path, True)]
        hand.release("m", 1, v3=100)
        followed.wait(lambda said: not said.warnings)
    hand.client.put(hand.release("n", 1, v3=0), document("n", "a:1"))
    said = followed.wait(lambda said: "n" in said.entries and said.warnings)
    assert said.entries["n"].release is None
    assert "counts as none" in said.warnings[0].message


def test_who_fails_when_told_of_a_change_is_told_of_the_next(hand, followed, caplog):
    followed.resolver.read()

    def fail():
        followed.resolver._follower._changed = followed._changed
        raise ZeroDivisionError

    followed.resolver._follower._changed = fail
    hand.client.create(hand.chroot)
    hand.client.create(f"{hand.chroot}/models")
    hand.client.create(f"{hand.chroot}/models/m")
    deadline = time.monotonic() + LIMIT_S
    while "ZeroDivisionError" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.02)  # the log tells nobody
    hand.announce("m", "a:1")
    followed.wait(lambda said: addresses(said, "m") == ["a:1"])


def said_there(hand):
    """Return what the access services say of themselves."""
    folder = f"{hand.chroot}/access"
    names = hand.client.get_children(folder) if hand.client.exists(folder) else []
    return [AccessDocument.parse(hand.client.get(f"{folder}/{name}")[0]) for name in names]


def wait_until_said(hand, wanted):
    deadline = time.monotonic() + LIMIT_S
    while (said := said_there(hand)) != wanted:
        assert time.monotonic() < deadline, said
        time.sleep(0.02)  # a look at another program's work


def test_what_was_applied_is_said_in_the_registry_for_as_long_as_the_service_lives(hand, followed):
    hand.announce("m", "a:1")
    many = AccessDocument(host="h", applied={f"model{number}": (number + 1, "x" * 40) for number in range(3000)})
    one = AccessDocument(host="h", applied={"m": (1, "now")})
    for said in (many, one):
        followed.resolver.report(said)
        wait_until_said(hand, [said])
    session = followed.resolver._follower._session.client
    thief = Hand(hand.hosts, hand.chroot, client_id=session.client_id)
    thief.close()
    wait_until_said(hand, [one])
    followed.resolver.stop()
    wait_until_said(hand, [])


def test_without_a_registry_nothing_is_made_by_saying_what_was_applied(hand, followed, caplog):
    followed.resolver.read()
    followed.resolver.report(AccessDocument(host="h"))
    hand.client.create(f"{hand.chroot}-other")
    followed.resolver._follower._session.client.sync(f"{hand.chroot}-other")
    assert not hand.client.exists(hand.chroot)
    followed.resolver.report(AccessDocument(host="x" * 253, applied={"m": (1, "x" * 1_000_000)}))
    hand.announce("m", "a:1")
    followed.wait(lambda said: addresses(said, "m") == ["a:1"])
    assert "more than ZooKeeper takes" in caplog.text
    assert not said_there(hand)
