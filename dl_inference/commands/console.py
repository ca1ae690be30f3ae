"""Where the commands print, and what several of them say in the same way."""

import logging
import sys

from rich.console import Console

# Where the output is no terminal, 80 columns would cut addresses.
out = Console(width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True)


def log_to_stderr() -> None:
    """Send the log of this process to standard error, a line an event."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    # It tells of every event in the folder, five times a second where a log grows there.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
