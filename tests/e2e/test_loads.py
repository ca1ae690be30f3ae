"""Models of `serve` that are loaded and unloaded: by order, by calls, within a memory budget."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.access_process import wait_until
from fixtures.serve_process import Caller, Serve, is_running, write_model

pytestmark = pytest.mark.timeout(400)

END_S = 60


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An empty MODELS_DIR."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def serve(run, models, tmp_path: Path):
    """Start `serve` on the folder `models`."""
    return lambda *options, **env: Serve(run, models, *options, env={"TMPDIR": str(tmp_path), **env})


def command(started: Serve, *words: str) -> tuple[int, str]:
    """Return status and output of `dl-inference models`."""
    line = [sys.executable, "-m", "dl_inference.cli", "models", *words, "--admin", started.admin]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=False)
    return done.returncode, done.stdout + done.stderr


def ended(pids: list[int]) -> None:
    """Wait until processes have ended."""
    wait_until(lambda: not any(map(is_running, pids)), f"{pids} end", END_S)


def test_the_command_unloads_loads_and_lists_models(serve, models):
    write_model(models / "one", "A")
    write_model(models / "two", "B")
    started = serve()
    caller = Caller(started.address)
    assert caller.ask("one") == "A"
    (pid,) = started.pids("one")
    assert command(started, "unload", "one")[0] == 0
    assert not is_running(pid)
    assert "is not loaded (" not in caller.ask("one")
    assert caller.ask("one").startswith("NOT_FOUND: model one is not loaded: load it by `dl-inference models load`")
    assert caller.ask("two") == "B"
    assert command(started, "unload", "one")[0] == 0  # it is
    status, text = command(started, "ls")
    assert (status, "unloaded" in text, "ready" in text) == (0, True, True), text
    status, text = command(started, "load", "one")
    assert (status, caller.ask("one")) == (0, "A"), text
    assert command(started, "load", "one")[0] == 0  # it is
    assert len(started.pids("one")) == 1
    status, text = command(started, "load", "onne")
    assert status == 1
    assert "nearest known: one" in text
