"""`dl-inference predict`: one model folder alone."""

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from access import document
from dl_inference.commands.console import err
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
    whole,
)
from dl_inference.local import model_server
from dl_inference.registry.announcing import registration
from dl_inference.registry.zookeeper import RegistryError
from dl_inference.serving import trust
from dl_inference.serving.folder import kind_of
from dl_inference.serving.options import DEFAULT_LISTEN, ServeOptions
from dl_inference.serving.settings import ModelFolderError
from dl_inference.variables import variable


def predict(  # noqa: PLR0913  (the options of the command)
    model_dir: Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="The model folder.")],
    *,
    listen: Listen = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    admin: Admin = None,
    model_version: Annotated[
        int | None,
        typer.Option(
            parser=whole(0),
            metavar="NUMBER",
            help="Version to serve; default: the latest one, or the latest one that model.yaml lists.",
        ),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model; default: the folder's name.")
    ] = None,
    allow_pickle: AllowPickle = False,
    trusted_keys: TrustedKeys = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
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
    """Serve one model folder.

    Options override environment variables (DL_INFERENCE_LISTEN=..., DL_INFERENCE_ADMIN=...). The default address is
    127.0.0.1:5000. SIGTERM stops the server when the calls in flight have ended.
    """
    try:
        place = registration.read(os.environ, register=register, advertise=advertise, weight=weight, capacity=capacity)
        options = ServeOptions(
            model_dir=model_dir,
            listen=tuple(listen or listed(variable("listen")) or (DEFAULT_LISTEN,)),
            tls=port_tls(tls_certificate, tls_key, tls_client_ca),
            admin=next(iter(listed(variable("admin"))), None) if admin is None else admin or None,
            name=model_name,
            version=model_version,
            allow_pickle=allow_pickle,
            trusted_keys=_checked(trusted_keys),
            limits=_limits(limit or []),
            registration=place,
        )
        exit_status = _run(options)
    except RegistryError as error:
        err.print(Text(f"cannot start: {error}", style="red"), soft_wrap=True)
        raise typer.Exit(1) from error
    except model_server.NotInstalledError as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from error
    raise typer.Exit(exit_status)


def _run(options: ServeOptions) -> int:
    """Serve in this process, or by several where the folder asks for them; return the exit status."""
    # What is wrong with the folder, or missing, the server says itself.
    with contextlib.suppress(ModelFolderError, ModuleNotFoundError):
        if kind_of(options.model_dir) == "PyTorch":
            from dl_inference.local import one_folder  # noqa: PLC0415  (numpy: not for the other commands)

            if one_folder.needs_supervisor(options):
                from dl_inference.commands import predict_run  # noqa: PLC0415  (grpc and the rest, too)

                return predict_run.run(options)
    return model_server.run(options)


def _checked(keys: Path | None) -> Path | None:
    """Return where the trusted keys are, from wherever the model's code goes."""
    if keys is None:
        return None
    try:
        trust.check_keys(keys)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--trusted-keys") from error
    return keys.absolute()


def listed(name: str) -> list[str]:
    """Return the addresses that a variable names, written as in access.yaml: one, or a list in brackets."""
    text = os.environ.get(name, "")
    value = document.scalar(text)
    if isinstance(value, list):
        return [str(each) for each in value]
    return [text] if value is not None and text else []


def _limits(given: list[str]) -> dict[str, str]:
    """Return what the texts NAME=VALUE say."""
    pairs = [each.partition("=") for each in given]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise typer.BadParameter(f"{name}{equals}{value} is not NAME=VALUE", param_hint="--limit")
    return {name: value for name, _, value in pairs}
