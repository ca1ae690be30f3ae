"""`kind: file`: both forms, what is skipped, what keeps its last good state, and how changes are seen."""

import json
import os
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from access.discovery.base import Snapshot
from access.discovery.file import FileConfig, FileResolver
from access.errors import DiscoveryError
from access.following.followed import Followed
from access.following.watch import FolderWatcher

WAIT_S = 20

OURS = """
digits:
  endpoints:
    - 10.0.0.1:5000
    - {address: 10.0.0.2:5000, weight: 2, version: 3, versions: ["2", 4]}
  timeout_ms: 800
  protocol: seldon
"ranking": {endpoints: [unix:/run/ranking.sock]}
"""

GROUPS = [
    {"targets": ["10.0.0.1:5000"], "labels": {"model": "digits", "job": "x", "__meta_datacenter": "a"}},
    {
        "targets": ["10.0.0.2:5000", "10.0.0.3:5000"],
        "labels": {"__meta_model": "digits", "version": "3", "weight": "2", "protocol": "seldon", "timeout_ms": "800"},
    },
    {"targets": [], "labels": {"model": "ranking"}},
]


def make(path: Path) -> FileResolver:
    return FileResolver.create(FileConfig.model_validate({"kind": "file", "path": path.name}), path.parent)


def read(tmp_path: Path, text: str, name: str = "targets.yaml") -> Snapshot:
    (tmp_path / name).write_text(textwrap.dedent(text))
    return make(tmp_path / name).read()


def endpoints(snapshot: Snapshot, key: str = "digits") -> list[tuple]:
    return [(each.address, each.weight, each.version, each.versions) for each in snapshot.entries[key].endpoints]


def addresses(snapshot: Snapshot, key: str = "digits") -> list[str]:
    return [each.address for each in snapshot.entries[key].endpoints]


def warnings(snapshot: Snapshot) -> list[str]:
    return [str(each) for each in snapshot.warnings]


# --- our form


def test_our_form_names_endpoints_weights_versions_timeout_and_protocol(tmp_path):
    snapshot = read(tmp_path, OURS)
    assert endpoints(snapshot) == [("10.0.0.1:5000", 1, None, ()), ("10.0.0.2:5000", 2, "3", ("2", "4"))]
    assert (snapshot.entries["digits"].timeout_ms, snapshot.entries["digits"].protocol) == (800, "seldon")
    assert addresses(snapshot, "ranking") == ["unix:/run/ranking.sock"]
    assert not snapshot.warnings


def test_a_release_says_which_version_gets_which_share(tmp_path):
    snapshot = read(
        tmp_path,
        """
        digits:
          endpoints: [{address: "10.0.0.1:5000", version: 3}, {address: "10.0.0.2:5000", version: 4}]
          release:
            releases:
              3: {phase: production, weight: 95, timeout_ms: 500}
              4: {phase: canary, weight: 5}
            labels: {stable: "3"}
        """,
    )
    release = snapshot.entries["digits"].release
    assert release is not None
    assert release.model == "digits"
    assert release.shares() == {"3": 95, "4": 5}
    assert release.labels == {"stable": "3"}
    assert not snapshot.warnings


@pytest.mark.parametrize(
    ("release", "reason"),
    [
        ("{}", "releases"),
        ("[3]", "not a mapping"),
        ('{releases: {"3": {phase: beta}}}', "phase"),
        ('{releases: {"3": {phase: staging}}}', "no release in production or canary"),
        ('{releases: {"3": {phase: production}}, labels: {stable: "4"}}', "not released"),
        ('{model: other, releases: {"3": {phase: production}}}', "of model 'other'"),
        ("{releases: {v3: {phase: production}}}", "a version is a number"),
    ],
)
def test_a_model_whose_release_cannot_be_used_keeps_its_last_state_and_hurts_no_other(tmp_path, release, reason):
    """Without its release a version in staging would get calls."""
    path = tmp_path / "targets.yaml"
    text = "digits: {{endpoints: [{}], release: {}}}\nranking: {{endpoints: [{}]}}\n"
    good = '{releases: {"3": {phase: production}}}'
    resolver = make(path)
    path.write_text(text.format("a:1", good, "r:1"))
    resolver.read()
    path.write_text(text.format("a:2", release, "r:2"))
    snapshot = resolver.read()
    assert (addresses(snapshot), addresses(snapshot, "ranking")) == (["a:1"], ["r:2"])
    assert snapshot.entries["digits"].release is not None
    assert reason in warnings(snapshot)[0]
    assert "its last good state stays" in warnings(snapshot)[0]
    assert "digits" not in make(path).read().entries


