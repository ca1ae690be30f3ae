"""`dl-inference serve`: settings, lock, private folder and table around the service."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.logging import RichHandler
from rich.text import Text

from access.config.load import load_without_file
from access.errors import ConfigError, StartError
from access.service import signals
from dl_inference import messages
from dl_inference._native import Proxy
from dl_inference.commands import status as statuses
from dl_inference.commands.check import show_problems
from dl_inference.local import model_server
from dl_inference.local.launch import Launcher
from dl_inference.local.locked_folders import InUseError, locked, socket_folder
from dl_inference.local.service import LocalService
from dl_inference.registry.announcing.registration import Announcement, read
from dl_inference.registry.zookeeper import RegistryError
from dl_inference.serving import listening
from dl_inference.serving.folder import holds_model


class Table:
    """The state as a table at the bottom of a terminal, log lines above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._before: Mapping[str, Any] | None = None
        self._at = 0.0

    def __enter__(self) -> Table:
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
            content = statuses.render(status, self._before, now - self._at)
            self._before, self._at = status, now
        else:  # the port is not open yet
            content = Group(Text("starting", style="bold yellow"), *statuses.control_parts(status["control"]))
        self._live.update(content, refresh=True)


def run(  # noqa: PLR0913  (the options of the command)
    consoles: tuple[Console, Console | None],
    models_dir: Path,
    *,
    flags: Mapping[str, Any],
    replicas: int,
    allow_pickle: bool = False,
    registration: Mapping[str, Any] | None = None,
    program: Sequence[str] = model_server.PROGRAM,
) -> int:
    """Serve a folder of model folders until SIGTERM.

    Args:
        consoles: for errors; for the table, or None where lines are logged instead.
        models_dir: the folder.
        flags: keys of the configuration given on the command line.
        replicas: processes of each version of each model.
        allow_pickle: passed on to the model processes.
        registration: options about the registry (`registry.announcing.registration.read`).
        program: command line of a model server, up to its options.

    Returns:
        The exit status: 0 after a clean drain, 1 when the start failed or calls were cut off.
    """
    err, out = consoles
    try:
        config = load_without_file({"expose_endpoints": True}, flags=flags)
        if fault := _fault(models_dir):
            raise StartError(fault)
        for address in [*config.listen, *([config.admin] if config.admin else [])]:
            listening.check(address)  # before models load for half a minute
        announcement = Announcement(read(os.environ, **(registration or {})), "dl-inference serve")
        announcement.check(config.listen)
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(models_dir))
            sockets = stack.enter_context(socket_folder())
            is_ours = program is model_server.PROGRAM
            launcher = Launcher(sockets, replicas, program, uses_template=is_ours, allow_pickle=allow_pickle)
            service = LocalService(
                models_dir,
                config,
                launcher,
                lambda document: Proxy(document, messages.DESCRIPTORS),
                announcement=announcement,
            )
            view = stack.enter_context(Table(out)) if out is not None else None
            stack.enter_context(signals(service.post))
            return 0 if service.run(view=view) else 1
    except ConfigError as error:
        show_problems(err, error.problems, "red")
    except (StartError, InUseError, RegistryError, ValueError, OSError) as error:
        err.print(Text(f"cannot start: {error}", style="red"), soft_wrap=True)
    return 1


def _fault(models_dir: Path) -> str | None:
    """Say why a path is no folder of model folders."""
    if not models_dir.is_dir():
        return f"{models_dir} is not a folder; name the one that holds the model folders"
    if holds_model(models_dir):
        return f"{models_dir} is itself a model folder; name the one around it: {models_dir.resolve().parent}"
    return None
