"""The control plane against a stand-in for the data plane, with real files and real file events."""

import logging
import threading
import time
from pathlib import Path

import pytest
from fixtures.fake_plane import LIMIT_S, FakePlane

from access.config.load import load
from access.errors import AccessError, ConfigError, StartError
from access.plane import Event
from access.service import AccessService


class Running:
    """A service in a thread of its own."""

    def __init__(self, path: Path, **options: float) -> None:
        self.plane: FakePlane | None = None
        self.ended: list[bool] = []
        self.service = AccessService(path, lambda: load(path, environment={}), self._make, **options)
        self.ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.ready.wait(LIMIT_S)

    def _make(self, document: str) -> FakePlane:
        self.plane = FakePlane(document)
        return self.plane

    def _run(self) -> None:
        self.ended.append(self.service.run(lambda addresses: self.ready.set()))

    def end(self) -> None:
        self.service.post(Event.TERMINATE)
        self.join()

    def join(self) -> None:
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()


@pytest.fixture
def start(tmp_path: Path):
    started = []

    def begin(text: str, **options: float) -> FakePlane:
        (tmp_path / "access.yaml").write_text(text)
        started.append(Running(tmp_path / "access.yaml", **options))
        plane = started[-1].plane
        plane.running = started[-1]
        return plane

    yield begin
    for each in started:
        each.end()


BOTH = "discovery: [{kind: nodefile, path: nodefile.txt}]\nmodels: {m: {endpoints: [m:1]}}\n"


