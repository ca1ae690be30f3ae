"""`dl-inference access`: the access service alone."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from access.errors import ConfigError, StartError
from access.plane import signals
from access.service import AccessService
from access.sockets import Inherited
from dl_inference import messages
from dl_inference._native import Proxy
from dl_inference.commands import access_settings
from dl_inference.commands.check_view import show_problems
from dl_inference.commands.console import err
from dl_inference.commands.options import Admin, Listen, LogFormat, LogLevel
from dl_inference.serving import descriptors, log


def access(
    config: Annotated[
        Path, typer.Option(metavar="FILE", help="The configuration, access.yaml; docs/configuration.md lists its keys.")
    ],
    listen: Listen = None,
    admin: Admin = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Run the access service.

    Options override environment variables (DL_INFERENCE_LISTEN=...), and these override the file. Changes of the file
    and of its sources are applied while the service runs; SIGHUP reads them at once. SIGTERM or SIGINT stops the
    service when the calls in flight have ended; a second signal stops it at once. SIGUSR2 (`dl-inference upgrade`)
    starts the command anew, as its files are now; when that is ready it goes on with the listening sockets.
    """
    log.begin()
    descriptors.raise_limit()
    flags: dict[str, Any] = {"listen": listen} if listen else {}
    if admin is not None:
        flags["admin"] = admin or None
    try:
        inherited = Inherited(os.environ)
        service = AccessService(
            config,
            lambda: access_settings.read(config, flags),
            lambda document: Proxy(document, messages.DESCRIPTORS),
            inherited=inherited.descriptors,
        )
        with signals(service.post, is_upgradable=True):
            service.run(lambda addresses: inherited.tell_ready())
    except ConfigError as error:
        show_problems(err, error.problems, "red")
        raise typer.Exit(1) from error
    except StartError as error:
        err.print(Text(f"cannot start: {error}", style="red"), soft_wrap=True)
        raise typer.Exit(1) from error
