"""The audit log: what operators, callers of the admin port and releases change; who, when and from where.

A JSON line for each change, in a file or in the program's log. It names what changed and has no values: these may be
secret.
"""

from __future__ import annotations

import json
import logging
import os
import pwd
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

log = logging.getLogger("audit")

MOST_NAMES = 100
"""What one line names; more is a number."""
_TEXT_CHARACTERS = 256


class Audit:
    """The audit log of one process. Each line opens the file anew, so that it may be renamed at any time.

    Args:
        path: of the file; None: the program's log has the lines.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._fault = ""

    def tell(self, event: str, outcome: str, *, who: str, origin: str, what: Sequence[str]) -> None:
        """Write a line; where that cannot be done, the program's log gets it, and says why once.

        Args:
            event: configuration, release, model, upgrade ...
            outcome: applied, refused ...
            who: an owner, an author, a signal.
            origin: a file, a source with its revision.
            what: names of what changed.
        """
        named = [_bounded(each) for each in what[:MOST_NAMES]]
        if len(what) > MOST_NAMES:
            named.append(f"and {len(what) - MOST_NAMES} more")
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {
            "time": time,
            "event": event,
            "outcome": outcome,
            "who": _bounded(who),
            "from": _bounded(origin),
            "what": named,
            "pid": os.getpid(),
        }
        text = json.dumps(line, ensure_ascii=False)
        if self._path is None:
            log.info("%s", text)
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError as error:
            fault = f"{self._path}: {error.strerror}"
            if fault != self._fault:
                log.error("the audit log cannot be written, its lines follow here: %s", fault)
            self._fault = fault
            log.info("%s", text)
            return
        self._fault = ""


def owner(path: Path) -> str:
    """Return who owns a file: who can have changed it, as far as the system knows."""
    try:
        number = path.stat().st_uid
    except OSError:
        return "unknown"
    return _user(number)


def operator() -> str:
    """Return as whom this process runs: whoever started it, or can signal it."""
    return _user(os.getuid())


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"


def _bounded(text: str) -> str:
    return text if len(text) <= _TEXT_CHARACTERS else text[: _TEXT_CHARACTERS - 1] + "…"
