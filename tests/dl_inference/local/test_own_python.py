"""The first steps of a model process in an interpreter of its own; tests/e2e/test_own_packages.py has all of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dl_inference.commands import serve_run
from dl_inference.local import environments, launch, own_python
from dl_inference.local.environments import MakeError, make
from dl_inference.local.folders import ModelsDir
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.settings import ModelFolderError
from torch_predict import repository

# Without any installed package.
BARE = [sys.executable, "-I", "-S"]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BARE, *command], capture_output=True, text=True, check=False)


def test_an_interpreter_without_what_is_needed_says_what_to_install_into_it():
    done = run(own_python.__file__, "{}")
    assert done.returncode == 1
    python = sys.executable
    missing = "numpy pydantic pyyaml protobuf torch"
    assert done.stdout.splitlines()[-1] == f"{python} has no {missing}: {python} -m pip install {missing}"


def test_an_interpreter_that_is_too_old_says_so():
    code = (
        f"import sys, runpy; sys.version_info = (3, 9, 1); runpy.run_path({own_python.__file__!r}, run_name='__main__')"
    )
    done = run("-c", code)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"{sys.executable} is Python 3.9: use 3.11 or newer"


def test_our_packages_are_found_there_and_nothing_that_lies_beside_them():
    code = f"""
import importlib.util, runpy, sys
sys.path.insert(0, {str(Path(own_python.__file__).parent)!r})  # as for a file that is run
runpy.run_path({own_python.__file__!r}, run_name="elsewhere")
names = ["dl_inference.problem", "torch_predict", "access", "tf_predict", "tests", "own_python", "child"]
print([name for name in names if importlib.util.find_spec(name)])
"""
    assert run("-c", code).stdout == "['dl_inference.problem', 'torch_predict']\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "m"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (folder / "model.py").write_text("import a_package_of_its_own\nclass Model: ...\n")
    return folder


def test_an_interpreter_that_is_missing_is_a_problem_of_the_folder(folder):
    (folder / "model.yaml").write_text("python: .venv/bin/python")
    with pytest.raises(ModelFolderError, match=r"\.venv/bin/python is not there"):
        repository.find(folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").touch(0o644)
    with pytest.raises(ModelFolderError, match=r"\.venv/bin/python cannot be executed"):
        repository.find(folder)


def test_what_is_installed_elsewhere_is_not_asked_for_here(folder):
    assert any("a_package_of_its_own" in str(each) for each in repository.check(folder))
    (folder / "model.yaml").write_text(f"python: {sys.executable}")
    (folder / "requirements.txt").write_text("nowhere-at-all\n")
    assert repository.check(folder) == []


def start(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: bool) -> tuple[list[str], dict[str, str]]:
    """Return with what a process of the folder is started; no template may be used for it."""
    started = []
    monkeypatch.setattr(launch, "spawn", lambda command, variables, *_: started.append((command, variables)) or 1)
    monkeypatch.setattr(launch, "ModelProcess", lambda label, start, socket, *_: start(1))
    monkeypatch.setenv("PYTHONPATH", "/ours")
    (change,) = ModelsDir(folder.parent).look(force=True)
    launcher = launch.Launcher(folder, 1, ["program"], uses_template=True, allow_pickle=False, **options)
    launcher._template = object()
    launcher.start(change.found, 1, 0)
    return started[0]


def test_a_process_is_started_in_the_folders_own_interpreter(folder, monkeypatch):
    (folder / ".venv").mkdir()
    (folder / ".venv" / "python").symlink_to(sys.executable)
    (folder / "model.yaml").write_text("python: .venv/python")
    (program, file, document), variables = start(folder, monkeypatch)
    assert (program, file) == (
        str(folder / ".venv" / "python"),
        own_python.__file__,
    )  # the link, which knows its packages
    assert ServeOptions.model_validate_json(document).model_dir == folder
    assert "PYTHONPATH" not in variables


def test_requirements_are_installed_only_where_that_is_asked_for(folder, monkeypatch):
    (folder / "requirements.txt").write_text("x")
    command, _ = start(folder, monkeypatch, makes_environments=True)
    assert command[:-1] == [*environments.PROGRAM, str(folder / "requirements.txt")]
    with pytest.raises(AttributeError):  # the template is asked, which is none here
        start(folder, monkeypatch)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the commands that make environments, none of which is run."""
    steps: list[list[str]] = []

    def pretend(command: list[str], requirements: Path, limit_s: float) -> None:
        steps.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir()

    monkeypatch.setattr(environments, "_run", pretend)
    return steps


