"""What `dl-inference serve` shows in a terminal, and what becomes of it when the terminal is closed."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.access_process import wait_until
from fixtures.serve_process import START_S, WITH_STAND_INS, write_model
from rich.console import Console

from dl_inference.commands.serve_screen import Screen

FOLDERS = [
    {
        "name": "digits",
        "kind": "PyTorch",
        "state": "serving the former",
        "reason": "model.pt2: holds [no] weights",
        "versions": [
            {"version": 1, "serves": True, "ready": 2, "replicas": 2, "restarts": 3, "pids": [11, 12]},
            {"version": 2, "serves": False, "ready": 0, "replicas": 2, "restarts": 0, "pids": [13]},
        ],
    },
    {"name": "empty", "kind": None, "state": "failed", "reason": "holds no model", "versions": []},
    {"name": "wine", "kind": "PyTorch", "state": "serving", "reason": "", "versions": []},
]


def screen_of(control: dict[str, object], models_dir: Path, width: int = 160) -> list[str]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.handlers.clear()  # pytest's would count as a log that this process has already
    try:
        return lines_of(control, models_dir, width)
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


def lines_of(control: dict[str, object], models_dir: Path, width: int) -> list[str]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width, height=40, color_system=None)
    with Screen(console, models_dir) as screen:
        status = {"models": [], "control": control} if "listen" in control else {"control": control}
        screen.show(status)
        logging.getLogger("serve").info("something [happened]")
        return text.getvalue().splitlines()


def test_the_screen_shows_folders_and_reasons_and_log_lines_go_above_it(tmp_path):
    lines = screen_of({"folders": FOLDERS, "warnings": ["an alias is left out"]}, tmp_path)
    rows = [" ".join(line.split()) for line in lines]
    assert "digits serving the former 2/4 1, 2 (new) 3 PyTorch 11, 12, 13" in rows
    assert "empty failed 0" in rows
    for line in ("digits: model.pt2: holds [no] weights", "empty: holds no model", "an alias is left out"):
        assert line in lines
    assert any(line.endswith("INFO serve: something [happened]") for line in lines)


@pytest.mark.parametrize(
    ("listen", "target"),
    [
        ("127.0.0.1:8500", ""),
        ("0.0.0.0:8500", ""),
        ("[::]:9000", " --to 127.0.0.1:9000"),
        ("10.0.0.7:8500", " --to 10.0.0.7:8500"),
        ("unix:/run/dl", " --to unix:/run/dl"),
    ],
)
def test_the_screen_ends_with_a_call_to_paste(tmp_path, listen, target):
    control = {"folders": FOLDERS, "listen": [listen], "admin": None}
    assert f"try: dl-inference call wine INPUT{target}" in screen_of(control, tmp_path)


def test_the_call_to_paste_sends_a_sample_of_the_model_where_there_is_one(tmp_path):
    samples = tmp_path / "wine" / "samples"
    samples.mkdir(parents=True)
    for name in ("a.csv", "expected.json", "one glass.json"):
        (samples / name).touch()
    control = {"folders": FOLDERS, "listen": ["127.0.0.1:8500"], "admin": None}
    assert f"try: dl-inference call wine '{samples}/one glass.json'" in screen_of(control, tmp_path)


def test_a_call_that_is_wider_than_the_terminal_can_still_be_pasted(tmp_path):
    control = {"folders": FOLDERS, "listen": ["127.0.0.1:9000"], "admin": None}
    lines = screen_of(control, tmp_path, 40)
    assert lines[lines.index("try: dl-inference call wine INPUT \\") + 1] == "    --to 127.0.0.1:9000"


class Terminal:
    """A terminal of 80 x 24 with a `serve` of one model in it."""

    def __init__(self, models: Path) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 80))
        self.seen = ""
        command = [sys.executable, "-c", WITH_STAND_INS, models, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        without_size = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**without_size, "TERM": "xterm"},
        )
        os.close(slave)
        os.set_blocking(self.master, False)

    def shows(self, *words: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        return all(each in self.seen for each in words)


@pytest.fixture
def terminal(tmp_path) -> Iterator[Terminal]:
    write_model(tmp_path / "models" / "m", "A")
    terminal = Terminal(tmp_path / "models")
    try:
        wait_until(lambda: terminal.shows("1/1", "effective", "try: ", "--to"), "the screen shows the model", START_S)
        yield terminal
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()


def test_in_a_terminal_serve_shows_where_it_listens_and_ends_with_its_last_numbers(terminal):
    assert re.search(r"listening on 127\.0\.0\.1:\d+, admin port 127\.0\.0\.1:\d+", terminal.seen)
    assert re.search(r"dl-inference call m INPUT --to 127\.0\.0\.1:\d+", terminal.seen)
    os.write(terminal.master, b"\x03")  # Ctrl-C

    def has_ended() -> bool:
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
            terminal.shows()
        return terminal.process.poll() is not None

    wait_until(has_ended, "it ends", START_S)
    assert terminal.process.returncode == 0
    assert "stopped" in terminal.seen
    assert "Traceback" not in terminal.seen
    os.close(terminal.master)


def test_closing_the_terminal_ends_serve(terminal):
    os.close(terminal.master)
    assert terminal.process.wait(START_S) in (0, 1)
