"""The options that several commands have."""

import enum
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from dl_inference.serving import log
from dl_inference.serving.port_tls import PortTls
from dl_inference.variables import variable

Format = enum.StrEnum("Format", log.FORMATS)  # type: ignore[misc]  # its members are that list


def whole(least: int, most: int | None = None) -> Callable[[str | int], int]:
    """Return what reads the text of an option that is a whole number; BadParameter names a text that is none.

    Args:
        least: the smallest.
        most: the greatest; None: there is none.
    """
    span = f"of {least} or more" if most is None else f"from {least} to {most}"

    def parse(text: str | int) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < least or (most is not None and number > most):
            raise typer.BadParameter(f"{text!r} is not a whole number {span}")
        return number

    return parse


def size(text: str | int) -> int:
    """Read the text of an option that is a size in bytes, as model.yaml has them: 4GiB, 500MB."""
    try:
        found = _SIZE.validate_python(text)
    except ValidationError:
        raise typer.BadParameter(f"{text!r} is not a size: write 4GiB, 500MB or a number of bytes") from None
    if found < 1:
        raise typer.BadParameter(f"{text!r} is not a size of 1 byte or more")
    return int(found)


_SIZE = TypeAdapter(ByteSize)

Listen = Annotated[
    list[str] | None,
    typer.Option(metavar="ADDRESS", help="Address to listen on: HOST:PORT, [V6]:PORT or unix:/PATH. Repeatable."),
]
Admin = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Address of the HTTP admin port: /metrics /ready /live /status.")
]
TlsCertificate = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Speak TLS, with this certificate (PEM); followed while it serves."),
]
TlsKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Private key of --tls-certificate.")]
TlsClientCa = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Let callers in only with a certificate of an authority in this file."),
]


def port_tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> PortTls | None:
    """Return the TLS that options ask for; BadParameter where one lacks another."""
    if certificate is not None and key is not None:
        return PortTls(certificate=certificate, key=key, client_ca=client_ca)
    if certificate is None and key is None and client_ca is None:
        return None
    raise typer.BadParameter("give --tls-certificate and --tls-key together", param_hint="--tls-certificate")


TrustedKeys = Annotated[
    Path | None,
    typer.Option(
        "--trusted-keys",
        metavar="FILE",
        envvar=variable("trusted_keys"),
        show_envvar=False,
        help="Load only model folders that are signed by one of these public keys (ssh-keygen's ALLOWED SIGNERS).",
    ),
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Also load whole pickled models. This runs code from the file: use it only for files you trust.",
    ),
]


def _set_level(text: str | None) -> str | None:
    if text is not None:
        try:
            log.parse_levels(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        os.environ[log.VARIABLE] = text  # model processes are told by it, too
    return text


def _set_format(chosen: Format | None) -> Format | None:
    if chosen is not None:
        os.environ[log.FORMAT_VARIABLE] = chosen.value
    return chosen


LogLevel = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL",
        callback=_set_level,
        help=f"Least level of the log: {', '.join(log.LEVELS)}, and of parts: info,registry=debug. "
        f"Default: {log.VARIABLE}, else info.",
    ),
]
LogFormat = Annotated[
    Format | None,
    typer.Option(
        metavar="FORMAT",
        callback=_set_format,
        help=f"Form of the log: {' or '.join(log.FORMATS)}, an object a line. "
        f"Default: {log.FORMAT_VARIABLE}, else text.",
    ),
]
Register = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Registry to announce the models in: zk://HOST1,HOST2/PATH, or zks:// for TLS. "
        "Default: DL_INFERENCE_REGISTER. The login is read from DL_INFERENCE_REGISTRY_USERNAME and _PASSWORD.",
    ),
]
Advertise = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Address to announce; default: the listening address, or this machine's address towards the registry.",
    ),
]
Weight = Annotated[
    int | None,
    typer.Option(parser=whole(1), metavar="N", help="Share of the calls among the endpoints of a model; default 1."),
]
Capacity = Annotated[
    int | None,
    typer.Option(parser=whole(1), metavar="N", help="Number of concurrent calls to announce as the capacity."),
]
