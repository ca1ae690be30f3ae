"""`dl-inference serve`: every model folder behind one port."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dl_inference.commands.console import out
from dl_inference.commands.options import (
    Admin,
    Advertise,
    AllowPickle,
    Capacity,
    Listen,
    LogFormat,
    LogLevel,
    Register,
    TlsCertificate,
    TlsClientCa,
    TlsKey,
    TrustedKeys,
    Weight,
    port_tls,
    size,
    whole,
)
from dl_inference.commands.predict import listed
from dl_inference.serving import log
from dl_inference.serving.port_tls import with_tls
from dl_inference.variables import variable

DEFAULT_LISTEN = "127.0.0.1:8500"


def serve(  # noqa: PLR0913  (the options of the command)
    models_dir: Annotated[
        Path,
        typer.Argument(
            metavar="MODELS_DIR", help="The folder whose sub-folders are model folders; or one model folder."
        ),
    ],
    *,
    listen: Listen = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    admin: Admin = None,
    replicas: Annotated[
        int, typer.Option(parser=whole(1, 64), metavar="N", help="Processes of each version of each model.")
    ] = 1,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Log lines instead of the table; the default if the output is not a terminal."),
    ] = False,
    allow_pickle: AllowPickle = False,
    make_environments: Annotated[
        bool,
        typer.Option(
            "--make-environments",
            help="Install the requirements.txt of each PyTorch model folder into an environment of its own.",
        ),
    ] = False,
    load: Annotated[
        Literal["at_start", "on_demand"],
        typer.Option(help="Load models at the start, or each by the first call that needs it; model.yaml wins."),
    ] = "at_start",
    idle_unload_s: Annotated[
        int | None,
        typer.Option(
            parser=whole(1),
            metavar="S",
            help="Unload a model that is loaded on demand when no call has needed it for this time; model.yaml wins.",
        ),
    ] = None,
    memory_budget: Annotated[
        int | None,
        typer.Option(
            parser=size,
            metavar="SIZE",
            help="Memory that all model processes may take together: 8GiB. Within it, models that are loaded on demand "
            "make room for each other, the least recently called first. Default: what there is.",
        ),
    ] = None,
    trusted_keys: TrustedKeys = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
    register: Register = None,
    advertise: Advertise = None,
    weight: Weight = None,
    capacity: Capacity = None,
) -> None:
    """Serve every model folder behind one port.

    Each sub-folder is a model by what is in it: a TensorFlow SavedModel, or a PyTorch file with or without
    processor.py. Folders may be added, replaced and deleted meanwhile: a replaced model is warm before it takes over.
    It listens on 127.0.0.1:8500, with the admin port on 127.0.0.1:8502. SIGHUP looks at every folder at once; SIGTERM
    or SIGINT lets calls in flight end, a second one does not wait for them.
    """
    # grpc and the rest double the start of other commands
    from dl_inference.commands import serve_run  # noqa: PLC0415

    flags: dict[str, Any] = {"listen": listen} if listen else {}
    if tls := port_tls(tls_certificate, tls_key, tls_client_ca):
        flags["listen"] = with_tls(
            tuple(listen or listed(variable("listen")) or (DEFAULT_LISTEN,)), tls, tls.document()
        )
    if admin is not None:
        flags["admin"] = admin or None
    has_table = out.is_terminal and not plain and not log.is_json()
    if not has_table:
        log.begin()
    registration = {"register": register, "advertise": advertise, "weight": weight, "capacity": capacity}
    options = serve_run.Options(
        flags,
        replicas,
        allow_pickle,
        registration,
        make_environments,
        trusted_keys,
        on_demand=load == "on_demand",
        idle_unload_s=idle_unload_s,
        memory_budget=memory_budget,
    )
    raise typer.Exit(serve_run.run(models_dir, options, has_table=has_table))
