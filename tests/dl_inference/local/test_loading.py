"""What `check --load` says of processes that load, hang and crash: real ones, with a stand-in for the model."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from fixtures.serve_process import STAND_IN, START_S, write_model

from dl_inference.local.layout import inspect
from dl_inference.local.loading import load
from dl_inference.local.look import look

PROGRAM = (sys.executable, str(STAND_IN))
CRASH = "import ctypes\n\nctypes.string_at(0)\n"


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))

    def loaded(answer: str, timeout_s: float = START_S, processor: str = ""):
        folder = write_model(tmp_path / "m", answer)
        if processor:
            (folder / "processor.py").write_text(processor)
        seen = look(folder)
        assert seen is not None
        return load(inspect(folder, seen), allow_pickle=False, timeout_s=timeout_s, program=PROGRAM)

    return loaded


def test_a_model_that_loads_is_told_with_time_device_and_memory(loaded):
    found, problems = loaded("A")
    assert problems == []
    time, device, memory = found["version 1"].split(", ")
    assert time.startswith("ready after ")
    assert device == "on cpu"
    assert int(memory.removesuffix(" MiB of memory")) > 10


def test_a_sample_that_fails_is_a_problem(loaded):
    _, (problem,) = loaded("bad sample")
    assert problem.message == "case 4 of samples/expected.json failed: ValueError: no"


def test_what_the_server_says_of_a_model_that_it_cannot_load_is_the_problem(loaded):
    _, (problem,) = loaded("broken")
    assert problem.place.endswith("/m version 1")
    assert "cannot be loaded: " in problem.message
    assert "model.pt2: holds no weights; save it again" in problem.message


def test_a_crash_is_told_with_its_signal_and_the_line_that_did_it(loaded, tmp_path):
    _, (problem,) = loaded("segfault", processor=CRASH)
    assert problem.message == f"crashed while it was loaded: killed by SIGSEGV at {tmp_path}/m/processor.py:3"
    assert "native code" in problem.remedy


def test_an_exit_is_told_with_its_status_and_last_words(loaded):
    _, (problem,) = loaded("exit")
    assert problem.message == "cannot be loaded: ended with exit status 3\nbye"


def test_a_process_that_hangs_is_ended_at_the_limit(loaded):
    _, (problem,) = loaded("never", timeout_s=0.5)
    assert problem.message == "is not ready within 0.5 s: it hangs, or needs longer"
    assert "--timeout-ms" in problem.remedy
