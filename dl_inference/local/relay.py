"""What a model process prints, in the log of `serve`: a record stays one record, with its traceback."""

from __future__ import annotations

import logging
import os
import re
import select
from collections.abc import Callable, Iterator

LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)", re.DOTALL)
"""As `serving.log` writes it: the level, and what follows."""

_INDENT = "    "
_PAUSE_MS = 50
"""A process writes a record at once: what has not come after so long is another one."""
_MOST_LINES = 500
_MOST_BYTES = 64 * 1024


def relay(output: int, log: logging.Logger, take: Callable[[str], None]) -> None:
    """Log what comes from a descriptor until its end, each record at its own level; close it.

    Args:
        output: the reading end of a pipe.
        log: where to.
        take: called with each line at once.
    """
    with open(output, "rb", buffering=0):
        for record in _records(output, take):
            match = LOG_LINE.fullmatch(record)
            level = logging.getLevelNamesMapping()[match[1]] if match else logging.INFO
            log.log(level, "%s", match[2] if match else record)


def _records(output: int, take: Callable[[str], None]) -> Iterator[str]:
    """Give a line with the indented lines after it as one text."""
    record: list[str] = []
    for line in _lines(output):
        if line is not None:
            take(line)
        continues = line is not None and line.startswith(_INDENT) and len(record) < _MOST_LINES
        if record and not continues:
            yield "\n".join(record)
            record = []
        if line is not None:
            record.append(line.removeprefix(_INDENT) if continues and record else line)
    if record:
        yield "\n".join(record)


def _lines(output: int) -> Iterator[str | None]:
    """Give each line, and None where nothing follows for a moment."""
    poll = select.poll()  # `select` takes no descriptor beyond 1,023
    poll.register(output, select.POLLIN)
    rest = b""
    while data := os.read(output, _MOST_BYTES):
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
        if len(rest) >= _MOST_BYTES:
            yield rest.decode(errors="replace")
            rest = b""
        if not poll.poll(_PAUSE_MS):
            yield None
    if rest:
        yield rest.decode(errors="replace")
