"""Starting PyTorch processes from a template; tests/e2e/test_serve.py has the whole of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
from fixtures.serve_process import write_model

from access import state
from dl_inference.local import fork, launch
from dl_inference.local.folders import ModelsDir
from dl_inference.local.fork import Template
from dl_inference.serving.options import ServeOptions


@pytest.mark.parametrize("name", ["json.py", "json/__init__.py"])
def test_a_folder_with_a_module_whose_name_is_taken_starts_by_itself(tmp_path: Path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    order = {"folder": str(tmp_path), "command": ["echo", "by itself"], "options": "{}"}
    code = f"from dl_inference.local import fork; fork._serve({order!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "starting without the template: the folder has a module json of its own",
        "by itself",
    ]


def test_any_other_folder_is_served_in_the_fork(tmp_path: Path):
    (tmp_path / "sibling.py").touch()
    order = {"folder": str(tmp_path), "command": ["echo", "by itself"], "options": "{}"}
    code = f"from dl_inference.local import fork; fork.model_server.main = print; fork._serve({order!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n"


def test_the_exit_status_of_the_fork_is_the_model_servers(tmp_path: Path):
    options = ServeOptions(model_dir=tmp_path).model_dump_json()
    order = {"folder": str(tmp_path), "command": [], "options": options}
    code = f"import sys; from dl_inference.local import fork; sys.exit(fork._serve({order!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "holds no model" in done.stderr


@pytest.fixture
def subreaper():
    """A template makes its process inherit orphans; the process of the tests is not to keep that."""
    yield
    fork.child.prctl(fork._PR_SET_CHILD_SUBREAPER, 0)


def test_a_template_that_cannot_be_or_hangs_is_given_up(subreaper, monkeypatch, tmp_path: Path):
    broken = Template({**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHOME": str(tmp_path)})
    end = time.monotonic() + 20
    while not broken.has_ended and time.monotonic() < end:
        broken.step()
    assert (broken.has_ended, broken.is_ready, broken.is_loading) == (True, False, False)
    assert broken.fork(["echo"], ServeOptions(model_dir=tmp_path), tmp_path, 1) is None
    broken.end()
    monkeypatch.setattr(fork, "_PRELOAD_S", 0.0)
    late = Template(os.environ)
    assert not late.is_loading
    late.end()


# --- who is started how


class PretendTemplate:
    """Stands in for a Template."""

    made: ClassVar[list[PretendTemplate]] = []

    def __init__(self, environment: object) -> None:
        self.pid = 0
        self.is_ready = self.has_ended = False
        PretendTemplate.made.append(self)

    @property
    def is_loading(self) -> bool:
        return not (self.is_ready or self.has_ended)

    def step(self) -> None:
        """As told: `is_dying` is seen at the next step."""
        if getattr(self, "is_dying", False):
            self.is_ready, self.has_ended = False, True


@pytest.fixture
def launcher(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(launch, "Template", PretendTemplate)
    PretendTemplate.made.clear()
    return launch.Launcher(tmp_path, 1, ["predict"], uses_template=True, allow_pickle=False)


def test_a_template_is_started_for_pytorch_models_only_and_waited_for(launcher):
    launcher.step({"TensorFlow"}, [])
    assert PretendTemplate.made == []
    launcher.step({"TensorFlow", "PyTorch"}, [])
    (template,) = PretendTemplate.made
    assert not launcher.may_start("PyTorch", [])
    assert launcher.may_start("TensorFlow", [])
    template.is_ready = True
    launcher.step({"PyTorch"}, [])
    assert launcher.may_start("PyTorch", [])


@pytest.mark.parametrize(("has_worked", "count"), [(True, 2), (False, 1)])
def test_a_template_that_dies_is_started_again_if_it_had_worked(launcher, has_worked, count):
    launcher.step({"PyTorch"}, [])
    (template,) = PretendTemplate.made
    template.is_ready = has_worked
    template.is_dying = True
    launcher.step({"PyTorch"}, [])
    assert len(PretendTemplate.made) == count
    assert launcher.may_start("PyTorch", []) is not has_worked


def test_a_process_that_is_not_forked_is_told_everything_and_inherits_the_limits(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("DL_INFERENCE_LIMITS__MAX_MESSAGE_BYTES", "2048")
    monkeypatch.setenv("DL_INFERENCE_LISTEN", "127.0.0.1:1")
    started = []
    monkeypatch.setattr(launch, "spawn", lambda *arguments: started.append(arguments[:2]) or 1)
    monkeypatch.setattr(launch, "ModelProcess", lambda label, start, socket, *_: start(1))
    launcher = launch.Launcher(tmp_path, 1, ["program"], uses_template=False, allow_pickle=True)
    folder = write_model(tmp_path / "models" / "m" / "3", "A").parent
    (change,) = ModelsDir(tmp_path / "models").look(force=True)
    launcher.start(change.found, 3, 0)
    (((program, document), environment),) = started
    options = ServeOptions.model_validate_json(document)
    assert (program, options.model_dir) == ("program", folder.resolve())
    assert options.listen == (f"unix:{tmp_path}/m-3-1",)
    assert (options.name, options.version, options.allow_pickle) == ("m", 3, True)
    assert (options.instance, options.threads) == (0, state.cores())
    assert environment["DL_INFERENCE_LIMITS__MAX_MESSAGE_BYTES"] == "2048"
    assert "DL_INFERENCE_LISTEN" not in environment


def test_the_cores_are_divided_among_all_processes_at_the_start_of_each(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(state, "cores", lambda: 8)
    started = []
    monkeypatch.setattr(launch, "spawn", lambda command, *_: started.append(command[-1]) or 1)
    monkeypatch.setattr(launch, "ModelProcess", lambda label, start, socket, *_: start(1))
    launcher = launch.Launcher(tmp_path, 2, ["program"], uses_template=False, allow_pickle=True)
    write_model(tmp_path / "models" / "as-the-command-says", "A")
    write_model(tmp_path / "models" / "more", "A", instances=3)
    write_model(tmp_path / "models" / "most", "A", instances=64)
    changes = ModelsDir(tmp_path / "models").look(force=True)
    for change in changes:
        launcher.start(change.found, 1, 1)
    launcher.wanted = 4
    launcher.start(changes[0].found, 1, 0)
    told = map(ServeOptions.model_validate_json, started)
    assert [(each.name, each.instance, each.threads) for each in told] == [
        ("as-the-command-says", 1, 4),
        ("more", 1, 2),
        ("most", 1, 1),
        ("as-the-command-says", 0, 2),
    ]