def test_keys_that_nobody_knows_are_named_with_their_line_and_ignored(tmp_path):
    snapshot = read(
        tmp_path,
        """\
        digits:
          timeot_ms: 5
          endpoints: [{address: "a:1", wieght: 2}]
          release: {releases: {"3": {phase: production, wieght: 5}}, lables: {}}
        """,
    )
    assert endpoints(snapshot) == [("a:1", 1, None, ())]
    named = {each.split(": ")[0] for each in warnings(snapshot)}
    assert named == {
        "targets.yaml:2 digits.timeot_ms",
        "targets.yaml:3 digits.endpoints[0]",
        "targets.yaml:4 digits.release.lables",
        "targets.yaml:4 digits.release.releases.3.wieght",
    }


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("10.0.0.1", "the port is missing"),
        ('"http://a:1"', "an address has no http://"),
        ("{weight: 2}", "address: Field required"),
        ('{address: "b:1", weight: 0}', "weight"),
        ('{address: "b:1", version: v3}', "a version is a number"),
        ('{address: "b:1", versions: 3}', "versions"),
        ("[b:1]", "it is not an endpoint"),
        ("17", "it is not an endpoint"),
        ('"a:1"', "a:1 appears twice"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_skipped_and_named_with_its_line(tmp_path, item, reason):
    snapshot = read(tmp_path, f"digits:\n  endpoints:\n  - a:1\n  - {item}\n")
    assert endpoints(snapshot) == [("a:1", 1, None, ())]
    (warning,) = warnings(snapshot)
    assert warning.startswith("targets.yaml:4 digits.endpoints[1]: ")
    assert reason in warning


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("x y: {endpoints: [a:1]}", "is not a route key"),
        ("other: 10.0.0.1:5000", "no list of `endpoints`"),
        ("other: {endpoints: 10.0.0.1:5000}", "no list of `endpoints`"),
        ("other: {endpoints: [nonsense]}", "none of its endpoints"),
        ("digits: {endpoints: [b:1]}", "the key is on line 1 already"),
    ],
)
def test_an_entry_that_cannot_be_used_is_skipped_and_named_and_the_others_stand(tmp_path, entry, reason):
    snapshot = read(tmp_path, f"digits: {{endpoints: [a:1]}}\n{entry}\n")
    assert list(snapshot.entries) == ["digits"]
    assert addresses(snapshot) == ["a:1"]
    assert any(each.startswith("targets.yaml:2 ") and reason in each for each in warnings(snapshot))


@pytest.mark.parametrize("setting", ["timeout_ms: 0", "timeout_ms: fast", "timeout_ms: 1.5", "protocol: http"])
def test_a_setting_that_cannot_be_used_is_ignored_and_named(tmp_path, setting):
    snapshot = read(tmp_path, f"digits:\n  endpoints: [a:1]\n  {setting}\n")
    assert (snapshot.entries["digits"].timeout_ms, snapshot.entries["digits"].protocol) == (None, None)
    assert "targets.yaml:3 digits" in warnings(snapshot)[0]


def test_a_model_may_have_no_endpoints_on_purpose(tmp_path):
    snapshot = read(tmp_path, "digits: {endpoints: []}\n")
    assert addresses(snapshot) == []
    assert not snapshot.warnings


# --- Prometheus's form


@pytest.mark.parametrize("name", ["targets.json", "targets.yaml", "targets"])
def test_prometheus_groups_are_put_together_by_their_model(tmp_path, name):
    snapshot = read(tmp_path, json.dumps(GROUPS), name)
    assert endpoints(snapshot) == [
        ("10.0.0.2:5000", 2, "3", ()),
        ("10.0.0.3:5000", 2, "3", ()),
        ("10.0.0.1:5000", 1, None, ()),
    ]
    assert (snapshot.entries["digits"].timeout_ms, snapshot.entries["digits"].protocol) == (800, "seldon")
    assert addresses(snapshot, "ranking") == []
    assert not snapshot.warnings


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        ({"targets": ["b:1"], "labels": {"job": "x"}}, "label model '' is not a route key"),
        ({"targets": ["b:1"]}, "no group with `targets` and `labels`"),
        ({"targets": "b:1", "labels": {"model": "digits"}}, "no group with `targets` and `labels`"),
        ("b:1", "no group with `targets` and `labels`"),
        ({"targets": ["nonsense"], "labels": {"model": "other"}}, "none of its targets"),
        ({"targets": [{"a": 1}], "labels": {"model": "other"}}, "none of its targets"),
    ],
)
def test_a_group_that_cannot_be_used_is_skipped_and_named_by_its_index(tmp_path, group, reason):
    groups = [{"targets": ["a:1"], "labels": {"model": "digits"}}, group]
    snapshot = read(tmp_path, json.dumps(groups), "targets.json")
    assert {key: addresses(snapshot, key) for key in snapshot.entries} == {"digits": ["a:1"]}
    assert any(each.startswith("targets.json [1]") and reason in each for each in warnings(snapshot))


