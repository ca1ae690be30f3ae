"""`make demo`'s script as a newcomer sees it, and that it leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import ROOT, Process

DEMO = ROOT / "models" / "demo.py"
DIGITS = ROOT / "models" / "digits"
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LOAD_S = 90
QUICK_S = 60
"""What the second run may take; the machine of the tests is shared, so it usually takes a third of it."""


@pytest.fixture(scope="module", autouse=True)
def _model():
    if not (DIGITS / "model.pt2").exists():
        subprocess.run([sys.executable, DIGITS / "make_model.py"], check=True)


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
    started = time.monotonic()
    process = demo()
    assert process.wait(LOAD_S) == 0, process.log
    took_s = time.monotonic() - started
    log = process.log
    servers = re.search(r"ready: (\S+), (\S+); starting the access service", log).groups()
    rows = [line.split() for line in log.splitlines()]
    for name in NAMES:
        row = next(row for row in rows if f"{name}.png" in row)
        answer, endpoint, score, took_ms = row[row.index(f"{name}.png") + 1 :]
        assert answer == name
        assert endpoint in servers
        assert 0.9 < float(score) <= 1
        assert float(took_ms) > 0
    assert "█" in log
    killed, survivor = (next(row for row in rows if row[:1] == [server]) for server in servers)
    assert killed[1] == "(killed)"
    assert int(killed[2]) > 0
    assert killed[3] == "0"
    assert int(survivor[1]) > 0
    assert int(survivor[2]) > 0
    assert re.search(r"(\d+) calls, 0 failed", log)
    for server, state in zip(servers, ("down", "live"), strict=True):
        assert any(row[row.index(server) + 1 :][:1] == [state] for row in rows if server in row)
    assert "every program has ended" in log
    assert programs(folder) == []
    assert list(folder.iterdir()) == []
    assert took_s <= QUICK_S


@pytest.mark.timeout(LOAD_S + 60)
@pytest.mark.parametrize(
    ("number", "expected", "moment"),
    [
        (signal.SIGINT, 130, "servers are starting"),
        (signal.SIGTERM, 143, "servers are starting"),
        (signal.SIGKILL, -9, "servers are starting"),
        (signal.SIGINT, 130, "calling without a pause"),
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


def test_a_program_that_fails_is_named_with_the_end_of_its_log(run, tmp_path: Path):
    script = tmp_path / "fail.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(DEMO.parent)!r})\n"
        "import demo\n"
        "demo.DIGITS = demo.Path(sys.argv[1])\n"
        "sys.exit(demo.main())\n"
    )
    (tmp_path / "model.pt2").write_bytes(b"no model")
    process = run([sys.executable, script, tmp_path], env={"TMPDIR": str(tmp_path)})
    assert process.wait() == 1
    assert "the demo failed: model server 1 ended before it was ready; the end of its log:" in process.log
    assert "model.pt2: is damaged, or no exported model (8 bytes)" in process.log
    assert "Traceback" not in process.log
    assert programs(tmp_path) == []
