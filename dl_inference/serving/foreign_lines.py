"""What a process and its libraries print past its log, a JSON record an event: `foreign_lines.py < LINES > RECORDS`.

Run as a file, without site packages, beside the process whose standard error it reads. It is a process of its own, so
that last words are not lost with the one that spoke them, and no library waits for a reader that needs Python's lock.
Records that come already are passed on as they are. It ends with its input.
"""

from __future__ import annotations

import json
import os
import re
import select
from collections.abc import Iterator
from datetime import UTC, datetime

LOGGER = "stderr"
"""The name that records of foreign lines have."""

_BLANKS = (b" ", b"\t")
_PAUSE_MS = 50
"""What belongs to an event follows at once."""
_MOST_BYTES = 64 * 1024
_GLOG = re.compile(rb"(?:\[\w+\]:)?([IWEF])\d{4} ")
_LEVELS = {b"I": "info", b"W": "warning", b"E": "error", b"F": "critical"}
_GRAVE = re.compile(rb"cannot |Traceback |Fatal\b|fatal\b|thread '|terminate called|Segmentation fault", re.ASCII)
"""How a last word begins: ours, Python's, Rust's, C++'s."""


def main() -> None:
    """Copy standard input to standard output until its end."""
    for event in _events(0):
        _write(event if _is_record(event) else _record(event))


def _is_record(event: bytes) -> bool:
    if not event.startswith(b'{"time":'):
        return False
    try:
        return {"time", "level", "logger", "message"}.issubset(json.loads(event))
    except ValueError:
        return False


def _record(event: bytes) -> bytes:
    glog = _GLOG.match(event)
    level = _LEVELS[glog[1]] if glog else "error" if _GRAVE.match(event) else "info"
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = {"time": time, "level": level, "logger": LOGGER, "message": event.decode(errors="replace")}
    return json.dumps(record, ensure_ascii=False).encode()


def _events(source: int) -> Iterator[bytes]:
    """Give each line with the lines after it that begin with a blank; what is beyond a limit is another event."""
    event = b""
    for line in _lines(source):
        if line is not None and event and line.startswith(_BLANKS) and len(event) + len(line) < _MOST_BYTES:
            event += b"\n" + line
            continue
        if event:
            yield event
        event = (line or b"").rstrip()
    if event:
        yield event


def _lines(source: int) -> Iterator[bytes | None]:
    """Give each line, and None where nothing follows for a moment."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    rest = b""
    while data := os.read(source, _MOST_BYTES):
        *whole, rest = (rest + data).split(b"\n")
        yield from whole
        if len(rest) >= _MOST_BYTES:
            yield rest
            rest = b""
        if not poll.poll(_PAUSE_MS):
            yield None
    if rest:
        yield rest


def _write(record: bytes) -> None:
    rest = record + b"\n"
    while rest:
        try:
            rest = rest[os.write(1, rest) :]
        except OSError:
            return  # nobody reads, or the disk is full: the process that speaks must not stop for it


if __name__ == "__main__":
    main()