@pytest.mark.parametrize("labels", [{"version": "v1.2"}, {"weight": "x"}, {"protocol": "http"}, {"timeout_ms": "-1"}])
def test_a_label_that_means_something_else_is_ignored_and_named(tmp_path, labels):
    groups = [{"targets": ["a:1"], "labels": {"model": "digits", **labels}}]
    snapshot = read(tmp_path, json.dumps(groups), "targets.json")
    assert endpoints(snapshot) == [("a:1", 1, None, ())]
    assert "is" in warnings(snapshot)[0]
    assert "ignored" in warnings(snapshot)[0]
    assert next(iter(labels)) in warnings(snapshot)[0]


def test_of_two_groups_that_contradict_the_first_counts(tmp_path):
    labels = {"model": "digits", "timeout_ms": "100"}
    groups = [{"targets": ["a:1"], "labels": labels}, {"targets": ["a:1"], "labels": {**labels, "timeout_ms": "200"}}]
    snapshot = read(tmp_path, json.dumps(groups), "targets.json")
    assert snapshot.entries["digits"].timeout_ms == 100
    assert [each.split("; ")[0] for each in warnings(snapshot)] == [
        "targets.json [1]: digits: a:1 appears twice",
        "targets.json [1]: digits: another timeout_ms is given already",
    ]


# --- whole files


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("targets.yaml", "", "empty"),
        ("targets.yaml", "# nothing\n", "empty"),
        ("targets.yaml", "{}", "empty"),
        ("targets.yaml", "[]", "empty"),
        ("targets.json", "[]", "empty"),
        ("targets.json", "", "not JSON"),
        ("targets.json", '{"digits": {"endpoints": ["a:1"]}', "not JSON"),
        ("targets.json", '{"a": 1, "a": 2}', "'a' appears twice"),
        ("targets.json", "[" * 100_000, "not JSON"),
        ("targets.json", "17", "empty"),
        ("targets.yaml", "digits: [\n", "targets.yaml:2: not YAML"),
        ("targets.yaml", "digits:\n\tendpoints: [a:1]\n", "not YAML"),
        ("targets.yaml", "just words", "not a mapping"),
        ("targets.yaml", "other: {endpoints: [nonsense]}", "nothing in it can be used"),
        ("targets.yaml", "a: &a [*a]", "nothing in it can be used|too many or too deep"),
        ("targets.yaml", "\0", "not YAML"),
    ],
)
def test_a_file_that_cannot_be_used_keeps_the_last_good_state(tmp_path, name, text, reason):
    path = tmp_path / name
    path.write_text('{"digits": {"endpoints": ["a:1"]}}')
    resolver = make(path)
    resolver.read()
    path.write_text(text)
    with pytest.raises(DiscoveryError, match=reason):
        resolver.read()
    path.write_text('{"digits": {"endpoints": ["a:2"]}}')
    assert addresses(resolver.read()) == ["a:2"]


def test_a_file_that_is_missing_a_folder_a_pipe_or_no_text_is_named(tmp_path):
    (tmp_path / "binary").write_bytes(b"a: 1\n\xff")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    reasons = {"missing": "No such file", "folder": "directory", "pipe": "not a regular file", "binary": "UTF-8"}
    for name, reason in reasons.items():
        with pytest.raises(DiscoveryError, match=reason):
            make(tmp_path / name).read()


