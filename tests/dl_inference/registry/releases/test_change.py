"""Where release documents are kept: a real ZooKeeper, and a folder. What is asked of both is asked of both."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
from fixtures.registry_fleet import Fleet
from fixtures.zookeeper_process import one_server

from access.discovery.file import FileConfig, FileResolver
from dl_inference.registry.connection import AnswerLostError, Connection
from dl_inference.registry.releases import edits
from dl_inference.registry.releases.change import RefusedError, Wanted, change, clear, default_author
from dl_inference.registry.releases.files import ReleaseFiles, path_of
from dl_inference.registry.releases.nodes import ReleaseNodes
from dl_inference.registry.releases.store import HISTORY_LENGTH
from dl_inference.registry.schema import (
    MAX_DOCUMENT_BYTES,
    Release,
    ReleaseDocument,
    SchemaError,
    history_path,
    release_path,
)
from dl_inference.registry.zookeeper import RegistryError, parse_url

TIMEOUT_MS = 30_000
SHORT_MS = 700
ME = ("me", "because")


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory):
    with one_server(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def fleet(zookeeper):
    found = Fleet(zookeeper.address)
    yield found
    found.close()


@pytest.fixture
def nodes(fleet):
    with Connection(fleet.place, TIMEOUT_MS) as connection:
        yield ReleaseNodes(connection)


class Folder:
    """A folder in the place of a fleet: what the tests write past the store."""

    def __init__(self, path):
        self.path = path

    def put(self, model, data):
        path_of(self.path, model).write_bytes(b'{"' + model.encode() + b'": {"release": ' + data + b"}}")

    def get(self, model):
        path = path_of(self.path, model)
        return path.read_bytes() if path.exists() else None


class Nodes:
    def __init__(self, fleet):
        self.fleet = fleet

    def put(self, model, data):
        self.fleet.put(release_path(model), data)

    def get(self, model):
        return self.fleet.get(release_path(model))


@pytest.fixture(params=["zookeeper", "folder"])
def place(request, tmp_path):
    """Give (a store, another store of the same place, what writes past both)."""
    if request.param == "folder":
        yield ReleaseFiles(tmp_path, TIMEOUT_MS), ReleaseFiles(tmp_path, TIMEOUT_MS), Folder(tmp_path)
        return
    fleet = request.getfixturevalue("fleet")
    with Connection(fleet.place, TIMEOUT_MS) as one, Connection(fleet.place, TIMEOUT_MS) as other:
        yield ReleaseNodes(one), ReleaseNodes(other), Nodes(fleet)


def text(**more):
    return json.dumps({"schema": 1, "model": "m", "revision": 1, "releases": {"1": {"phase": "production"}}, **more})


def count(now, _):
    """Add 1 to a key that this program does not know."""
    if now is None:
        return ReleaseDocument(model="m", revision=1, releases={"1": Release(phase="production")}, count=1)
    return now.model_copy(update={"count": (now.model_extra or {})["count"] + 1})


def apply(store, edit=count, **options):
    return change(store, "m", Wanted(edit, *ME, **{"force": True, **options}), timeout_ms=TIMEOUT_MS)


def counts(documents):
    return [(each.revision, each.model_extra["count"]) for each in documents]


# --- both


def test_a_change_is_there_with_author_time_and_reason(place):
    store, other, _ = place
    before = time.time()
    done = apply(store)
    found = other.read("m").document
    assert found == done.after
    assert (found.revision, found.author, found.reason) == (1, "me", "because")
    assert found.time.endswith("Z")
    assert abs(time.mktime(time.strptime(found.time[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone - before) < 60
    assert other.history("m") == [found]


def test_a_change_is_applied_again_to_what_somebody_else_wrote_meanwhile(place):
    store, other, _ = place
    apply(store)
    interrupted = []

    def edit(now, endpoints):
        if not interrupted:
            interrupted.append(apply(other).after.revision)
        return count(now, endpoints)

    assert apply(store, edit).after.revision == 3
    assert counts(store.history("m")) == [(1, 1), (2, 2), (3, 3)]


def test_of_two_that_cannot_both_be_one_is_refused_clearly(place):
    store, other, _ = place
    apply(store)
    apply(store)
    old = store.history("m")[0]
    apply(other)
    with pytest.raises(RefusedError, match="revision 3 by me was written in the meantime: check it, then give --to 1"):
        apply(store, lambda now, _: edits.restore(now, old, 2))
    assert store.read("m").document.revision == 3


@pytest.mark.parametrize("kind", ["zookeeper", "folder"])
def test_of_200_changes_by_8_writers_at_once_none_is_lost(kind, request, tmp_path):
    writers, changes = 8, 25
    fleet = request.getfixturevalue("fleet") if kind == "zookeeper" else None

    def work(store):
        return [apply(store).after.revision for _ in range(changes)]

    def write(_):
        if fleet is None:
            return work(ReleaseFiles(tmp_path, TIMEOUT_MS))
        with Connection(fleet.place, TIMEOUT_MS) as connection:
            return work(ReleaseNodes(connection))

    with ThreadPoolExecutor(writers) as pool:
        revisions = [revision for each in pool.map(write, range(writers)) for revision in each]
    assert sorted(revisions) == list(range(1, writers * changes + 1))
    last = range(writers * changes - HISTORY_LENGTH + 1, writers * changes + 1)
    if fleet is None:
        history = ReleaseFiles(tmp_path, TIMEOUT_MS).history("m")
    else:
        with Connection(fleet.place, TIMEOUT_MS) as connection:
            history = ReleaseNodes(connection).history("m")
        assert len(fleet.names(history_path("m"))) == HISTORY_LENGTH
    assert counts(history) == [(revision, revision) for revision in last]


def test_a_document_written_by_hand_goes_into_the_history(place):
    store, _, past = place
    past.put("m", text(revision=7, count=1, author="hand").encode())
    done = apply(store)
    assert (done.before.author, done.after.revision) == ("hand", 8)
    assert [each.revision for each in store.history("m")] == [7, 8]


HOSTILE = {
    "bytes": (b"\xff\x00\x01", "JSON|utf-8"),
    "a list": (b"[1]", "object"),
    "nothing in it": (b"{}", "model"),
    "another's": (text(model="other").encode(), "model: 'other'"),
    "a newer schema": (text(schema=2).encode(), "schema: 2: Input should be 1"),
    "a text for a number": (text(revision="1").encode(), "revision: '1'"),
    "a number for a version": (text(releases={"1.5": {"phase": "production"}}).encode(), "1.5"),
    "not a number": (text(weight=float("nan")).encode(), "."),
    "too large": (text(reason="x" * MAX_DOCUMENT_BYTES).encode(), "bytes"),
    "too deep": (b"[" * 20_000 + b"]" * 20_000, "."),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_release_document_is_named_and_not_written_over(place, what):
    store, _, past = place
    data, reason = HOSTILE[what]
    past.put("m", data)
    there = past.get("m")
    with pytest.raises(RefusedError, match=rf"(?s)cannot be used: .*{reason}.*replace it with --force"):
        apply(store, force=False)
    with pytest.raises(RefusedError, match="--force"):
        clear(store, "m", timeout_ms=TIMEOUT_MS)
    assert past.get("m") == there
    assert store.read("m").document is None


def test_with_force_it_is_replaced_and_the_revisions_go_on(place):
    store, _, past = place
    apply(store)
    apply(store)
    if isinstance(past, Nodes):
        past.put("m", b"garbage")
    else:
        path = path_of(past.path, "m")
        path.write_text(json.dumps({"m": {**json.loads(path.read_text())["m"], "release": "garbage"}}))
    done = apply(store)
    assert done.before is None
    assert "cannot be used" in done.overridden[0]
    assert [each.revision for each in store.history("m")] == [1, 2, 3]


def test_what_is_wrong_in_the_history_hides_nothing_else(place):
    store, _, past = place
    apply(store)
    if isinstance(past, Nodes):
        past.fleet.put(history_path("m", 5), b"garbage")
        past.fleet.put(history_path("m") + "/notes", b"garbage")
    else:
        path = path_of(past.path, "m")
        entry = json.loads(path.read_text())["m"]
        path.write_text(json.dumps({"m": {**entry, "history": [*entry["history"], "garbage"]}}))
    first, second = store.history("m")
    assert first.revision == 1
    assert isinstance(second, SchemaError)
    assert apply(store).changed


def test_taken_away_it_is_gone_and_comes_back_with_a_higher_revision(place):
    store, other, _ = place
    apply(store)
    old = apply(store).after
    assert clear(store, "m", timeout_ms=TIMEOUT_MS) == old
    assert other.read("m").document is None
    assert other.read("m").fault is None
    with pytest.raises(RefusedError, match="m has no release document in "):
        clear(store, "m", timeout_ms=TIMEOUT_MS)
    done = apply(other, lambda now, _: edits.restore(now, old, None))
    assert (done.before, done.after.revision) == (None, 3)
    assert [each.revision for each in store.history("m")] == [1, 2, 3]


def test_a_document_too_large_is_refused_before_it_is_written(place):
    store, _, past = place
    with pytest.raises(RefusedError, match=f"a document has at most {MAX_DOCUMENT_BYTES}"):
        apply(
            store,
            lambda now, _: ReleaseDocument.parse(text(note="x" * 65_000).encode()).model_copy(update={"b": "x" * 999}),
        )
    assert past.get("m") is None


def test_who_is_always_too_late_is_told_so_in_time(place):
    store, other, _ = place
    apply(store)

    def edit(now, endpoints):
        apply(other)
        return count(now, endpoints)

    began = time.monotonic()
    with pytest.raises(RegistryError, match=f"others changed it at every attempt for {SHORT_MS} ms"):
        change(store, "m", Wanted(edit, *ME), timeout_ms=SHORT_MS)
    assert time.monotonic() - began < 10


def test_the_author_is_somebody_even_where_the_user_has_no_name(monkeypatch):
    assert "@" in default_author()
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert default_author().startswith("uid")


# --- ZooKeeper


@pytest.mark.parametrize("was_made", [True, False])
def test_a_change_whose_answer_was_lost_is_made_once(nodes, monkeypatch, was_made):
    apply(nodes)
    change_nodes, asked = nodes._connection.change, []

    def lose_the_first_answer(operations):
        asked.append(operations)
        if len(asked) > 1 or was_made:
            change_nodes(operations)
        if len(asked) == 1:
            raise AnswerLostError("lost")

    monkeypatch.setattr(nodes._connection, "change", lose_the_first_answer)
    assert apply(nodes).after.revision == 2
    assert len(asked) == (1 if was_made else 2)
    assert counts(nodes.history("m")) == [(1, 1), (2, 2)]


def test_a_login_that_cannot_be_is_said_at_once(fleet):
    began = time.monotonic()
    place = replace(fleet.place, sasl="NONSENSE", username="ada")
    with (
        pytest.raises(RegistryError, match=r"the login is refused, or what it needs fails: .*NONSENSE"),
        Connection(place, TIMEOUT_MS) as connection,
    ):
        connection.children(["/models"])
    assert time.monotonic() - began < TIMEOUT_MS / 2000


def test_endpoints_that_cannot_be_understood_count_for_nothing(nodes, fleet):
    fleet.announce("m", "1", "10.0.0.1:1")
    fleet.put("/models/m/endpoints/10.0.0.2:1", b"garbage")
    fleet.put("/models/m/endpoints/10.0.0.3:1", fleet.get("/models/m/endpoints/10.0.0.1:1"))
    assert [each.address for each in nodes.endpoints("m")] == ["10.0.0.1:1"]


def test_what_access_services_have_applied_is_read_whatever_is_beside_it(nodes, fleet):
    fleet.apply("one", m=(3, "2026-01-01T00:00:00Z"))
    fleet.apply("two", other=(9, "2026-01-01T00:00:00Z"))
    fleet.put("/access/three", b"garbage")
    found = {each.instance: (each.revision, each.since) for each in nodes.applied("m")}
    assert found == {"one": (3, "2026-01-01T00:00:00Z"), "two": (None, ""), "three": (None, "")}


def test_only_who_logs_in_as_the_same_may_change_it(fleet):
    place = replace(fleet.place, chroot=f"{fleet.place.chroot}/locked", username="ada", password="secret")
    with Connection(place, TIMEOUT_MS) as connection:
        apply(ReleaseNodes(connection))
    with Connection(replace(place, username=None, password=None), TIMEOUT_MS) as connection:
        store = ReleaseNodes(connection)
        assert store.read("m").document.revision == 1
        with pytest.raises(RegistryError, match=r"not allowed: log in .* DL_INFERENCE_REGISTRY_USERNAME"):
            apply(store)
    with Connection(place, TIMEOUT_MS) as connection:
        assert apply(ReleaseNodes(connection)).after.revision == 2


def test_a_registry_that_is_not_there_is_said_in_time(free_port):
    place = replace(parse_url(f"zk://127.0.0.1:{free_port()}", {}), chroot="/x")
    began = time.monotonic()
    with pytest.raises(RegistryError, match=rf"no answer from zk://127.*/x within {SHORT_MS} ms \(.*refused"):
        Connection(place, SHORT_MS).__enter__()
    assert time.monotonic() - began < 10


def test_a_frozen_registry_is_said_in_time_and_works_again_afterwards(zookeeper, fleet):
    with Connection(fleet.place, SHORT_MS) as connection:
        store = ReleaseNodes(connection)
        apply(store)
        zookeeper.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(RegistryError, match=f"no answer from .* within {SHORT_MS} ms"):
                apply(store)
            with pytest.raises(RegistryError, match=f"no answer from .* within {SHORT_MS} ms"):
                Connection(fleet.place, SHORT_MS).__enter__()
            assert time.monotonic() - began < 10
        finally:
            zookeeper.thaw()
    with Connection(fleet.place, TIMEOUT_MS) as connection:
        assert apply(ReleaseNodes(connection)).changed


# --- a folder


def test_a_reader_finds_a_whole_file_whatever_is_written_meanwhile(tmp_path):
    store = ReleaseFiles(tmp_path, TIMEOUT_MS)
    apply(store)
    seen, done = [], threading.Event()

    def follow():
        while not done.is_set():
            seen.append(json.loads((tmp_path / "m.json").read_bytes())["m"]["release"]["revision"])

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        for _ in range(50):
            apply(store)
        done.set()
        following.result(20)
    assert seen == sorted(seen)
    assert seen[-1] <= 51
    assert [path.name for path in tmp_path.iterdir() if path.suffix not in (".json", ".lock")] == []


def test_a_lock_that_another_program_holds_is_not_waited_for_without_end(tmp_path):
    store = ReleaseFiles(tmp_path, SHORT_MS)
    with open(tmp_path / ".m.json.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RegistryError, match=f"another program has held it for {SHORT_MS} ms"):
            apply(store)
    assert apply(store).changed


def test_a_file_by_hand_needs_neither_history_nor_revision_and_keeps_what_else_is_in_it(tmp_path):
    whole = {
        "m": {"endpoints": ["10.0.0.1:1"], "timeout_ms": 9, "release": {"releases": {"1": {"phase": "production"}}}},
        "other": {"endpoints": ["10.0.0.2:1"]},
    }
    path_of(tmp_path, "m").write_text(json.dumps(whole))
    store = ReleaseFiles(tmp_path, TIMEOUT_MS)
    apply(store, lambda now, _: edits.set_model(now, "m", edits.Settings(timeout_ms=5)))
    found = json.loads(path_of(tmp_path, "m").read_text())
    assert found["other"] == whole["other"]
    assert (found["m"]["endpoints"], found["m"]["timeout_ms"]) == (["10.0.0.1:1"], 9)
    assert [each["revision"] for each in found["m"]["history"]] == [1, 2]


def test_endpoints_in_the_file_count_as_announced(tmp_path):
    store = ReleaseFiles(tmp_path, TIMEOUT_MS)
    assert store.endpoints("m") is None
    endpoints = ["10.0.0.1:1", {"address": "10.0.0.2:1", "version": "3"}, {"address": "no address"}]
    path_of(tmp_path, "m").write_text(json.dumps({"m": {"endpoints": endpoints}}))
    assert [(each.address, each.version) for each in store.endpoints("m")] == [
        ("10.0.0.1:1", None),
        ("10.0.0.2:1", "3"),
    ]
    with pytest.raises(RefusedError, match="version 4 of m is unknown"):
        apply(
            store,
            partial(edits.deploy, model="m", version="4", settings=edits.Settings(phase="production")),
            force=False,
        )


def test_a_folder_that_is_none_is_said(tmp_path):
    with pytest.raises(RegistryError, match="is not a folder of release documents: make it, or name a registry: zk://"):
        ReleaseFiles(tmp_path / "missing", TIMEOUT_MS)


def test_a_path_in_the_place_of_a_model_leaves_the_folder_never(tmp_path):
    for name in ("../m", "a/b", ".hidden", "", "/etc/passwd"):
        with pytest.raises(ValueError, match="use letters"):
            path_of(tmp_path, name)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_said_and_not_waited_for(tmp_path, kind):
    import os

    (tmp_path / "m.json").mkdir() if kind == "folder" else os.mkfifo(tmp_path / "m.json")
    with pytest.raises(RegistryError, match=r"m.json: (not a regular file|cannot be read)"):
        ReleaseFiles(tmp_path, TIMEOUT_MS).read("m")


def test_a_file_keeps_its_permissions(tmp_path):
    store = ReleaseFiles(tmp_path, TIMEOUT_MS)
    apply(store)
    path_of(tmp_path, "m").chmod(0o640)
    apply(store)
    assert path_of(tmp_path, "m").stat().st_mode & 0o777 == 0o640


def test_a_folder_is_followed_by_the_source_of_files(tmp_path):
    (tmp_path / "endpoints.yaml").write_text('m: {endpoints: [{address: "10.0.0.1:1", version: "1"}]}')
    store = ReleaseFiles(tmp_path, TIMEOUT_MS)
    for weight in (5, 7):
        deploy = partial(edits.deploy, model="m", version="1", settings=edits.Settings(weight, phase="production"))
        apply(store, deploy)
    resolver = FileResolver.create(FileConfig(kind="file", path="*"), tmp_path)
    resolver.start(lambda: None)
    entry = resolver.read().entries["m"]
    assert [each.address for each in entry.endpoints] == ["10.0.0.1:1"]
    assert entry.release == store.read("m").document
    assert resolver.read().warnings == ()
    clear(store, "m", timeout_ms=TIMEOUT_MS)
    assert resolver.read().entries["m"].release is None
