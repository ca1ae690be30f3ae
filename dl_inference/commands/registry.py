"""`dl-inference registry`: list foreign endpoints in ZooKeeper, and look into it. It reads options and hands over."""

import contextlib
import difflib
import json
import os
from pathlib import Path
from typing import Annotated, get_args

import typer
from pydantic import ValidationError
from rich.text import Text

from dl_inference.commands import registry_view as view
from dl_inference.commands import registry_watch
from dl_inference.commands.console import err, out
from dl_inference.commands.registry_options import (
    DEFAULT_TIMEOUT_MS,
    Model,
    Registry,
    Timeout,
    connect,
    given,
    reported,
)
from dl_inference.commands.words import plain
from dl_inference.registry.connection import Connection
from dl_inference.registry.inventory import IMPORTER, carry_out, listed, models, plan, remove
from dl_inference.registry.releases.change import RefusedError
from dl_inference.registry.schema import VERSION, EndpointDocument, Protocol
from dl_inference.registry.zookeeper import RegistryError, parse_url

PROTOCOLS = get_args(Protocol)

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Show the registry, and add or remove endpoints.",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _protocol(text: str) -> str:
    if text not in PROTOCOLS:
        raise typer.BadParameter(f"{text!r} is not a protocol: one of {', '.join(PROTOCOLS)}")
    return text


def _version(text: str | None) -> str | None:
    if text is not None and not VERSION.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is not a version: a version is a number")
    return text


@app.command("import")
def import_nodefile(  # noqa: PLR0913  (the options of the command)
    nodefile: Annotated[
        Path, typer.Argument(metavar="NODEFILE", help="dl_inference's nodefile.txt: lines key=timeout_ms,host:port,...")
    ],
    *,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME", callback=_protocol, help=f"Protocol of the endpoints: one of {', '.join(PROTOCOLS)}."
        ),
    ] = "tfs",
    model_version: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            callback=_version,
            help="Version that the endpoints serve; releases need it.",
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what an earlier import added and the file no longer lists.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Skip lines that are not valid, and replace entries that cannot be read.")
    ] = False,
    registry: Registry = None,
    registry_timeout_ms: Timeout = DEFAULT_TIMEOUT_MS,
) -> None:
    """Add the endpoints of a nodefile.

    It is for servers that do not announce themselves. The endpoints stay until `registry rm`, or an import with
    --prune, removes them. A repeated import writes only what changed. Entries of running servers are never changed.
    """
    with reported():
        wanted, skipped, timeouts = _wanted(nodefile, protocol, model_version)
        for line in skipped:
            err.print(Text(plain(line), style="yellow" if force else "red"), soft_wrap=True)
        if skipped and not force:
            raise RegistryError(f"nothing is imported: correct {nodefile}, or skip what cannot be used with --force")
        if skipped and prune:
            raise RegistryError("--prune needs a file without mistakes: skipped lines would be removed")
        with connect(registry, registry_timeout_ms) as connection:
            steps = list(plan(wanted, listed(connection, models(connection)), prune=prune, force=force))
            if not dry_run:
                carry_out(connection, steps)
    for told in view.steps(steps, dry_run=dry_run):
        out.print(told, soft_wrap=True)
    if timeouts:
        some = ", ".join(timeouts[:5]) + (", ..." if len(timeouts) > 5 else "")
        note = f"note: timeouts are not listed ({some}): set timeout_ms in access.yaml, or by dl-inference release set"
        out.print(note, markup=False, highlight=False, soft_wrap=True)
    if any(step.is_refused for step in steps):
        raise typer.Exit(1)


@app.command("ls")
def list_endpoints(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Name of the model; default: all.")] = None,
    *,
    as_json: Json = False,
    registry: Registry = None,
    registry_timeout_ms: Timeout = DEFAULT_TIMEOUT_MS,
) -> None:
    """List the endpoints in the registry."""
    with reported(), connect(registry, registry_timeout_ms) as connection:
        found = listed(connection, models(connection) if model is None else [_existing(connection, model)])
    if as_json:
        print(json.dumps([view.as_json(each) for each in found]))
    else:
        out.print(view.endpoints(found))


@app.command()
def watch(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Name of the model; default: all.")] = None,
    *,
    as_json: Json = False,
    registry: Registry = None,
    registry_timeout_ms: Timeout = DEFAULT_TIMEOUT_MS,
) -> None:
    """Print a line for every change, until interrupted."""
    with reported(), contextlib.suppress(KeyboardInterrupt):
        place = parse_url(given(registry), os.environ)
        with contextlib.closing(registry_watch.following(place, model, registry_timeout_ms)) as lines:
            for line in lines:
                if as_json:
                    print(json.dumps(line.json), flush=True)
                else:
                    out.print(line.text, soft_wrap=True)


@app.command("rm")
def remove_model(
    model: Model,
    address: Annotated[
        str | None, typer.Argument(metavar="ADDRESS", help="One endpoint; default: all of the model.")
    ] = None,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also remove what running servers announce; they may announce it again.")
    ] = False,
    registry: Registry = None,
    registry_timeout_ms: Timeout = DEFAULT_TIMEOUT_MS,
) -> None:
    """Remove an imported endpoint, or a model.

    A model is removed with its releases and history, and only if no server announces it.
    """
    with reported(), connect(registry, registry_timeout_ms) as connection:
        _existing(connection, model)
        for path in remove(connection, model, address, force=force):
            out.print(f"removed {plain(path)}", markup=False, highlight=False, soft_wrap=True)


def _wanted(nodefile: Path, protocol: str, version: str | None) -> tuple[list[EndpointDocument], list[str], list[str]]:
    """Return the endpoints of a nodefile, what of it cannot be used, and its timeouts.

    Raises:
        RegistryError: the file cannot be read, or has no usable line.
    """
    from access.discovery.nodefile import NodefileResolver  # noqa: PLC0415  (not for the other commands)
    from access.errors import DiscoveryError  # noqa: PLC0415

    try:
        snapshot = NodefileResolver(nodefile).read()
    except DiscoveryError as error:
        raise RegistryError(str(error)) from error
    found: list[EndpointDocument] = []
    skipped = [str(each) for each in snapshot.warnings]
    for model, entry in snapshot.entries.items():
        for endpoint in entry.endpoints:
            values = {"address": endpoint.address, "weight": endpoint.weight, "model": model, "version": version}
            try:
                found.append(EndpointDocument.model_validate({**values, "protocol": protocol, "program": IMPORTER}))
            except ValidationError as error:
                reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
                skipped.append(f"{nodefile}: {model}: {endpoint.address}: {reason}")
    timeouts = [f"{model}: {entry.timeout_ms} ms" for model, entry in snapshot.entries.items() if entry.timeout_ms]
    return found, skipped, timeouts


def _existing(connection: Connection, model: str) -> str:
    there = models(connection)
    if model in there:
        return model
    near = difflib.get_close_matches(model, there, 3)
    hint = f"; there is {', '.join(plain(each) for each in near)}" if near else ""
    raise RefusedError(f"{connection.place.url} has no model {model}{hint}")
