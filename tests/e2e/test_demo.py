"""`make demo`'s script as a newcomer sees it, and that it leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.processes import ROOT, Process

DEMO = ROOT / "models" / "demo.py"
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
EXAMPLES = sorted(path.parent.parent for path in (ROOT / "models").glob("*/samples/expected.json"))
LOAD_S = 180


@pytest.fixture(scope="module", autouse=True)
def _models():
    for example in EXAMPLES:
        if not any((*example.glob("**/model.pt*"), *example.glob("**/saved_model.pb"))):
            subprocess.run([sys.executable, example / "make_model.py"], check=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the demo keeps its files, which names its programs in /proc too."""
    return tmp_path


@pytest.fixture
def demo(run, folder):
    """Start the demo; everything that it starts can be found by the folder of its temporary files."""
    return lambda: run([sys.executable, DEMO], env={"TMPDIR": str(folder), "DL_INFERENCE_LISTEN": "not for the demo"})


def programs(folder: Path) -> list[int]:
    """Return the ids of running processes, zombies not counted, whose temporary files go to a folder or inside it."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            environment = (each / "environ").read_bytes()
            state = (each / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it ended meanwhile
            continue
        if f"\0TMPDIR={folder}".encode() in b"\0" + environment and state != "Z":
            found.append(int(each.name))
    return found


def wait_until_gone(folder: Path, timeout_s: float = 20) -> None:
    """Wait for the end of every program that the demo started, each by its pidfd."""
    for pid in programs(folder):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with os.fdopen(descriptor) as process:
            assert select.select([process], [], [], timeout_s)[0], f"process {pid} runs on"


@pytest.mark.timeout(LOAD_S + 60)
def test_the_demo_answers_every_sample_survives_a_kill_and_leaves_nothing_behind(demo, folder):
    process = demo()
    assert process.wait(LOAD_S) == 0, process.log
    log = process.log
    rows = [line.split() for line in log.splitlines()]
    for name in NAMES[:5]:
        row = next(row for row in rows if f"{name}.png" in row)
        assert name in [word.strip("[],") for word in row[row.index(f"{name}.png") + 1 :]]
        assert any(re.fullmatch(r"digits-1-\d+", word) for word in row)
        assert float(row[-1]) > 0
    assert "█" in log
    for example in EXAMPLES:
        cases = json.loads((example / "samples" / "expected.json").read_text())
        count = sum("expect" in case and case.get("method", "/Predict").endswith("/Predict") for case in cases)
        assert f"{count} samples of {example.name}, each answered as expected" in log
    pid = re.search(r"killed process (\d+) of \S+ with calls in flight", log)[1]
    assert re.search(r"a process of digits version 1 is ready, [\d.]+ s after its start", log)
    assert "serve has started another process in its place" in log
    assert re.search(r"(\d+) calls, 0 failed: the other process of \S+ answered", log)
    control = log.partition("dl-inference status --admin")[2]
    assert "breast_cancer-1-" in control
    assert pid not in control.split()
    assert "every program has ended" in log
    assert programs(folder) == []
    assert list(folder.iterdir()) == []


@pytest.mark.timeout(LOAD_S + 60)
@pytest.mark.parametrize(
    ("number", "expected", "moment"),
    [
        (signal.SIGINT, 130, "starting: dl-inference serve"),
        (signal.SIGTERM, 143, "starting: dl-inference serve"),
        (signal.SIGKILL, -9, "starting: dl-inference serve"),
        (signal.SIGINT, 130, "calling all models without a pause"),
    ],
    ids=["ctrl-c", "sigterm", "sigkill", "ctrl-c-while-calling"],
)
def test_an_interrupted_demo_leaves_no_program_behind(demo, folder, number, expected, moment):
    process: Process = demo()
    process.wait_line(moment, timeout_s=LOAD_S)
    process.signal(number)
    assert process.wait() == expected, process.log
    assert "Traceback" not in process.log
    wait_until_gone(folder)
    assert programs(folder) == []
    if number != signal.SIGKILL:
        assert list(folder.iterdir()) == []


def test_a_model_that_cannot_be_served_is_named_with_its_reason(run, tmp_path: Path):
    script = tmp_path / "fail.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(DEMO.parent)!r})\n"
        "import demo\n"
        "demo.MODELS = demo.Path(sys.argv[1])\n"
        "sys.exit(demo.main())\n"
    )
    example = tmp_path / "models" / "example"
    example.mkdir(parents=True)
    (example / "make_model.py").touch()
    (example / "model.pt2").write_bytes(b"no model")
    process = run([sys.executable, script, example.parent], env={"TMPDIR": str(tmp_path)})
    assert process.wait(LOAD_S) == 1
    assert "the demo failed: models/example cannot be served" in process.log
    assert "model.pt2: is damaged, or no aotinductor or exported model (8 bytes)" in process.log
    assert "Traceback" not in process.log
    assert programs(tmp_path) == []
