"""The log of a program: on standard error, a record an event, at the level that DL_INFERENCE_LOG_LEVEL names."""

from __future__ import annotations

import logging
import os
import sys

from dl_inference.variables import variable

LEVELS = ("debug", "info", "warning", "error")
"""From everything to errors only; the names that the variable and `--log-level` take."""

VARIABLE = variable("log_level")
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class OneRecord(logging.Formatter):
    """Indents each line of a record but the first, so that a reader sees where the next record begins."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text; a traceback is a part of it."""
        return super().format(record).replace("\n", "\n    ")


def begin(handler: logging.Handler | None = None) -> None:
    """Send the log of this process to standard error, or to a handler, from the environment's level on.

    A level that is none is said in the log, and info holds. A log that this process has already stays as it is.
    """
    if handler is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(OneRecord(FORMAT))
    level = os.environ.get(VARIABLE, "").lower() or "info"
    is_known = level in LEVELS
    logging.basicConfig(level=level.upper() if is_known else logging.INFO, handlers=[handler])
    # It tells of every event in the folder, five times a second where a log grows there.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    if not is_known:
        logging.getLogger(__name__).warning(
            "%s=%s is no level, info holds: use one of %s", VARIABLE, level, ", ".join(LEVELS)
        )
