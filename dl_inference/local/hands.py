"""Requests that processes of a model version died with, as its processes write them down; for the log and /status.

Reads the file that `dataplane/crates/core/src/worker/hand/board.rs` describes. What follows for a request is decided
there, where it is needed within microseconds of a death.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import struct
import time
from array import array
from pathlib import Path
from typing import Any

log = logging.getLogger("serve")

# As board.rs has them: words of 8 bytes, and where the locks of the slots lie.
_MAGIC = int.from_bytes(b"dlhands1", "little")
_HEADER = 4
_HEAD = 4
_CLEARED = 128
_SLOT_LOCKS = 1 << 40
# struct flock of 64-bit Linux.
_FLOCK = struct.Struct("hhqqi4x")


class Hands:
    """The file of one model version. Constructing opens nothing.

    Args:
        path: of the file; its processes make it.
        label: for the log: ``digits@1``.
    """

    def __init__(self, path: Path, label: str) -> None:
        self._path = path
        self._label = label
        self._told: set[tuple[str, bool]] = set()

    @property
    def is_kept(self) -> bool:
        """Whether a process has made the file; none can where the disk is full, or its file system has no locks."""
        try:
            return self._path.stat().st_size > 0
        except OSError:
            return False

    def look(self) -> list[dict[str, Any]]:
        """Return the requests that are suspected or refused now, and log those that are new.

        Each has its ``fingerprint``, whether it ``is_refused``, and ``for_s``, how much longer.
        """
        try:
            found = _read(self._path)
        except (OSError, ValueError):  # not there yet, or just being made
            return []
        now = time.time()
        shown = [
            {"fingerprint": fingerprint, "is_refused": is_refused, "for_s": math.ceil(until - now)}
            for fingerprint, (is_refused, until) in sorted(found.items())
            if until > now
        ]
        self._tell(shown)
        return shown

    def _tell(self, shown: list[dict[str, Any]]) -> None:
        new = [each for each in shown if (each["fingerprint"], each["is_refused"]) not in self._told]
        self._told = {(each["fingerprint"], each["is_refused"]) for each in shown}
        suspects = [each["fingerprint"] for each in new if not each["is_refused"]]
        if suspects:
            log.warning(
                "%s: a process died with %d requests, each of which runs alone until it is answered: %s",
                self._label,
                len(suspects),
                ", ".join(suspects),
            )
        for each in new:
            if each["is_refused"]:
                log.error(
                    "%s: two processes died with request %s, alone in the second: it is refused for %d s (poison_ms)",
                    self._label,
                    each["fingerprint"],
                    each["for_s"],
                )


def _read(path: Path) -> dict[str, tuple[bool, float]]:
    """Return fingerprint -> whether it is refused, and until when, s since 1970."""
    # Without a lock of its own: that would make a dead process look alive.
    with path.open("r+b", buffering=0) as file:
        words = array("Q", file.read())
        if len(words) < _HEADER or words[0] != _MAGIC:
            raise ValueError(path)
        capacity, keep_ns = words[1], words[3]
        size = _HEAD + capacity + 2 * _CLEARED
        slots = [words[at : at + size] for at in range(_HEADER, len(words) - size + 1, size)]
        dead = [slot for number, slot in enumerate(slots) if slot[2] and not _is_locked(file.fileno(), number)]
    cleared: dict[int, int] = {}
    for slot in slots:
        ring = slot[_HEAD + capacity :]
        for call, at in zip(ring[::2], ring[1::2], strict=True):
            cleared[call] = max(cleared.get(call, 0), at)
    found: dict[int, tuple[bool, int]] = {}
    for _, taken_at, count, is_alone, *calls in dead:
        for call in calls[: min(count, capacity)]:
            if is_alone or cleared.get(call, -1) < taken_at:
                found[call] = max(found.get(call, (False, 0)), (bool(is_alone), taken_at))
    return {f"{call:016x}": (is_refused, (at + keep_ns) / 1e9) for call, (is_refused, at) in found.items()}


def _is_locked(descriptor: int, slot: int) -> bool:
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _SLOT_LOCKS + slot, 1, 0)
    kind, *_ = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    return bool(kind != fcntl.F_UNLCK)
