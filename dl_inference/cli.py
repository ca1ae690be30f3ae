"""The command `dl-inference`. Each function is one command: it reads its options and hands over."""

import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from access import check as access_check
from access import document
from access.config.load import load
from access.errors import ConfigError, StartError
from access.service import AccessService, signals
from dl_inference import address, messages
from dl_inference._native import Proxy
from dl_inference.commands import check as check_command
from dl_inference.commands import registry, release
from dl_inference.commands import status as statuses
from dl_inference.commands.console import err, log_to_stderr, out
from dl_inference.local import model_server
from dl_inference.registry.announcing import registration
from dl_inference.registry.zookeeper import RegistryError
from dl_inference.serving.folder import PYTORCH_FILES
from dl_inference.serving.options import DEFAULT_LISTEN, ServeOptions

app = typer.Typer(
    help="One gRPC address for every deep-learning model: access service with load balancing, and model servers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(release.app, name="release")
app.add_typer(registry.app, name="registry")

WATCH_S = 1.0

Listen = Annotated[
    list[str] | None,
    typer.Option(metavar="ADDRESS", help="Address to listen on: HOST:PORT, [V6]:PORT or unix:/PATH. Repeatable."),
]
Admin = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Address of the HTTP admin port: /metrics /ready /live /status.")
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Load whole pickled models too. That runs code inside the file: only for files you trust.",
    ),
]
Register = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Registry to announce the models in: zk://HOST1,HOST2/PATH, or zks:// for TLS. "
        "Also DL_INFERENCE_REGISTER; the login is DL_INFERENCE_REGISTRY_USERNAME and _PASSWORD.",
    ),
]
Advertise = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Address to announce; default: the one listened on, or the one that leads to the registry.",
    ),
]
Weight = Annotated[
    int | None, typer.Option(metavar="N", help="Share of the calls among the endpoints of a model; default 1.")
]
Capacity = Annotated[int | None, typer.Option(metavar="N", help="Calls at once to announce that it can take.")]


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def serve(  # noqa: PLR0913  (the options of the command)
    models_dir: Annotated[
        Path, typer.Argument(metavar="MODELS_DIR", help="The folder whose sub-folders are model folders.")
    ],
    *,
    listen: Listen = None,
    admin: Admin = None,
    replicas: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Processes of each version of each model.")
    ] = 1,
    plain: Annotated[
        bool, typer.Option("--plain", help="Log lines instead of the table, as where the output is no terminal.")
    ] = False,
    allow_pickle: AllowPickle = False,
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
    from dl_inference.commands import serve as serve_command  # noqa: PLC0415

    flags: dict[str, Any] = {"listen": listen} if listen else {}
    if admin is not None:
        flags["admin"] = admin or None
    table = out if out.is_terminal and not plain else None
    if table is None:
        log_to_stderr()
    exit_status = serve_command.run(
        (err, table),
        models_dir,
        flags=flags,
        replicas=replicas,
        allow_pickle=allow_pickle,
        registration={"register": register, "advertise": advertise, "weight": weight, "capacity": capacity},
    )
    raise typer.Exit(exit_status)


@app.command()
def access(
    config: Annotated[
        Path, typer.Option(metavar="FILE", help="The configuration, access.yaml; docs/configuration.md lists its keys.")
    ],
    listen: Listen = None,
    admin: Admin = None,
) -> None:
    """Run the access service alone, until SIGTERM.

    Options win over variables (DL_INFERENCE_LISTEN=...), those over the file. The file and the sources that it names
    are taken over when they change; SIGHUP reads them at once. SIGTERM or SIGINT lets calls in flight end; a second one
    does not wait for them.
    """
    log_to_stderr()
    flags: dict[str, Any] = {"listen": listen} if listen else {}
    if admin is not None:
        flags["admin"] = admin or None
    service = AccessService(
        config, lambda: load(config, flags=flags), lambda document: Proxy(document, messages.DESCRIPTORS)
    )
    try:
        with signals(service.post):
            service.run()
    except ConfigError as error:
        check_command.show_problems(err, error.problems, "red")
        raise typer.Exit(1) from error
    except StartError as error:
        err.print(Text(f"cannot start: {error}", style="red"), soft_wrap=True)
        raise typer.Exit(1) from error


@app.command()
def predict(  # noqa: PLR0913  (the options of the command)
    model_dir: Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="The model folder.")],
    *,
    listen: Listen = None,
    admin: Admin = None,
    model_version: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Version to serve; default: the latest of those that model.yaml names."),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the model is called; default: as the folder.")
    ] = None,
    allow_pickle: AllowPickle = False,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A limit of docs/limits.md, or max_queue, max_batch, timeout_ms, stream_idle_timeout_ms. Wins over "
            "DL_INFERENCE_LIMITS__NAME, that over model.yaml. Repeatable.",
        ),
    ] = None,
    register: Register = None,
    advertise: Advertise = None,
    weight: Weight = None,
    capacity: Capacity = None,
) -> None:
    """Serve one model folder alone, until SIGTERM.

    Options win over variables (DL_INFERENCE_LISTEN=..., DL_INFERENCE_ADMIN=...). Without either it listens on
    127.0.0.1:5000.
    """
    try:
        place = registration.read(os.environ, register=register, advertise=advertise, weight=weight, capacity=capacity)
        options = ServeOptions(
            model_dir=model_dir,
            listen=tuple(listen or _listed("DL_INFERENCE_LISTEN") or (DEFAULT_LISTEN,)),
            admin=next(iter(_listed("DL_INFERENCE_ADMIN")), None) if admin is None else admin or None,
            name=model_name,
            version=model_version,
            allow_pickle=allow_pickle,
            limits=_limits(limit or []),
            registration=place,
        )
        exit_status = model_server.run(options)
    except RegistryError as error:
        err.print(Text(f"cannot start: {error}", style="red"), soft_wrap=True)
        raise typer.Exit(1) from error
    except model_server.NotInstalledError as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from error
    raise typer.Exit(exit_status)


