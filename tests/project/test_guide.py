"""docs/guide.md, from top to bottom as a reader does it: the same code, commands and files, but free ports."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.processes import ROOT, Process

GUIDE = ROOT / "docs" / "guide.md"
START_S = 180  # torch, imported by three processes on shared cores
BOTH = r"ready on ([^,\s]+), (\S+)"
# `serve` opens its port after a minute, too, when the model is not warm by then.
READY = {
    "serve": (r": version \d+ serves", BOTH),
    "access": (BOTH,),
    "predict": (r"serving \S+ version \d+ on ([^,\s]+)",),
}
LISTEN, ADMIN = "127.0.0.1:8500", "127.0.0.1:8502"


class Reader:
    """Does what the page says, in one folder, one Python and one shell.

    Addresses of the page are replaced by those that the programs really got.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, object] = {}
        self.jobs: dict[int, Process] = {}
        self.started: list[Process] = []
        self._addresses: dict[str, str] = {}
        self._starting: list[tuple[Process, tuple[str, ...], str]] = []
        self._environment = {"PYTHONPATH": str(ROOT), "DL_INFERENCE_TORCH_THREADS": "1", "COLUMNS": "200"}

    def python(self, code: str) -> None:
        """Run code as in a notebook; it must print what its comments say."""
        code = self._real(code)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.chdir(self.folder):
            exec(compile(code, str(GUIDE), "exec"), self.names)
        assert printed.getvalue().splitlines() == re.findall(r"^print\(.*\)  # (.+)$", code, re.MULTILINE)

    def shell(self, line: str) -> str:
        """Run a line in the shell; return what it printed. A program in the background prints to its own log."""
        words = shlex.split(line, comments=True)
        if words[0] == "kill":
            process = self.jobs.pop(int(words[1].removeprefix("%")))
            process.signal(signal.SIGTERM)
            assert process.wait(60) == 0, process.log
            return ""
        assert words[0] == "dl-inference"
        if words[-1] == "&":
            self._start(words[1:-1])
            return ""
        words = shlex.split(self._real(line), comments=True)
        if words[1] == "call":
            words += ["--to", self._addresses[LISTEN]]
        if words[1] == "status":
            words += ["--admin", self._addresses[ADMIN]]
        done = subprocess.run(
            [sys.executable, "-m", "dl_inference.cli", *words[1:]],
            cwd=self.folder,
            env={**os.environ, **self._environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,  # one call of the page fails on purpose
        )
        return done.stdout

    def file(self, name: str, text: str) -> None:
        """Save a file of the page; where `serve` runs, wait until the model's new process has taken over."""
        serving = self.jobs.get(1) if name.startswith("models/") else None
        after = serving.line_count() if serving else 0
        (self.folder / name).write_text(self._real(text))
        if serving:
            serving.wait_line("process .* drains", after=after, timeout_s=START_S)

    def _start(self, words: list[str]) -> None:
        listen = LISTEN
        if "--listen" in words:
            at = words.index("--listen")
            listen = words[at + 1]
            del words[at : at + 2]
        words += ["--listen", "127.0.0.1:0"]
        environment = {**self._environment, "DL_INFERENCE_ADMIN": "127.0.0.1:0"}
        command = [sys.executable, "-m", "dl_inference.cli", *words]
        process = Process(command, cwd=self.folder, env=environment)
        self.started.append(process)
        self.jobs[max(self.jobs, default=0) + 1] = process
        self._starting.append((process, READY[words[0]], listen))

    def _real(self, text: str) -> str:
        """Replace addresses of the page by real ones; what is still starting has to be ready for that."""
        for process, lines, listen in self._starting:
            bound = [process.wait_line(line, timeout_s=START_S) for line in lines][-1]
            self._addresses[listen] = bound[1]
            if bound.re.groups == 2:
                self._addresses[ADMIN] = bound[2]
        self._starting = []
        return re.sub(r"127\.0\.0\.1:\d+", lambda match: self._addresses.get(match[0], match[0]), text)


@pytest.fixture
def reader(tmp_path: Path):
    reader = Reader(tmp_path)
    yield reader
    for process in reader.started:
        process.kill()
        print(f"--- {process.command}\n{process.log}")


@pytest.mark.timeout(600)
def test_the_guide_leads_from_a_notebooks_model_to_two_servers_behind_the_access_service(reader):
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for 150 rows a second one costs more than it brings
    printed: dict[str, list[str]] = {"check": [], "call": [], "status": []}
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL):
        if file := re.match(r"# (\S+\.\w+)\n", text):
            reader.file(file[1], text)
        elif language == "python":
            reader.python(text)
        else:
            for line in text.splitlines():
                output = reader.shell(line)
                printed.get(line.split()[1], []).append(output)

    torch.set_num_threads(threads)
    assert reader.names["accuracy"] > 0.95
    folder, configuration = printed["check"]
    assert folder.startswith("iris: no problem found; PyTorch, exported")
    assert "Routes" in configuration
    numbers, hooked, refused, before, after = printed["call"]
    assert "tensor" in numbers
    assert "setosa" in hooked
    assert "unsure" in hooked
    assert "INVALID_ARGUMENT" in refused
    assert "send rows of 4 numbers" in refused
    assert "setosa" in before
    assert "setosa" in after
    _, survivor = re.findall(r"127\.0\.0\.1:\d+", (reader.folder / "access.yaml").read_text())
    assert f"by {survivor}" in after
    (status,) = printed["status"]
    assert re.search(r"\bdown\b", status)
    assert re.search(r"\blive\b", status)
