"""What the commands `release` and `registry` share: where the registry is, its time limit, how errors are said."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dl_inference.commands.console import err
from dl_inference.commands.options import whole
from dl_inference.names import NAME_RULE, is_name
from dl_inference.registry.connection import Connection
from dl_inference.registry.releases.files import ReleaseFiles
from dl_inference.registry.releases.nodes import ReleaseNodes
from dl_inference.registry.releases.store import ReleaseStore
from dl_inference.registry.variables import REGISTRY
from dl_inference.registry.zookeeper import RegistryError, parse_url
from dl_inference.serving.limits import MAX_MS

Timeout = Annotated[
    int,
    typer.Option(
        "--registry-timeout-ms",
        parser=whole(1, MAX_MS),
        metavar="MS",
        help="Longest wait for an answer of the registry, ms.",
    ),
]
DEFAULT_TIMEOUT_MS = 10_000
Registry = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        envvar=REGISTRY,
        help="zk://host1:2181,host2:2181/chroot, or zks:// for TLS. The login is read from"
        " DL_INFERENCE_REGISTRY_USERNAME, _PASSWORD, _SASL, _CA_FILE, _CERTIFICATE_FILE and _KEY_FILE.",
    ),
]


def _model_name(text: str) -> str:
    if not is_name(text):
        raise typer.BadParameter(f"{text!r} is not a model's name: {NAME_RULE}")
    return text


Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.", callback=_model_name)]


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Say what a registry cannot do, and end with status 1."""
    try:
        yield
    except RegistryError as error:
        for line in str(error).splitlines():
            err.print(Text(line, style="red"), soft_wrap=True)
        raise typer.Exit(1) from error


@contextlib.contextmanager
def connect(registry: str | None, timeout_ms: int) -> Iterator[Connection]:
    """Connect to the registry at a URL."""
    with Connection(parse_url(given(registry), os.environ), timeout_ms) as connection:
        yield connection


@contextlib.contextmanager
def open_releases(registry: str | None, timeout_ms: int) -> Iterator[ReleaseStore]:
    """Open the release documents of a registry, or of a folder."""
    place = given(registry)
    if "://" not in place:
        yield ReleaseFiles(Path(place), timeout_ms)
        return
    with connect(place, timeout_ms) as connection:
        yield ReleaseNodes(connection)


def given(registry: str | None) -> str:
    """Return the place that was named."""
    if not registry:
        raise typer.BadParameter(
            f"say where it is: --registry zk://host1:2181,host2:2181/chroot, or {REGISTRY}", param_hint="--registry"
        )
    return registry
