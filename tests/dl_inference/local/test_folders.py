"""What `serve` sees in its folder of model folders, and when it believes that one has changed."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from fixtures.serve_process import replace, write_model

from dl_inference.local import folders, look
from dl_inference.local.folders import ModelsDir
from dl_inference.local.layout import FolderError, Layout

OLD = time.time() - 100


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time that only moves when told to: an hour ahead of the files, so that whatever lies there is old."""

    class Clock:
        ahead = 3600.0
        monotonic = 0.0

    monkeypatch.setattr(folders.time, "time", lambda: real_time() + Clock.ahead)
    monkeypatch.setattr(folders.time, "monotonic", lambda: Clock.monotonic)
    return Clock


real_time = time.time


def found(changes, name="m"):
    return next(change.found for change in changes if change.name == name)


def keys(models: ModelsDir) -> dict[int, str]:
    layout = found(models.look(force=True))
    assert isinstance(layout, Layout), layout
    return dict(layout.keys)


# --- when


def test_a_folder_that_has_been_still_is_seen_at_once_and_only_once(tmp_path: Path):
    write_model(tmp_path / "m", "A")
    models = ModelsDir(tmp_path)
    layout = found(models.look())
    assert (layout.name, layout.kind, layout.served, layout.default) == ("m", "PyTorch", (1,), 1)
    assert models.look() == []


def test_a_folder_that_is_being_written_is_seen_when_it_is_still(tmp_path: Path, clock):
    clock.ahead = 0
    models = ModelsDir(tmp_path)
    write_model(tmp_path / "m", "A")
    assert models.look() == []
    assert models.is_settling
    clock.ahead = 0.9
    assert models.look() == []
    clock.ahead = 2
    assert isinstance(found(models.look()), Layout)
    assert not models.is_settling


def test_where_the_file_systems_clock_is_ahead_what_was_seen_counts(tmp_path: Path, clock):
    clock.ahead = -1000
    models = ModelsDir(tmp_path)
    write_model(tmp_path / "m", "A")
    assert models.look() == []
    clock.monotonic = 0.9
    write_model(tmp_path / "m", "B")
    assert models.look() == []
    clock.monotonic = 1.8
    assert models.look() == []
    clock.monotonic = 2.0
    assert isinstance(found(models.look()), Layout)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write_model(folder, "B"),
        lambda folder: replace(folder, lambda new: write_model(new, "A")),
        lambda folder: (folder / "words.txt").write_text("a"),
        lambda folder: (folder / "inner" / "deep.py").write_text("b"),
        lambda folder: (folder / "inner" / "deep.py").unlink(),
        lambda folder: os.utime(folder / "model.pt2"),
        lambda folder: (folder / "model.pt2").chmod(0o600),
    ],
    ids=["rewritten", "replaced", "file-added", "inner-changed", "inner-deleted", "touched", "mode"],
)
def test_any_change_of_a_file_makes_another_key(tmp_path: Path, change):
    folder = write_model(tmp_path / "m", "A")
    (folder / "inner").mkdir()
    (folder / "inner" / "deep.py").write_text("a")
    models = ModelsDir(tmp_path)
    before = found(models.look()).keys
    change(folder)
    (seen,) = models.look()
    assert seen.found.keys != before


def test_caches_logs_and_hidden_files_change_nothing(tmp_path: Path):
    folder = write_model(tmp_path / "m", "A")
    models = ModelsDir(tmp_path)
    models.look()
    (folder / "__pycache__").mkdir()
    for name in ("__pycache__/processor.pyc", "queries.log", "x.tmp", ".swap"):
        (folder / name).write_text("x")
    assert models.look() == []


def test_a_link_that_is_put_elsewhere_is_a_change_and_its_folder_is_the_models(tmp_path: Path):
    for release in ("1", "2"):
        write_model(tmp_path / "releases" / release, "A")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m").symlink_to("../releases/1")
    models = ModelsDir(tmp_path / "models")
    assert found(models.look()).path == tmp_path.resolve() / "releases" / "1"
    (tmp_path / "models" / "m").unlink()
    (tmp_path / "models" / "m").symlink_to("../releases/2")
    (change,) = models.look()
    assert (change.found.name, change.found.path.name) == ("m", "2")


def test_a_folder_that_is_gone_for_a_moment_was_not_deleted(tmp_path: Path, clock):
    write_model(tmp_path / "m", "A")
    models = ModelsDir(tmp_path)
    models.look()
    (tmp_path / "m").rename(tmp_path / ".m")
    assert models.look() == []
    (tmp_path / ".m").rename(tmp_path / "m")
    assert models.look() == []
    assert not models.is_settling
    shutil.rmtree(tmp_path / "m")
    assert models.look() == []
    clock.monotonic = 1
    assert found(models.look()) is None
    assert models.look() == []


def test_a_folder_of_folders_that_cannot_be_read_deletes_nothing(tmp_path: Path):
    write_model(tmp_path / "models" / "m", "A")
    models = ModelsDir(tmp_path / "models")
    models.look()
    (tmp_path / "models").rename(tmp_path / "gone")
    with pytest.raises(OSError, match="No such file"):
        models.look()
    (tmp_path / "gone").rename(tmp_path / "models")
    assert models.look() == []


# --- what


def test_a_key_belongs_to_one_version_and_to_what_it_shares(tmp_path: Path):
    for version in ("1", "2"):
        write_model(tmp_path / "m" / version, "A")
    models = ModelsDir(tmp_path)
    before = keys(models)
    assert before.keys() == {1, 2}
    write_model(tmp_path / "m" / "2", "B")
    after = keys(models)
    assert after[1] == before[1]
    assert after[2] != before[2]
    (tmp_path / "m" / "words.txt").write_text("shared")
    assert keys(models)[1] != before[1]


