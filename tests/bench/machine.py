"""What a result was measured on: date, commit, machine, versions."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

from processes import ROOT


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=30).stdout.strip()


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def describe() -> dict[str, object]:
    """Return the facts for a result file; nothing in it names the machine or a person."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _said("git", "rev-parse", "HEAD"),
        "uncommitted_changes": bool(_said("git", "status", "--porcelain", "--untracked-files=no")),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rustc": _said("rustc", "--version"),
        "h2load": _said("h2load", "--version"),
    }