def made(requirements: Path, cache: Path) -> Path:
    """Make an environment, and do not use it."""
    environment = make(requirements, cache)
    os.close(environment.lock)
    return environment.python


def test_an_environment_is_made_once_and_again_after_a_failure(tmp_path: Path, monkeypatch, steps):
    (tmp_path / "requirements.txt").write_text("x")
    works = environments._run

    def fail_once(command: list[str], requirements: Path, limit_s: float) -> None:
        works(command, requirements, limit_s)
        if len(steps) == 2:
            raise MakeError("no network")

    monkeypatch.setattr(environments, "_run", fail_once)
    with pytest.raises(MakeError, match="no network"):
        make(tmp_path / "requirements.txt", tmp_path / "cache")
    python = made(tmp_path / "requirements.txt", tmp_path / "cache")
    assert len(steps) == 4
    assert made(tmp_path / "requirements.txt", tmp_path / "cache") == python
    assert len(steps) == 4
    (tmp_path / "requirements.txt").write_text("y")
    assert made(tmp_path / "requirements.txt", tmp_path / "cache") != python


def test_two_processes_use_one_environment_at_a_time(tmp_path: Path, steps):
    (tmp_path / "requirements.txt").write_text("x")
    one, other = (make(tmp_path / "requirements.txt", tmp_path / "cache") for _ in range(2))
    assert one.python == other.python
    assert len(steps) == 2
    os.close(one.lock)
    assert environments.remove_unused(tmp_path / "cache", unused_s=-1) == []
    os.close(other.lock)


def test_an_environment_that_nobody_has_used_for_long_is_removed_and_one_in_use_stays(tmp_path: Path, steps):
    cache = tmp_path / "cache"
    (tmp_path / "requirements.txt").write_text("x")
    environment = make(tmp_path / "requirements.txt", cache)
    place = environment.python.parent.parent
    lock = place.with_name(f"{place.name}.lock")
    long_ago = time.time() - 31 * 86_400
    assert environments.remove_unused(tmp_path / "nowhere") == []
    os.utime(lock, (long_ago, long_ago))
    # A process that was started in it long ago holds the lock through its exec.
    os.set_inheritable(environment.lock, True)
    with subprocess.Popen([*BARE, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as process:
        os.close(environment.lock)
        assert environments.remove_unused(cache) == []
        process.communicate(b"\n")
    made(tmp_path / "requirements.txt", cache)  # used now
    assert environments.remove_unused(cache) == []
    os.utime(lock, (long_ago, long_ago))
    assert environments.remove_unused(cache) == [place]
    assert not place.exists()
    made(tmp_path / "requirements.txt", cache)
    assert len(steps) == 4


def test_serve_removes_environments_only_where_it_makes_some(tmp_path: Path, monkeypatch, steps, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "requirements.txt").write_text("x")
    cache = environments.cache_folder()
    place = made(tmp_path / "requirements.txt", cache).parent.parent
    os.utime(f"{place}.lock", (0, 0))
    (tmp_path / "models").mkdir()
    options = serve_run.Options({"admin": None}, 1, False, {})
    monkeypatch.setattr(serve_run, "LocalService", lambda *_, **__: SimpleNamespace(run=lambda view: True, post=None))
    assert serve_run.run(tmp_path / "models", options, has_table=False) == 0
    assert place.exists()
    assert serve_run.run(tmp_path / "models", replace(options, makes_environments=True), has_table=False) == 0
    assert not place.exists()
    assert f"removed the environment {place}" in capsys.readouterr().err


def test_an_environment_that_takes_too_long_is_given_up(tmp_path: Path):
    (tmp_path / "requirements.txt").write_text("x")
    with pytest.raises(MakeError, match=r"not installed within 0.01 s"):
        make(tmp_path / "requirements.txt", tmp_path / "cache", limit_s=0.01)