def test_labels_change_no_key_and_settings_of_the_process_do(tmp_path: Path):
    write_model(tmp_path / "m" / "1", "A")
    models = ModelsDir(tmp_path)
    before = keys(models)
    (tmp_path / "m" / "model.yaml").write_text("labels: {stable: 1}\n")
    assert keys(models) == before
    (tmp_path / "m" / "model.yaml").write_text("timeout_ms: 5\n")
    assert keys(models) != before
    (tmp_path / "m" / "model.yaml").write_text("settings: {words: [a, b]}\n")
    before = keys(models)
    (tmp_path / "m" / "model.yaml").write_text("settings: {words: [a, c]}\n")
    assert keys(models) != before


def test_what_model_yaml_says_is_served(tmp_path: Path):
    for version in ("1", "2", "3"):
        write_model(tmp_path / "m" / version, "A")
    models = ModelsDir(tmp_path)
    layout = found(models.look())
    assert (layout.served, layout.default) == ((3,), 3)
    (tmp_path / "m" / "model.yaml").write_text("labels: {stable: 1}\naliases: [39]\ntimeout_ms: 5\npriority: high\n")
    layout = found(models.look())
    assert (layout.served, layout.default) == ((1, 3), 3)
    assert (layout.labels, layout.aliases, layout.timeout_ms) == ({"stable": 1}, ("39",), 5)
    assert layout.priority == "high"
    (tmp_path / "m" / "model.yaml").write_text("versions: [1, 2]\n")
    layout = found(models.look())
    assert (layout.served, layout.default) == ((1, 2), 2)


@pytest.mark.parametrize("place", ["m", "m/1", "m/12"])
def test_a_saved_model_is_tensorflows(tmp_path: Path, place):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "saved_model.pb").touch()
    (tmp_path / "m" / "assets").mkdir()
    layout = found(ModelsDir(tmp_path).look())
    assert (layout.kind, layout.default) == ("TensorFlow", int(place[2:] or 1))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "holds no model; put exactly one of model.pt2"),
        ({"model.pt2": "no zip"}, "is damaged, or no aotinductor or exported model"),
        ({"saved_model.pb": "", "model.pt": ""}, "is a PyTorch model beside a SavedModel; keep one"),
        ({"1/saved_model.pb": "", "model.yaml": "versions: [2]"}, "there is no version 2; found: 1"),
        ({"saved_model.pb": "", "model.yaml": "verions: [1]"}, "did you mean 'versions'"),
        ({"saved_model.pb": "", "model.yaml": "labels: {'3': 1}"}, "label '3' cannot be a name; use letters"),
        ({"saved_model.pb": "", "model.yaml": "aliases: [a/b]"}, "alias 'a/b' cannot be a name; use letters"),
        ({"saved_model.pb": "", "model.yaml": "aliases: ["}, "is not YAML"),
    ],
)
def test_what_keeps_a_folder_from_being_served_is_named_with_the_remedy(tmp_path: Path, files, reason):
    (tmp_path / "m").mkdir()
    for name, text in files.items():
        (tmp_path / "m" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "m" / name).write_text(text)
    error = found(ModelsDir(tmp_path).look())
    assert isinstance(error, FolderError)
    assert reason in str(error)


def test_folders_too_big_or_too_deep_are_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(look, "MAX_FILES", 3)
    monkeypatch.setattr(look, "MAX_DEPTH", 3)
    for number in range(5):
        write_model(tmp_path / "wide" / f"part{number}", "A")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "again").symlink_to(".")
    changes = ModelsDir(tmp_path).look()
    assert "more than 3 files" in str(found(changes, "wide"))
    assert "more than 3 folders deep" in str(found(changes, "loop"))


def test_what_is_hidden_or_no_folder_is_no_model(tmp_path: Path):
    for name in (".hidden", "_private", "__pycache__"):
        write_model(tmp_path / name, "A")
    (tmp_path / "README.md").touch()
    (tmp_path / "nowhere").symlink_to("missing")
    assert ModelsDir(tmp_path).look() == []


def test_a_limit_in_model_yaml_makes_new_processes_and_a_variable_wins_over_the_file(tmp_path: Path, monkeypatch):
    write_model(tmp_path / "m", "A", timeout_ms=5, limits={"max_streams": 5})
    before = keys(ModelsDir(tmp_path))
    write_model(tmp_path / "m", "A", timeout_ms=5, limits={"max_streams": 6})
    assert keys(ModelsDir(tmp_path)) != before
    monkeypatch.setenv("DL_INFERENCE_TIMEOUT_MS", "77")
    assert found(ModelsDir(tmp_path).look(force=True)).timeout_ms == 77


def test_a_folder_that_is_itself_a_model_is_the_only_one(tmp_path, monkeypatch):
    write_model(tmp_path / "m", "A")
    write_model(tmp_path / "neighbour", "N")
    write_model(tmp_path / "versions" / "1", "A")
    write_model(tmp_path / "versions" / "3", "B")
    (tmp_path / "versions" / "model.yaml").touch()
    (tmp_path / "linked").symlink_to("m")
    for name, served in [("m", (1,)), ("versions", (3,)), ("linked", (1,))]:
        (change,) = ModelsDir(tmp_path / name).look()
        assert (change.name, change.found.name, change.found.served) == (name, name, served)
    monkeypatch.chdir(tmp_path / "m")
    models = ModelsDir(Path("."))
    assert found(models.look()).name == "m"
    replace(tmp_path / "m", lambda folder: write_model(folder, "B", timeout_ms=77))
    assert found(models.look()).timeout_ms == 77
    shutil.rmtree(tmp_path / "m")
    assert models.look(force=True)[0].found is None
    assert "neighbour" in [change.name for change in ModelsDir(tmp_path).look()]
