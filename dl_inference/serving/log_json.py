"""The log as JSON: one object a line, an event each, with what libraries print to standard error among them."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType

from dl_inference.serving import foreign_lines

_LAST_WORDS_S = 1.0
_NOT_FOR_IT = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""A manager of services tells each process of a service to stop; the last words follow."""


class JsonFormatter(logging.Formatter):
    """Makes a record one line: ``time``, ``level``, ``logger``, ``message``, and ``exception`` with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {
            "time": time,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class JsonHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes the log to standard error, and lets a process beside this one make records of what else comes there.

    Constructing starts that process. It is spared when children are killed, and ends with this one.

    Attributes:
        helper: the other process.
    """

    def __init__(self) -> None:
        destination = os.dup(2)
        reading, writing = os.pipe()
        self.helper = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", foreign_lines.__file__],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0), (os.POSIX_SPAWN_DUP2, destination, 1)],
            setsid=True,  # Ctrl-C in the terminal is for this process
            setsigmask=_NOT_FOR_IT,
        )
        os.close(reading)
        os.dup2(writing, 2)
        os.close(writing)
        super().__init__(os.fdopen(destination, "w", encoding="utf-8", errors="backslashreplace"))
        self.setFormatter(JsonFormatter())

    def close(self) -> None:
        """Give standard error back, and let the other process finish."""
        with suppress(OSError, ValueError):
            self.stream.flush()
            os.dup2(self.stream.fileno(), 2)
            ended = os.pidfd_open(self.helper)
            select.select([ended], [], [], _LAST_WORDS_S)
            os.close(ended)
        super().close()


def begin() -> JsonHandler:
    """Make records of warnings and of what ends this process or a thread of it, too; return the handler."""
    handler = JsonHandler()
    logging.captureWarnings(True)
    sys.excepthook = _died
    threading.excepthook = lambda died: _died(died.exc_type, died.exc_value or died.exc_type(), died.exc_traceback)
    return handler


def helpers() -> set[int]:
    """Return the processes that write this one's log."""
    return {each.helper for each in logging.getLogger().handlers if isinstance(each, JsonHandler)}


def destination() -> int:
    """Return the descriptor that the log of this process goes to."""
    found = [each.stream.fileno() for each in logging.getLogger().handlers if isinstance(each, JsonHandler)]
    return found[0] if found else 2


def _died(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    said = f"{kind.__name__}: {error}"
    logging.getLogger(__name__).critical("%s", said, exc_info=(kind, error, traceback))
