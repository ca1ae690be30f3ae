"""What `dl-inference predict` does for a model of several processes: what `serve` does, for one folder."""

import contextlib
import os
from collections.abc import Sequence

from rich.text import Text

from access.errors import ConfigError, StartError
from access.plane import signals
from dl_inference import messages
from dl_inference._native import Proxy
from dl_inference.commands import access_settings
from dl_inference.commands.check_view import show_problems
from dl_inference.commands.console import err
from dl_inference.local import model_server
from dl_inference.local.launch import Launcher
from dl_inference.local.locked_folders import socket_folder
from dl_inference.local.one_folder import OneFolder, layout_of
from dl_inference.local.service import LocalService
from dl_inference.registry.announcing.registration import Announcement, read
from dl_inference.registry.zookeeper import RegistryError
from dl_inference.serving import descriptors, log
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.port_tls import with_tls
from dl_inference.serving.settings import ModelFolderError


def run(options: ServeOptions, program: Sequence[str] = model_server.PROGRAM) -> int:
    """Serve a model folder by as many processes as it asks for, until SIGTERM.

    Args:
        options: of the command line.
        program: command line of a model server, up to its options.

    Returns:
        The exit status: 0 after a clean drain, 1 when the start failed or calls were cut off.
    """
    log.begin()
    descriptors.raise_limit()
    try:
        options = options.checked()
        layout, found = layout_of(options)
        limits = found.settings.limits.model_dump()  # of the port, too: one that is lower there would refuse calls
        listen = with_tls(options.listen, options.tls, options.tls.document() if options.tls is not None else None)
        loaded = access_settings.read_without_file(
            {"expose_endpoints": True}, {"listen": listen, "admin": options.admin, "limits": limits}
        )
        config = loaded.config
        announcement = Announcement(options.registration or read(os.environ), "torch_predict")
        announcement.check(options.listen)
        with contextlib.ExitStack() as stack:
            launcher = Launcher(
                stack.enter_context(socket_folder()),
                1,
                program,
                uses_template=program is model_server.PROGRAM,
                allow_pickle=options.allow_pickle,
                trusted_keys=options.trusted_keys,
            )
            service = LocalService(
                OneFolder(layout),
                config,
                launcher,
                lambda document: Proxy(document, messages.DESCRIPTORS),
                announcement,
                origin=loaded.origin,
            )
            stack.enter_context(signals(service.post))
            return 0 if service.run() else 1
    except ConfigError as error:
        show_problems(err, error.problems, "red")
    except (ModelFolderError, StartError, RegistryError, ValueError, OSError) as error:
        err.print(Text(f"cannot serve {options.model_dir}:\n{error}", style="red"), soft_wrap=True)
    return 1