def test_a_pattern_reads_every_file_that_matches_and_notices_new_ones(tmp_path):
    (tmp_path / "a.yaml").write_text("digits: {endpoints: [a:1]}")
    (tmp_path / ".hidden.yaml").write_text("hidden: {endpoints: [h:1]}")
    resolver = make(tmp_path / "*.yaml")
    assert list(resolver.read().entries) == ["digits"]
    assert resolver.watch_paths() == (tmp_path / "*.yaml", tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("digits: {endpoints: [a:1, b:1]}\nranking: {endpoints: [r:1]}")
    assert tmp_path / "b.yaml" in resolver.watch_paths()
    snapshot = resolver.read()
    assert sorted(addresses(snapshot)) == ["a:1", "b:1"]
    assert addresses(snapshot, "ranking") == ["r:1"]
    assert warnings(snapshot) == ["b.yaml: digits: a:1 appears twice; the first counts"]
    (tmp_path / "a.yaml").unlink()
    (tmp_path / "b.yaml").write_text("ranking: {endpoints: [r:1]}")
    assert list(resolver.read().entries) == ["ranking"]


def test_one_broken_file_of_several_keeps_its_own_last_state_and_lets_the_others_change(tmp_path):
    (tmp_path / "a.yaml").write_text("digits: {endpoints: [a:1]}")
    (tmp_path / "b.yaml").write_text("ranking: {endpoints: [r:1]}")
    resolver = make(tmp_path / "*.yaml")
    resolver.read()
    (tmp_path / "a.yaml").write_text("digits: [")
    (tmp_path / "b.yaml").write_text("ranking: {endpoints: [r:2]}")
    snapshot = resolver.read()
    assert (addresses(snapshot), addresses(snapshot, "ranking")) == (["a:1"], ["r:2"])
    assert "not YAML" in warnings(snapshot)[0]
    (tmp_path / "b.yaml").write_text("")
    with pytest.raises(DiscoveryError, match=r"not YAML.*; .*empty"):
        resolver.read()
    (tmp_path / "a.yaml").write_text("digits: {endpoints: [a:3]}")
    snapshot = resolver.read()
    assert (addresses(snapshot), addresses(snapshot, "ranking")) == (["a:3"], ["r:2"])


def test_a_name_with_the_signs_of_a_pattern_is_a_name_where_there_is_such_a_file(tmp_path):
    assert addresses(read(tmp_path, "digits: {endpoints: [a:1]}", "targets[1].yaml")) == ["a:1"]


def test_a_pattern_without_any_file_is_a_missing_file(tmp_path):
    with pytest.raises(DiscoveryError, match=r"\*\.yaml: cannot be read: No such file"):
        make(tmp_path / "*.yaml").read()


# --- following


class ConfigMap:
    """A mounted ConfigMap as the kubelet writes it: `targets.yaml` -> `..data/targets.yaml`, `..data` -> a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        folder.mkdir()

    def write(self, text: str) -> None:
        """Write into a new folder and put `..data` there in one step; the old folder goes."""
        self._count += 1
        new = self._folder / f"..2026_11_21_{self._count}"
        new.mkdir()
        (new / "targets.yaml").write_text(text)
        (self._folder / "..data_tmp").symlink_to(new.name)
        os.rename(self._folder / "..data_tmp", self._folder / "..data")
        if self._count == 1:
            (self._folder / "targets.yaml").symlink_to("..data/targets.yaml")
        else:
            old = self._folder / f"..2026_11_21_{self._count - 1}"
            (old / "targets.yaml").unlink()
            old.rmdir()


@pytest.mark.parametrize("name", ["targets.yaml", "*.yaml"])
def test_the_symbolic_links_of_a_config_map_are_followed(tmp_path, name):
    config_map = ConfigMap(tmp_path / "mounted")
    config_map.write("digits: {endpoints: [a:1]}")
    resolver = make(tmp_path / "mounted" / name)
    followed: Followed[Snapshot] = Followed(resolver.name, resolver.read, resolver.watch_paths)
    followed.start()
    seen = threading.Event()
    watcher = FolderWatcher(seen.set)
    watcher.watch(followed.paths)
    try:
        for number in (2, 3):
            assert seen.wait(WAIT_S), "the watch does not stand"
            followed.look()
            seen.clear()
            config_map.write(f"digits: {{endpoints: [a:{number}]}}")
            assert seen.wait(WAIT_S), "no event"
            while not followed.look():
                assert followed.is_settling()
            assert addresses(followed.value) == [f"a:{number}"]
            seen.set()
    finally:
        watcher.stop()


# --- anything at all

SCALARS = st.none() | st.booleans() | st.integers(-3, 70_000) | st.sampled_from(["a:1", "b:2", "3", "", "seldon", "*"])
NAMES = st.sampled_from(["digits", "a b", "endpoints", "release", "targets", "labels", "model", "weight", "versions"])
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=30
)


@seed(20261121)
@given(document=TREES)
def test_any_document_gives_entries_that_the_data_plane_takes_or_a_discovery_error(tmp_path_factory, document):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(document))
    try:
        snapshot = make(path).read()
    except DiscoveryError:
        return
    for entry in snapshot.entries.values():
        found = [each.address for each in entry.endpoints]
        assert len(found) == len(set(found))
        assert all(1 <= each.weight <= 65535 for each in entry.endpoints)
        assert entry.timeout_ms is None or entry.timeout_ms >= 1
