"""Why a version, as its files are, is kept from calls. Pure: no processes, no clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dl_inference.problem import Problem
from dl_inference.serving import room
from dl_inference.serving.report import Step

_REMEDIES = (
    (r"not ready within", "see what processor.py and model.py do when they are imported, or raise load_timeout_ms"),
    (r"needs more than \d+ bytes", "make the model smaller, or raise max_load_memory_bytes in model.yaml"),
    (r"killed by SIGKILL", "if nobody did that, the machine ran out of memory: see dmesg"),
    (r"killed by", "native code did that: see the log of the process, and the versions of the libraries that it calls"),
    (r"ended with exit status", "see the log of the process; code of a model folder must not end it"),
    (r"cannot be started", "the system has no room for another process: see ulimit -u and the memory that is left"),
)


@dataclass(frozen=True)
class Quarantine:
    """A version that is kept from calls, or a whole folder that is.

    Attributes:
        version: the number; None: nothing in the folder can be told from its files.
        step: what failed.
        reason: why.
        remedy: what to do about it.
        since_unix_s: when it failed first with these files.
        is_final: whether it is tried again only when a file changes.
    """

    version: int | None
    step: Step
    reason: str
    remedy: str
    since_unix_s: float
    is_final: bool = True

    @property
    def text(self) -> str:
        """Return reason and remedy, in words for people."""
        return f"{self.reason}; {self.remedy}" if self.remedy and self.remedy not in self.reason else self.reason

    @property
    def next_try(self) -> str:
        """Return when it is tried again."""
        return "when a file changes" if self.is_final else "after a pause, and when a file changes"

    @property
    def line(self) -> str:
        """Return all of it on one line, for the log."""
        what = "the folder" if self.version is None else f"version {self.version}"
        text = "; ".join(self.text.splitlines())
        return f"{what} is quarantined at the step {self.step}: {text}; it is tried again {self.next_try}"

    def status(self) -> dict[str, Any]:
        """Return what /status shows."""
        return {
            "version": self.version,
            "step": self.step,
            "reason": self.reason,
            "remedy": self.remedy,
            "since_unix_s": round(self.since_unix_s, 3),
            "next_try": self.next_try,
        }


def words(problems: Sequence[Problem]) -> tuple[str, str]:
    """Return reason and remedy of problems; of several each reason has its own remedy."""
    if len(problems) == 1:
        return f"{problems[0].place}: {problems[0].message}", problems[0].remedy
    return "\n".join(map(str, problems)), "correct all of it"


def remedy_of(reason: str) -> str:
    """Return what to do about a process that ended without saying so itself."""
    if room.is_meant(reason):
        return room.REMEDY
    return next((remedy for pattern, remedy in _REMEDIES if re.match(pattern, reason)), "see the log of the process")
