"""Following a registry: one real ZooKeeper, a chroot of its own for each test."""

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import ROOT, Process
from registry_hand import Followed, Hand, addresses, document
from zookeeper_process import start_ensemble

from access.check import config as check
from access.discovery.base import DiscoveryError, Snapshot
from access.discovery.zookeeper import MAX_WARNINGS, ZookeeperConfig, ZookeeperResolver
from access.errors import ConfigError
from access.load import load

numbers = itertools.count()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    started: list[Process] = []

    def start(command):
        started.append(Process(command))
        return started[-1]

    yield start_ensemble(start, tmp_path_factory.mktemp("zookeeper"), 1).hosts
    for process in started:
        process.kill()


@pytest.fixture
def hand(hosts):
    hand = Hand(hosts, f"/fleet{next(numbers)}")
    yield hand
    hand.close()


@pytest.fixture
def followed(hand):
    with Followed(hand.hosts, hand.chroot) as followed:
        yield followed


# --- following


def test_the_first_reading_waits_for_the_whole_state(hand):
    for model in range(20):
        for number in range(5):
            hand.announce(f"m{model}", f"10.0.0.{number}:80", version="3", versions=("2",), weight=number + 1)
    with Followed(hand.hosts, hand.chroot) as followed:
        snapshot = followed.resolver.read()
    assert list(snapshot.entries) == sorted(f"m{model}" for model in range(20))
    entry = snapshot.entries["m7"]
    assert [(each.address, each.weight, each.version, each.versions) for each in entry.endpoints] == [
        (f"10.0.0.{number}:80", number + 1, "3", ("2",)) for number in range(5)
    ]
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
        hand.put(path, data)
        said = followed.wait(lambda said: said.warnings)
        assert said.entries["m"].release.revision == 1
        assert [(each.place, "revision 1 stays" in each.message) for each in said.warnings] == [(path, True)]
        hand.release("m", 1, v3=100)
        followed.wait(lambda said: not said.warnings)
    hand.put(hand.release("n", 1, v3=0), document("n", "a:1"))
    said = followed.wait(lambda said: "n" in said.entries and said.warnings)
    assert said.entries["n"].release is None
    assert "counts as none" in said.warnings[0].message


# --- what cannot be used

HOSTILE = {
    "nothing": b"",
    "no json": b"{" * 100,
    "no object": b"[1]",
    "too large": b" " * 65_537,
    "huge": b"x" * 900_000,
    "deep": b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "another schema": b'{"schema": 2, "address": "h:1", "protocol": "tfs", "model": "m"}',
    "a long number": b'{"schema": 1, "address": "h:1", "protocol": "tfs", "model": "m", "weight": 1'
    + b"0" * 4299
    + b"}",
    "a wrong type": b'{"schema": 1, "address": "h:1", "protocol": "tfs", "model": "m", "weight": "many"}',
    "no utf-8": b'{"schema": 1, "address": "\xff"}',
    "another model": document("other", "h:1"),
    "another address": document("m", "other:1"),
    "escapes": b'{"schema": 1, "address": "h:1", "protocol": "tfs", "model": "m", "state": "\\u001b[31m\\nok"}',
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_document_costs_its_own_node_only(hand, followed, data):
    hand.announce("m", "a:1")
    hand.put(hand.path("m", "h:1"), data)
    hand.announce("n", "b:1")
    said = followed.wait(lambda said: "n" in said.entries and said.warnings)
    assert addresses(said, "m") == ["a:1"]
    assert addresses(said, "n") == ["b:1"]
    (warning,) = said.warnings
    assert warning.place == hand.path("m", "h:1")
    assert str(warning).isprintable()
    assert len(str(warning)) < 500
    hand.announce("m", "h:1")
    followed.wait(lambda said: addresses(said, "m") == ["a:1", "h:1"] and not said.warnings)


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "%2e%2e", "h", "h%3A1", "H:1\u202e", "x" * 5000])
def test_a_node_whose_name_is_not_its_address_is_skipped(hand, followed, name):
    hand.announce("m", "a:1")
    hand.put(f"{hand.chroot}/models/m/endpoints/{name}", document("m", "h:1"))
    said = followed.wait(lambda said: said.warnings)
    assert addresses(said, "m") == ["a:1"]
    assert "its address is 'h:1'" in said.warnings[0].message
    assert str(said.warnings[0]).isprintable()
    assert len(str(said.warnings[0])) < 1000


def test_names_that_are_no_models_are_skipped_and_named(hand, followed):
    hand.announce("m", "a:1")
    for name in ("...", "a b", ".hidden", "m;rm", "x" * 200):
        hand.put(f"{hand.chroot}/models/{name}", b"")
    said = followed.wait(lambda said: len(said.warnings) == 5)
    assert list(said.entries) == ["m"]
    assert {each.message for each in said.warnings} == {"it is skipped: no model has such a name"}


