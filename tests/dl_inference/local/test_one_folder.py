"""What `predict` makes of its options and a folder that asks for several processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.serve_process import write_model

from dl_inference.local import launch
from dl_inference.local.one_folder import OneFolder, layout_of, needs_supervisor
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.settings import ModelFolderError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for version in "123":
        write_model(tmp_path / "m" / version, "A")
    return write_yaml(tmp_path / "m", "{instances: 2, versions: [1, 3], labels: {new: 3, old: 1}, timeout_ms: 7000}")


def write_yaml(folder: Path, text: str) -> Path:
    (folder / "model.yaml").write_text(text)
    return folder


def test_one_version_is_served_under_the_name_and_with_the_numbers_of_the_command(folder):
    layout, _ = layout_of(ServeOptions(model_dir=folder, name="named", limits={"timeout_ms": "900"}))
    assert (layout.name, layout.served, layout.default, layout.labels) == ("named", (3,), 3, {"new": 3})
    assert (layout.instances, layout.timeout_ms) == (2, 900)
    layout, _ = layout_of(ServeOptions(model_dir=folder, version=2))
    assert (layout.name, layout.served, layout.labels, layout.timeout_ms) == ("m", (2,), {}, 7000)


def test_the_processes_get_the_numbers_of_the_command(folder, monkeypatch, tmp_path: Path):
    started = []
    monkeypatch.setattr(launch, "spawn", lambda command, *_: started.append(command[-1]) or 1)
    monkeypatch.setattr(launch, "ModelProcess", lambda label, start, socket, *_: start(1))
    layout, _ = layout_of(ServeOptions(model_dir=folder, limits={"max_queue": "9"}))
    launch.Launcher(tmp_path, 1, ["program"], uses_template=False, allow_pickle=False).start(layout, 3, 1)
    told = ServeOptions.model_validate_json(started[0])
    assert (told.limits, told.instance, told.name, told.version) == ({"max_queue": "9"}, 1, "m", 3)


def test_the_folder_is_taken_once(folder):
    layout, _ = layout_of(ServeOptions(model_dir=folder))
    only = OneFolder(layout)
    assert [change.found for change in only.look()] == [layout]
    assert only.look(force=True) == []


@pytest.mark.parametrize(("text", "needs"), [("instances: 2", True), ("instances: 1", False), ("", False)])
def test_one_process_needs_no_supervisor(folder, text, needs):
    assert needs_supervisor(ServeOptions(model_dir=write_yaml(folder, text))) is needs


def test_a_folder_that_cannot_be_served_is_told(folder):
    with pytest.raises(ModelFolderError, match="there is no version 4"):
        layout_of(ServeOptions(model_dir=folder, version=4))
