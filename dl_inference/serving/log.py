"""The log of a program: on standard error, a record an event, as the environment says.

DL_INFERENCE_LOG_LEVEL names the least level, and those of parts: `info,registry=debug,torch=error`.
DL_INFERENCE_LOG_FORMAT is `text` or `json`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from dl_inference.serving import log_json
from dl_inference.variables import variable

LEVELS = ("debug", "info", "warning", "error")
"""From everything to errors only; the names that the variable and `--log-level` take."""
FORMATS = ("text", "json")

VARIABLE = variable("log_level")
FORMAT_VARIABLE = variable("log_format")
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_FOREIGN = ("absl", "asyncio", "grpc", "h5py", "kazoo", "tensorflow", "torch", "urllib3", "watchfiles")
"""Libraries that tell of what nobody asked: from warnings on, where their level is not said."""


class OneRecord(logging.Formatter):
    """Indents each line of a record but the first, so that a reader sees where the next record begins."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text; a traceback is a part of it."""
        return super().format(record).replace("\n", "\n    ")


def parse_levels(text: str) -> dict[str, str]:
    """Read the least levels: one, and those of parts, by the first words of the loggers' names.

    Returns: the level of each part; that of all others is under the empty name.

    Raises:
        ValueError: what is no level, with those that are.
    """
    levels: dict[str, str] = {}
    for each in text.lower().split(","):
        part, equals, level = each.strip().rpartition("=")
        if level not in LEVELS or (equals and not part):
            raise ValueError(f"{each.strip()} is no level, or no PART=LEVEL: use one of {', '.join(LEVELS)}")
        levels[part] = level
    return levels


def begin(handler: logging.Handler | None = None, *, is_text: bool = False) -> None:
    """Send the log of this process to standard error, or to a handler, as the environment says.

    What it says wrong is said in the log, and info and text hold. A log that this process has already stays as it is.

    Args:
        handler: where to, in place of standard error.
        is_text: whatever the environment says of the format.
    """
    if logging.getLogger().hasHandlers():
        return
    problems, levels = [], {"": "info"}
    text = os.environ.get(VARIABLE, "")
    try:
        levels |= parse_levels(text) if text else {}
    except ValueError as error:
        problems.append(f"{VARIABLE}={text}: {error}; info holds")
    chosen = os.environ.get(FORMAT_VARIABLE, "").lower() or "text"
    if chosen not in FORMATS:
        problems.append(f"{FORMAT_VARIABLE}={chosen} is no format, text holds: use one of {', '.join(FORMATS)}")
    if handler is None and chosen == "json" and not is_text:
        handler = log_json.begin()
    elif handler is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(OneRecord(FORMAT))
    logging.basicConfig(level=levels.pop("").upper(), handlers=[handler])
    _set_levels(levels)
    for problem in problems:
        logging.getLogger(__name__).warning("%s", problem)


def is_json() -> bool:
    """Tell whether the environment asks for the log as JSON."""
    return os.environ.get(FORMAT_VARIABLE, "").lower() == "json"


def _set_levels(levels: Mapping[str, str]) -> None:
    for part, level in {**dict.fromkeys(_FOREIGN, "warning"), **levels}.items():
        logging.getLogger(part).setLevel(level.upper())
