"""What a replaced model had is given back: memory, processes, descriptors, files."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from fixtures.access_process import wait_until
from fixtures.serve_process import LIGHT_STAND_IN, START_S, Serve, write_model

pytestmark = pytest.mark.timeout(400)

SWAPS = 50
FIRST = 10
"""After so many, everything that is made once is there."""
GROWTH_BYTES = 3 * 1024 * 1024
"""What allocators may keep; 40 swaps grow it by 0.1 MiB."""
FILES = 5
"""Of one process: the folder of all, its socket, its report, its files' folder and the copy therein."""


class Held(NamedTuple):
    """What a `serve` has at one moment."""

    processes: int
    descriptors: int
    threads: int
    files: int
    bytes: int


def held(serve: Serve, folder: Path) -> Held:
    pid = serve.process.pid
    status = Path(f"/proc/{pid}/status").read_text()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    threads, kib = (int(re.findall(rf"^{key}:\s+(\d+)", status, re.MULTILINE)[0]) for key in ("Threads", "VmRSS"))
    files = sum(len(folders) + len(names) for _, folders, names in os.walk(folder))  # which may change meanwhile
    return Held(len(children), len(os.listdir(f"/proc/{pid}/fd")), threads, files, kib * 1024)


def test_fifty_swaps_leave_nothing_behind(run, tmp_path: Path):
    models = tmp_path / "models"
    made = [write_model(tmp_path / f"made-{number}", str(number)) for number in range(SWAPS)]
    write_model(models / "m", "first")
    with tempfile.TemporaryDirectory(prefix="dl", dir="/tmp") as temporary:  # a short path, as sockets have
        serve = Serve(run, models, env={"TMPDIR": temporary}, stand_in=LIGHT_STAND_IN)
        seen = []
        for number, folder in enumerate(made):
            before = serve.pids("m")
            (models / "m").rename(tmp_path / f"gone-{number}")
            folder.rename(models / "m")

            def has_swapped(before: list[int] = before) -> bool:
                (found, *more) = (serve.folder("m") or {"versions": [None]})["versions"]
                is_new = not more and found is not None and found["serves"] and not set(found["pids"]) & set(before)
                now = held(serve, Path(temporary))
                return is_new and (now.processes, now.files) == (1, FILES)  # the process first, its files after it

            wait_until(has_swapped, f"swap {number} leaves {FILES} files\n{serve.process.log[-2000:]}", START_S)
            seen.append(held(serve, Path(temporary)))
        early, late = seen[FIRST - 1], seen[-1]
        print(f"after {FIRST} swaps: {early}\nafter {SWAPS} swaps: {late}")
        assert late.descriptors <= early.descriptors + 2
        assert late.threads <= early.threads + 2
        assert late.bytes - early.bytes < GROWTH_BYTES
