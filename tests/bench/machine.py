"""What a result was measured on: date, commit, machine, versions."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fixtures.processes import ROOT


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=30).stdout.strip()


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _idle_share(seconds: float = 1) -> float:
    """Return the share of all cores' time that nobody used, over some seconds."""

    def read() -> Sequence[int]:
        return [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]

    before = read()
    time.sleep(seconds)
    spent = [new - old for new, old in zip(read(), before, strict=True)]
    return spent[3] / max(sum(spent), 1)  # user, nice, system, idle, ...: proc(5)


def describe() -> dict[str, Any]:
    """Return the facts for a result file; nothing in it names the machine or a person."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _said("git", "rev-parse", "HEAD"),
        "uncommitted_changes": bool(_said("git", "status", "--porcelain", "--untracked-files=no")),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "idle_share": _idle_share(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rustc": _said("rustc", "--version"),
        "h2load": _said("h2load", "--version"),
    }
