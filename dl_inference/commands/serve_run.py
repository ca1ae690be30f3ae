"""What `dl-inference serve` does: settings, lock, private folder and table around the service."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from access import listening as access_listening
from access.errors import ConfigError, StartError
from access.plane import signals
from dl_inference import messages
from dl_inference._native import Proxy
from dl_inference.commands import access_settings
from dl_inference.commands.check_view import show_problems
from dl_inference.commands.console import err, out
from dl_inference.commands.serve_screen import Screen
from dl_inference.local import environments, model_server
from dl_inference.local.launch import Launcher
from dl_inference.local.loads import Rules
from dl_inference.local.locked_folders import InUseError, locked, socket_folder
from dl_inference.local.service import LocalService
from dl_inference.registry.announcing.registration import Announcement, read
from dl_inference.registry.zookeeper import RegistryError
from dl_inference.serving import descriptors, listening, trust
from dl_inference.serving.folder import holds_versions, is_model_folder


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        flags: keys of the configuration.
        replicas: processes of each version of each model.
        allow_pickle: passed on to the model processes.
        makes_environments: install the requirements.txt of folders.
        registration: options about the registry (`registry.announcing.registration.read`).
        trusted_keys: passed on to the model processes.
        on_demand: models are loaded by the first call that needs them.
        idle_unload_s: when they are unloaded again.
        memory_budget: what all model processes may take together, bytes.
    """

    flags: Mapping[str, Any]
    replicas: int
    allow_pickle: bool
    registration: Mapping[str, Any]
    makes_environments: bool = False
    trusted_keys: Path | None = None
    on_demand: bool = False
    idle_unload_s: int | None = None
    memory_budget: int | None = None


def run(models_dir: Path, options: Options, *, has_table: bool, program: Sequence[str] = model_server.PROGRAM) -> int:
    """Serve a folder of model folders until SIGTERM.

    Args:
        models_dir: the folder.
        options: of the command line.
        has_table: show the state as a table; else lines are logged.
        program: command line of a model server, up to its options.

    Returns:
        The exit status: 0 after a clean drain, 1 when the start failed or calls were cut off.
    """
    descriptors.raise_limit()
    try:
        loaded = access_settings.read_without_file({"expose_endpoints": True}, options.flags)
        config = loaded.config
        if fault := _fault(models_dir):
            raise StartError(fault)
        if options.trusted_keys is not None:
            trust.check_keys(options.trusted_keys)
        addresses = [access_listening.address(each) for each in config.listen]
        for address in [*addresses, *([access_listening.address(config.admin)] if config.admin else [])]:
            listening.check(address)  # before models load for half a minute
        announcement = Announcement(read(os.environ, **options.registration), "dl-inference serve")
        announcement.check(addresses)
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(models_dir))
            sockets = stack.enter_context(socket_folder())
            if options.makes_environments:
                _remove_unused_environments()
            launcher = Launcher(
                sockets,
                options.replicas,
                program,
                uses_template=program is model_server.PROGRAM,
                allow_pickle=options.allow_pickle,
                makes_environments=options.makes_environments,
                trusted_keys=options.trusted_keys.absolute() if options.trusted_keys is not None else None,
            )
            service = LocalService(
                models_dir,
                config,
                launcher,
                lambda document: Proxy(document, messages.DESCRIPTORS),
                announcement,
                rules=Rules(options.on_demand, options.idle_unload_s, options.memory_budget),
                origin=loaded.origin,
            )
            view = stack.enter_context(Screen(out, models_dir)) if has_table else None
            stack.enter_context(signals(service.post))
            return 0 if service.run(view) else 1
    except ConfigError as error:
        show_problems(err, error.problems, "red")
    except (StartError, InUseError, RegistryError, ValueError, OSError) as error:
        err.print(Text(f"cannot start: {error}", style="red"), soft_wrap=True)
    return 1


def _remove_unused_environments() -> None:
    try:
        for place in environments.remove_unused(environments.cache_folder()):
            err.print(Text(f"removed the environment {place}: nothing was started in it for 30 days"), soft_wrap=True)
    except OSError as error:
        text = f"unused environments cannot be removed: {error}"
        err.print(Text(text, style="yellow"), soft_wrap=True)


def _fault(models_dir: Path) -> str | None:
    """Say why a path is not a folder of model folders."""
    if not models_dir.is_dir():
        return f"{models_dir} is not a folder; name the one that holds the model folders"
    if holds_versions(models_dir) and not is_model_folder(
        models_dir
    ):  # names of models may be numbers: dl_inference's task ids are
        text = (
            f"{models_dir} holds folders named by numbers only: each is served as a model of its own; if they are the "
            f"versions of one model, name the folder around it: {models_dir.resolve().parent}"
        )
        err.print(Text(text, style="yellow"), soft_wrap=True)
    return None
