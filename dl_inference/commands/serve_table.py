"""The table that `dl-inference serve` shows in a terminal."""

import logging
import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.logging import RichHandler
from rich.text import Text

from dl_inference.commands.status_view import control_parts, render


class Table:
    """The state as a table at the bottom of a terminal, log lines above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._before: Mapping[str, Any] | None = None
        self._at = 0.0

    def __enter__(self) -> Self:
        """Take over the terminal's last lines, and the log."""
        handler = RichHandler(console=self._console, show_path=False, markup=False, highlighter=None)
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", handlers=[handler], force=True)
        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every event
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last table where it is."""
        self._live.stop()

    def show(self, status: Mapping[str, Any]) -> None:
        """Show what /status says, with the rates since the last time."""
        now = time.monotonic()
        if "models" in status:
            content = render(status, self._before, now - self._at)
            self._before, self._at = status, now
        else:  # the port is not open yet
            content = Group(Text("starting", style="bold yellow"), *control_parts(status["control"]))
        self._live.update(content, refresh=True)
