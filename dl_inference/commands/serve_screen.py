"""What `dl-inference serve` shows in a terminal."""

import contextlib
import logging
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from dl_inference.commands.status_view import render
from dl_inference.commands.words import plain
from dl_inference.serving import log

_DEFAULT_PORT = 8500  # that `dl-inference call` goes to by itself
_LOG_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_CALLABLE = {".npy", ".json", ".txt", ".png", ".jpg", ".jpeg"}


class Screen:
    """The state at the bottom of a terminal, log lines above it.

    Args:
        console: the terminal.
        models_dir: what is served; a model's ``samples`` are looked for there.
    """

    def __init__(self, console: Console, models_dir: Path) -> None:
        self._console = console
        self._models_dir = models_dir
        self._live = Live(console=console, auto_refresh=False)
        self._before: Mapping[str, Any] = {}
        self._at = 0.0

    def __enter__(self) -> Self:
        """Take over the terminal's last lines, and the log."""
        handler = _Above(self._console)
        log.begin(handler)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last numbers where they are."""
        with contextlib.suppress(OSError):  # the terminal has been closed
            if self._before:
                ended = {**self._before, "ready": False, "stopped": True, "control": {}, "clusters": []}
                self._live.update(render(ended, screen=self._console), refresh=True)
            self._live.stop()

    def show(self, status: Mapping[str, Any]) -> None:
        """Show what /status says, with the rates since the last time."""
        now = time.monotonic()
        last = [*self._last(status)]
        content = render(status, self._before, now - self._at, screen=self._console, last=last)
        if "models" in status:  # the port is open
            self._before, self._at = status, now
        self._live.update(content, refresh=True)

    def _last(self, status: Mapping[str, Any]) -> Iterator[Text]:
        """Yield a call to try."""
        ready = [each["name"] for each in status["control"]["folders"] if each["state"] == "serving"]
        listen = status["control"].get("listen")
        if not ready or not listen:
            return
        inputs = {name: sample for name in ready if (sample := _sample(self._models_dir / name)) is not None}
        name = next(iter(inputs), ready[0])
        command = f"try: {shlex.join(['dl-inference', 'call', name, str(inputs.get(name, 'INPUT'))])}"
        target = shlex.join(_target(listen[0]))
        if target and len(command) + 1 + len(target) > self._console.width:
            yield Text(f"{command} \\")  # still one command to paste
            yield Text(f"    {target}")
        else:
            yield Text(f"{command} {target}".rstrip())


def _sample(folder: Path) -> Path | None:
    """Return a file of a model folder that `dl-inference call` can send."""
    files = sorted(folder.glob("samples/*"))
    return next((file for file in files if file.suffix in _CALLABLE and file.name != "expected.json"), None)


def _target(address: str) -> list[str]:
    """Return the option that leads a call on this machine to an address that is listened on."""
    host, _, port = address.rpartition(":")
    if host in ("0.0.0.0", "[::]"):
        host = "127.0.0.1"
    return [] if (host, port) == ("127.0.0.1", str(_DEFAULT_PORT)) else ["--to", f"{host}:{port}"]


class _Above(logging.Handler):
    """Prints log lines; a long one goes on in the next line, from the margin."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.setFormatter(log.OneRecord(log.FORMAT, "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        lines = [plain(line) for line in self.format(record).splitlines()]
        with contextlib.suppress(OSError):  # the terminal has been closed
            self._console.print(Text("\n".join(lines), _LOG_STYLES.get(record.levelname, "")), soft_wrap=True)