@app.command()
def call(  # noqa: PLR0913  (the options of the command)
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name: the route key.")],
    value: Annotated[
        str | None,
        typer.Argument(
            metavar="INPUT",
            help="JSON; or a file: .json, .npy, .npz, an image or any bytes; or - for standard input.",
        ),
    ] = None,
    *,
    to: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address of an access service or a model server.")
    ] = "127.0.0.1:8500",
    protocol: Annotated[
        str, typer.Option(metavar="NAME", help='seldon, tfs or oip. tfs and oip want named inputs: {"x": [[1, 2]]}.')
    ] = "seldon",
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="For meta.tags (seldon). Repeatable.")
    ] = None,
    model_version: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Version of the model (tfs, oip).")
    ] = None,
    signature: Annotated[str | None, typer.Option(metavar="NAME", help="Signature of the model (tfs).")] = None,
    timeout_ms: Annotated[int, typer.Option(min=1, metavar="MS", help="Deadline of the call, ms.")] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Make one prediction and show the answer.

    JSON for seldon: a whole SeldonMessage, or its content: numbers become a tensor, other lists an ndarray, a text
    strData, anything else jsonData; bytes become binData. For tfs and oip: {"x": [[1.0, 2.0]]} (float32; whole numbers
    int64) or {"x": {"dtype": "int32", "values": [1]}}.
    """
    if fault := _target_fault(to):
        err.print(Text(f"--to {to!r}: {fault}", style="red"), soft_wrap=True)
        raise typer.Exit(2)
    # numpy and grpc double the start of every other command
    from dl_inference.commands import call as call_command  # noqa: PLC0415

    exit_status = call_command.run(
        (out, err),
        model,
        value,
        to=to,
        protocol=protocol,
        tags=tag or [],
        version=model_version,
        signature=signature,
        timeout_ms=timeout_ms,
        as_json=as_json,
    )
    raise typer.Exit(exit_status)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="CONFIG|MODEL_DIR", help="access.yaml, or a model folder.")],
    allow_pickle: AllowPickle = False,
) -> None:
    """Name every problem of a configuration or folder.

    Of a configuration without problems it shows the values in force, where each came from, and the routes that they
    lead to. Exit status 1 when there are problems.
    """
    if path.is_dir():
        check_command.model(path, allow_pickle)
        return
    if path.suffix in {Path(name).suffix for name in PYTORCH_FILES}:
        out.print(f"{path}: a model file\n    name its folder: {path.parent}", markup=False, soft_wrap=True)
        raise typer.Exit(1)
    report = access_check.config(path)
    check_command.show(out, report)
    if report.problems:
        raise typer.Exit(1)


@app.command()
def status(
    admin: Annotated[str, typer.Option(metavar="ADDRESS", help="Address of the admin port.")] = "127.0.0.1:8502",
    watch: Annotated[bool, typer.Option("--watch", help="Go on until interrupted, once a second, with rates.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print /status as it is.")] = False,
) -> None:
    """Show what a running access service sees.

    Models, endpoints, effective weights, state, requests, errors and latencies; with --watch rates too.
    """
    if fault := address.fault(admin):
        err.print(Text(f"--admin {admin!r}: {fault}", style="red"), soft_wrap=True)
        raise typer.Exit(2)
    try:
        found = statuses.fetch(admin)
        if as_json:
            print(json.dumps(found))
        elif watch:
            _watch(admin, found)
        else:
            out.print(statuses.render(found))
    except statuses.StatusError as error:
        err.print(Text(str(error), style="red"), soft_wrap=True)
        raise typer.Exit(1) from error


@app.command()
def version() -> None:
    """Print the version."""
    try:
        ours = importlib.metadata.version("dl-inference")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        ours = "(not installed)"
    print(f"dl-inference {ours}, grpcio {importlib.metadata.version('grpcio')}, Python {platform.python_version()}")


def _target_fault(to: str) -> str | None:
    """Say what is wrong with an address to call; gRPC's own dns:///name:port is as good as ours."""
    return None if to.startswith("dns:") else address.fault(to)


def _limits(given: list[str]) -> dict[str, str]:
    """Return what the texts NAME=VALUE say."""
    pairs = [each.partition("=") for each in given]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise typer.BadParameter(f"{name}{equals}{value} is not NAME=VALUE", param_hint="--limit")
    return {name: value for name, _, value in pairs}


def _listed(variable: str) -> list[str]:
    """Return the addresses that a variable names, written as in access.yaml: one, or a list in brackets."""
    text = os.environ.get(variable, "")
    value = document.scalar(text)
    if isinstance(value, list):
        return [str(each) for each in value]
    return [text] if value is not None and text else []


def _watch(admin: str, found: dict[str, Any]) -> None:
    before, at = found, time.monotonic()
    with Live(statuses.render(found), console=out, auto_refresh=False, screen=out.is_terminal) as live:
        try:
            while True:
                time.sleep(WATCH_S)
                found, now = statuses.fetch(admin), time.monotonic()
                live.update(statuses.render(found, before, now - at), refresh=True)
                before, at = found, now
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
