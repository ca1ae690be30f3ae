"""docs/many-machines.md, steps 5 to 7, as a reader does them: the page's lines, but one ZooKeeper and free ports."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fixtures.access_process import wait_until
from fixtures.processes import ROOT, Process
from fixtures.zookeeper_process import Ensemble, start_ensemble

from dl_inference.client import Client

PAGE = ROOT / "docs" / "many-machines.md"
START_S = 120  # torch, imported by two processes on shared cores
ROWS = np.zeros((1, 13))


def step(title: str) -> list[tuple[str, str]]:
    """Return (language, text) of every block of a step of the page."""
    section = re.search(rf"^## \d\. {title}\n(.*?)(?=^## )", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"^```(\w+)\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)


def lines(title: str) -> list[str]:
    return [line for language, text in step(title) if language == "bash" for line in text.splitlines()]


class Reader:
    """Does what the page says, in one folder, against one ZooKeeper."""

    def __init__(self, folder: Path, zookeeper: Ensemble) -> None:
        self.folder, self.zookeeper = folder, zookeeper
        self.started: list[Process] = []
        self.environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        self.environment |= {"DL_INFERENCE_TORCH_THREADS": "1", "DL_INFERENCE_EXPOSE_ENDPOINTS": "true"}

    def real(self, text: str) -> str:
        """Put the real registry, and free ports, in the place of the page's."""
        text = text.replace("zk1:2181,zk2:2181,zk3:2181", self.zookeeper.hosts)
        return re.sub(r"0\.0\.0\.0:\d+", "127.0.0.1:0", text.replace("zk1,zk2,zk3", self.zookeeper.hosts))

    def start(self, line: str, *more: str) -> Process:
        """Start a program of the page in the background."""
        words = shlex.split(self.real(line), comments=True)
        assert words[0] == "dl-inference"
        command = [sys.executable, "-m", "dl_inference.cli", *words[1:], *more]
        self.started.append(Process(command, cwd=self.folder, env=self.environment))
        return self.started[-1]

    def run(self, line: str) -> str:
        """Run a command of the page; it must succeed."""
        words = shlex.split(self.real(line), comments=True)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self.environment[name] = value
            return ""
        assert words[0] == "dl-inference"
        done = subprocess.run(
            [sys.executable, "-m", "dl_inference.cli", *words[1:]],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path, run) -> Iterator[Reader]:
    for version in ("3", "4"):
        folder = tmp_path / "models" / "digits" / version
        folder.mkdir(parents=True)
        shutil.copy(ROOT / "models" / "wine" / "model.pt2", folder)
    reader = Reader(tmp_path, start_ensemble(run, tmp_path, 1))
    yield reader
    for process in reader.started:
        process.kill()
        print(f"--- {process.command}\n{process.log}")


@pytest.mark.timeout(400)
def test_servers_register_releases_move_the_calls_and_the_loss_of_the_registry_costs_none(reader):
    announce = lines("Servers that announce themselves")
    predict = next(line for line in announce if line.startswith("dl-inference predict"))
    servers = {
        version: reader.start(predict, "--model-version", version, "--admin", "127.0.0.1:0") for version in ("3", "4")
    }
    (config,) = [text for language, text in step("Servers that announce themselves") if language == "yaml"]
    (reader.folder / "access.yaml").write_text(reader.real(config).replace("/var/lib/dl-inference", "state"))
    reader.run(next(line for line in announce if line.startswith("export")))
    access = reader.start(
        next(line for line in announce if line.startswith("dl-inference access")), "--admin", "127.0.0.1:0"
    )
    address = access.wait_line(r"ready on ([^,\s]+)", timeout_s=START_S)[1]
    versions = {
        process.wait_line(r"serving digits version \d on ([^,\s]+)", timeout_s=START_S)[1]: version
        for version, process in servers.items()
    }
    listed = next(line for line in announce if line.startswith("dl-inference registry ls"))
    wait_until(lambda: all(each in reader.run(listed) for each in versions), "both servers are in the registry", 60)

    with Client(address) as client:

        def answered(calls: int = 40) -> Counter[str]:
            """Call so many times; return how many each version answered."""
            counted: Counter[str] = Counter()
            for _ in range(calls):
                counted[client.predict_seldon("digits", ROWS).endpoint] += 1
            return Counter({versions[endpoint]: number for endpoint, number in counted.items()})

        wait_until(lambda: set(answered()) == {"3", "4"}, "both versions answer", 60)
        canary, show, production, history, rollback = lines("Releases")
        assert "canary" in reader.run(canary)
        wait_until(lambda: 1 <= answered(100)["4"] <= 15, "the canary has its five percent", 60)
        assert "canary" in reader.run(show)
        reader.run(production)
        wait_until(lambda: set(answered()) == {"4"}, "version 4 has every call", 60)
        assert "try version 4" in reader.run(history)
        reader.run(rollback)
        wait_until(lambda: answered()["3"] > 20, "version 3 has its share again", 60)
        reader.zookeeper.servers[0].kill()
        assert answered(200).total() == 200