def replace(path: Path, text: str) -> None:
    """Write a file as careful programs do: beside it, then renamed over it."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


# Only events in the first, only looks in the second: each has to be enough by itself.
@pytest.fixture(params=[{"look_s": 3600.0}, {"look_s": 0.02}], ids=["events", "looks"])
def way(request, monkeypatch):
    if request.param["look_s"] < 1:
        monkeypatch.setattr("access.following.watch.FolderWatcher.watch", lambda self, files: None)
    return request.param


def test_a_changed_nodefile_is_applied(tmp_path, start, way):
    path = tmp_path / "nodefile.txt"
    path.write_text("69=1000,a:1\n")
    plane = start(BOTH, **way)
    assert plane.addresses == {"m": ["m:1"], "69": ["a:1"]}
    path.write_text("69=1000,a:1,b:1\n70=1000,c:1\n")
    plane.until(lambda: plane.addresses == {"m": ["m:1"], "69": ["a:1", "b:1"], "70": ["c:1"]})
    replace(path, "70=1000,c:1\n")
    plane.until(lambda: plane.addresses == {"m": ["m:1"], "70": ["c:1"]})
    assert plane.reloads == [(f"nodefile:{path}", True)] * 2


def test_a_config_map_that_swaps_its_symbolic_link_is_followed(tmp_path, start, way):
    for version, text in {"1": "69=1000,a:1\n", "2": "69=1000,b:1\n"}.items():
        (tmp_path / version).mkdir()
        (tmp_path / version / "nodefile.txt").write_text(text)
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "nodefile.txt").symlink_to("..data/nodefile.txt")
    plane = start(BOTH, **way)
    (tmp_path / "..data_tmp").symlink_to("2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    plane.until(lambda: plane.addresses["69"] == ["b:1"])


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("garbage\n")])
def test_a_bad_or_missing_file_keeps_the_last_good_state_says_so_once_and_counts_it(
    tmp_path, start, way, caplog, spoil
):
    caplog.set_level(logging.INFO, "access")
    path = tmp_path / "nodefile.txt"
    path.write_text("69=1000,a:1\n")
    plane = start(BOTH, **way)
    states = len(plane.states)
    spoil(path)
    plane.until(lambda: plane.control["sources"][0]["ok"] is False)
    assert str(path) in plane.control["sources"][0]["error"]
    replace(tmp_path / "access.yaml", BOTH + "drain_timeout_ms: 77\n")  # something else happens meanwhile
    plane.until(lambda: (str(tmp_path / "access.yaml"), True) in plane.reloads)
    assert len(plane.states) == states
    assert plane.addresses["69"] == ["a:1"]
    replace(path, "69=1000,b:1\n")
    plane.until(lambda: plane.addresses["69"] == ["b:1"] and plane.control["sources"][0]["ok"])
    source = plane.control["sources"][0]
    assert (source["ok"], source["error"], source["reloads_ok"], source["reloads_failed"]) == (True, None, 1, 1)
    assert plane.reloads.count((f"nodefile:{path}", False)) == 1
    assert sum("the last good state stays" in record.message for record in caplog.records) == 1
    assert any("good again" in record.message for record in caplog.records)


def test_a_burst_of_changes_is_one_apply(tmp_path, start):
    path = tmp_path / "nodefile.txt"
    path.write_text("69=1000,a:1\n")
    plane = start(BOTH, look_s=3600.0)
    states = len(plane.states)
    for port in range(1, 200):
        replace(path, f"69=1000,a:{port}\n")
    plane.until(lambda: plane.addresses["69"] == ["a:199"])
    assert len(plane.states) - states <= 3


def test_a_change_that_means_nothing_is_not_applied(tmp_path, start):
    path = tmp_path / "nodefile.txt"
    path.write_text("69=1000,a:1\n")
    plane = start(BOTH, look_s=0.02)
    states = len(plane.states)
    path.write_text("# a comment\n69 = 1000, a:1\n")
    plane.until(lambda: (f"nodefile:{path}", True) in plane.reloads)
    plane.running.end()
    assert len(plane.states) == states


def test_the_configuration_reloads(tmp_path, start, way):
    plane = start("models: {m: {endpoints: [a:1]}}\n", **way)
    replace(tmp_path / "access.yaml", "models: {n: {endpoints: [b:1]}}\n")
    plane.until(lambda: plane.addresses == {"n": ["b:1"]})
    replace(tmp_path / "access.yaml", "models: {n: {endpoints: [b]}}\n")
    plane.until(lambda: plane.control["config"]["ok"] is False)
    assert "access.yaml:1 models.n.endpoints[0].address: 'b'" in plane.control["config"]["error"]
    assert plane.addresses == {"n": ["b:1"]}
    replace(tmp_path / "access.yaml", "models: {n: {endpoints: [c:1]}}\n")
    plane.until(lambda: plane.addresses == {"n": ["c:1"]})


def test_a_reload_event_reads_everything_at_once(tmp_path, start, monkeypatch):
    monkeypatch.setattr("access.following.watch.FolderWatcher.watch", lambda self, files: None)
    plane = start("models: {m: {endpoints: [a:1]}}\n", look_s=3600.0)
    replace(tmp_path / "access.yaml", "models: {m: {endpoints: [b:1]}}\n")
    plane.running.service.post(Event.RELOAD)
    plane.until(lambda: plane.addresses == {"m": ["b:1"]})


def test_a_reload_that_changes_start_only_keys_says_that_it_needs_a_restart(tmp_path, start, caplog):
    plane = start("models: {m: {endpoints: [a:1]}}\n", look_s=0.02)
    text = "listen: 0.0.0.0:9\nlimits: {max_streams: 5}\nmodels: {m: {endpoints: [b:1]}}\n"
    replace(tmp_path / "access.yaml", text)
    plane.until(lambda: plane.control["needs_restart"] == ["listen", "limits"])
    since = plane.control["needs_restart_since_unix_s"]
    assert abs(since - time.time()) < 60
    assert plane.addresses == {"m": ["b:1"]}
    assert any("listen, limits changed: the old value stays until a restart" in each.message for each in caplog.records)
    replace(tmp_path / "access.yaml", text.replace("listen: 0.0.0.0:9\n", ""))
    plane.until(lambda: plane.control["needs_restart"] == ["limits"])
    assert plane.control["needs_restart_since_unix_s"] == since, "it is needed since then all the same"
    replace(tmp_path / "access.yaml", "models: {m: {endpoints: [b:1]}}\n")
    plane.until(lambda: plane.control["needs_restart"] == [])
    assert plane.control["needs_restart_since_unix_s"] is None


def test_a_configuration_that_names_a_missing_source_waits_for_it(tmp_path, start, way):
    plane = start("models: {m: {endpoints: [m:1]}}\n", **way)
    replace(tmp_path / "access.yaml", BOTH)
    plane.until(lambda: plane.control["config"]["ok"] is False)
    assert plane.addresses == {"m": ["m:1"]}
    (tmp_path / "nodefile.txt").write_text("69=1000,a:1\n")
    plane.until(lambda: plane.addresses == {"m": ["m:1"], "69": ["a:1"]})


def test_a_source_that_a_reload_keeps_keeps_its_last_good_state(tmp_path, start):
    path = tmp_path / "nodefile.txt"
    path.write_text("69=1000,a:1\n")
    plane = start(BOTH, look_s=0.02)
    path.unlink()
    plane.until(lambda: plane.control["sources"][0]["ok"] is False)
    replace(tmp_path / "access.yaml", BOTH.replace("m:1", "n:1"))
    plane.until(lambda: plane.addresses == {"m": ["n:1"], "69": ["a:1"]})


def test_a_state_that_the_data_plane_refuses_is_counted_and_the_next_one_taken(tmp_path, start):
    plane = start("models: {m: {endpoints: [a:1]}}\n", look_s=0.02)
    plane.refuse = "clusters[0]: no"
    replace(tmp_path / "access.yaml", "models: {m: {endpoints: [b:1]}}\n")
    plane.until(lambda: ("state", False) in plane.reloads and plane.control["refused"] == "clusters[0]: no")
    plane.refuse = None
    replace(tmp_path / "access.yaml", "models: {m: {endpoints: [c:1]}}\n")
    plane.until(lambda: plane.addresses == {"m": ["c:1"]} and plane.control["refused"] is None)


def test_warnings_are_in_the_status(tmp_path, start):
    (tmp_path / "nodefile.txt").write_text("69=1000,a:1,garbage\n")
    plane = start(BOTH, look_s=0.02)
    assert len(plane.control["warnings"]) == 1
    assert "nodefile.txt:1: 69: 'garbage' is skipped" in plane.control["warnings"][0]


def test_the_end_is_drain_then_stop(start):
    plane = start("drain_timeout_ms: 30000\nmodels: {m: {endpoints: [a:1]}}\n")
    plane.running.end()
    assert plane.steps == ["start", "apply", "drain", "stop"]
    assert plane.running.ended == [True]


@pytest.mark.parametrize("text", ["listn: a:1\n", BOTH])
def test_a_start_that_cannot_work_fails_before_anything_is_bound(tmp_path, text):
    path = tmp_path / "access.yaml"
    path.write_text(text)
    made = []
    with pytest.raises(ConfigError):
        AccessService(path, lambda: load(path, environment={}), made.append).run()
    assert made == []


def test_a_start_that_the_data_plane_refuses_stops_it(tmp_path):
    path = tmp_path / "access.yaml"
    path.write_text("models: {m: {endpoints: [a:1]}}\n")
    plane = FakePlane("{}")
    plane.config["listen"] = []
    plane.refuse = "no"
    with pytest.raises(StartError, match="no"):
        AccessService(path, lambda: load(path, environment={}), lambda text: plane).run()
    assert plane.steps == ["start", "stop"]


def test_callers_are_known_before_the_doors_open_and_followed_from_then_on(tmp_path, start, way):
    path = tmp_path / "callers.yaml"
    path.write_text("callers: {a: {}}")
    plane = start("callers: callers.yaml\nmodels: {m: {endpoints: [m:1]}}", **way)
    assert plane.steps[:3] == ["start", "callers", "apply"]
    replace(path, "callers: {a: {}, b: {}}")
    plane.until(lambda: len(plane.callers) == 2)
    assert [each["name"] for each in plane.callers[-1]["callers"]] == ["a", "b"]
    replace(path, "callers: [")
    plane.until(lambda: plane.control["callers"]["error"] is not None)
    assert (len(plane.callers), plane.control["callers"]["callers"]) == (2, 2)


@pytest.mark.parametrize("text", [None, "callers: [", "callers: {a: {allow: all}}"])
def test_no_door_opens_where_the_callers_cannot_be_read_at_the_start(tmp_path, text):
    if text is not None:
        (tmp_path / "callers.yaml").write_text(text)
    (tmp_path / "access.yaml").write_text("callers: callers.yaml\nmodels: {m: {endpoints: [m:1]}}")
    planes = []

    def make(document: str) -> FakePlane:
        planes.append(FakePlane(document))
        return planes[-1]

    service = AccessService(tmp_path / "access.yaml", lambda: load(tmp_path / "access.yaml", environment={}), make)
    with pytest.raises(ConfigError, match=r"callers\.yaml"):
        service.run()
    assert planes[0].steps == ["start", "stop"]


def test_no_error_of_the_control_path_is_outside_the_tree():
    assert issubclass(ConfigError, AccessError)
    assert issubclass(StartError, AccessError)