def test_many_warnings_are_counted(hand, followed):
    hand.announce("m", "a:1")
    for number in range(MAX_WARNINGS + 20):
        hand.client.create_async(f"{hand.chroot}/models/m/endpoints/h{number}:1", b"?")
    said = followed.wait(lambda said: len(said.warnings) > MAX_WARNINGS and "20 more" in said.warnings[-1].message)
    assert len(said.warnings) == MAX_WARNINGS + 1
    assert addresses(said, "m") == ["a:1"]


# --- at the edges


def test_starting_and_stopping_leaves_no_thread_behind():
    code = (
        "import sys, threading; from registry_hand import Followed\n"
        "for _ in range(3):\n"
        "    with Followed('127.0.0.1:1', '/x', start_timeout_ms=1) as followed: print(followed.read())\n"
        "followed.resolver.stop()\n"
        "print(threading.active_count())"
    )
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/tests"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.splitlines()[-1] == "1"
    assert result.stdout.count("unreachable since") == 3
    assert not result.stderr


def test_nobody_there_is_said_after_the_start_timeout_and_only_waited_for_once(free_port):
    with Followed(f"127.0.0.1:{free_port()}", "/x", start_timeout_ms=300) as followed:
        begun = time.monotonic()
        with pytest.raises(DiscoveryError, match=r"^zk://127.*/x: unreachable since 20.*: .*Connection refused$"):
            followed.resolver.read()
        assert time.monotonic() - begun > 0.25
        begun = time.monotonic()
        with pytest.raises(DiscoveryError, match="unreachable since"):
            followed.resolver.read()
        assert time.monotonic() - begun < 0.2


def test_without_kazoo_the_extra_is_named(monkeypatch):
    ours = [f"dl_inference.registry.{name}" for name in ("follow", "reading", "pipeline", "session")]
    for name in [name for name in sys.modules if name.startswith("kazoo.") or name in ours]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kazoo", None)
    with Followed("127.0.0.1:1", "/x") as followed, pytest.raises(DiscoveryError, match=r"dl-inference\[zookeeper\]"):
        followed.resolver.read()


def configuration(tmp_path: Path, **keys: object) -> Path:
    path = tmp_path / "access.yaml"
    path.write_text(json.dumps({"discovery": [{"kind": "zookeeper", "hosts": "zk1:2181", **keys}]}))
    return path


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"hosts": "zk1:port"}, "'zk1:port'"),
        ({"hosts": "zk1:2181/dl"}, "'zk1:2181/dl'"),
        ({"path": "dl"}, "no path of ZooKeeper's"),
        ({"path": "/"}, "no path of ZooKeeper's"),
        ({"path": "/a/../b"}, "no path of ZooKeeper's"),
        ({"password": "geheim", "password_file": "x"}, "`password` and a `password_file`"),
        ({"password": 815}, "a password is a text"),
        ({"ca_file": "ca.pem"}, "not `tls: true`"),
        ({"tls": True, "certificate_file": "c.pem"}, "go together"),
        ({"sasl": "PLAIN"}, "'PLAIN'"),
    ],
)
def test_a_wrong_key_is_named_and_no_password_is_shown(tmp_path, keys, named):
    with pytest.raises(ConfigError) as caught:
        load(configuration(tmp_path, **keys), environment={})
    assert named in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert "815" not in str(caught.value)


def test_a_password_is_shown_nowhere(tmp_path, monkeypatch):
    path = configuration(tmp_path, username="fleet", password="geheim", start_timeout_ms=1, hosts="127.0.0.1:1")
    config = load(path, environment={}).config
    assert "geheim" not in f"{config!r}{config.model_dump()}{config.model_dump_json()}"
    resolver = ZookeeperResolver.create(config.discovery[0], tmp_path)
    assert "geheim" not in resolver.name
    resolver.start(lambda: None)
    with pytest.raises(DiscoveryError) as caught:
        resolver.read()
    resolver.stop()
    assert "geheim" not in str(caught.value)
    assert "geheim" not in str(check(path))


def test_what_the_configuration_leaves_open_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_INFERENCE_REGISTRY_USERNAME", "fleet")
    monkeypatch.setenv("DL_INFERENCE_REGISTRY_PASSWORD", "geheim")
    monkeypatch.setenv("DL_INFERENCE_REGISTRY_CA_FILE", "/etc/ca.pem")
    config = ZookeeperConfig(kind="zookeeper", hosts="zk1", tls=True, ca_file="other.pem")
    place = ZookeeperResolver.create(config, tmp_path)._place
    assert (place.username, place.password, place.ca_file) == ("fleet", "geheim", str(tmp_path / "other.pem"))
