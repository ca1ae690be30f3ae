"""`dl-inference models`: which models a running `serve` has loaded, and load, unload and reload them."""

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from dl_inference import address
from dl_inference.commands.console import err, out
from dl_inference.commands.models_view import progress, table
from dl_inference.commands.options import whole
from dl_inference.commands.status import StatusError, fetch, order

DEFAULT_ADMIN = "127.0.0.1:8502"
ASK_S = 0.2

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Show the models of a `serve`; load and unload them.",
)


def _address(text: str) -> str:
    if fault := address.fault(text):
        raise typer.BadParameter(f"{text!r}: {fault}")
    return text


Admin = Annotated[str, typer.Option(metavar="ADDRESS", parser=_address, help="Address of the admin port of `serve`.")]
Name = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model: of its folder.")]
Limit = Annotated[
    int,
    typer.Option(
        "--timeout", parser=whole(0), metavar="S", help="How long to wait for the end, s; 0: not at all. It goes on."
    ),
]


@app.command("ls")
def list_models(
    admin: Admin = DEFAULT_ADMIN,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models: versions, state, memory, the last call."""
    try:
        control = _control(admin)
    except StatusError as error:
        raise _failed(str(error)) from error
    if as_json:
        keys = ("folders", "memory_budget", "orders")
        print(json.dumps({key: control.get(key) for key in keys}))
    else:
        out.print(table(control))


@app.command()
def load(name: Name, admin: Admin = DEFAULT_ADMIN, timeout: Limit = 600) -> None:
    """Load a model, and wait until it is ready.

    What is quarantined is tried again. One that is loaded is left as it is.
    """
    _order("load", name, admin, timeout)


@app.command()
def unload(name: Name, admin: Admin = DEFAULT_ADMIN, timeout: Limit = 600) -> None:
    """Unload a model until it is loaded by order.

    The calls that are in it are answered, then its processes end.
    """
    _order("unload", name, admin, timeout)


@app.command()
def reload(name: Name, admin: Admin = DEFAULT_ADMIN, timeout: Limit = 600) -> None:
    """Load a model anew; no call fails.

    New processes start beside those that serve, and take over when they are warm.
    """
    _order("reload", name, admin, timeout)


def _order(action: str, name: str, admin: str, timeout_s: int) -> None:
    """Give an order, and wait for what comes of it."""
    begin = time.monotonic()
    try:
        number = order(admin, name, action)
        with err.status(Text(f"{action} {name}")) as status:
            while True:
                control = _control(admin)
                found = next((each for each in control.get("orders", ()) if each["order"] == number), None)
                if found is not None and found["state"] != "under way":
                    break
                seconds = time.monotonic() - begin
                if seconds >= timeout_s:
                    if timeout_s == 0:
                        return
                    remedy = "it goes on: `dl-inference models ls` shows how far it is; --timeout waits longer"
                    raise _failed(f"{action} {name}: {progress(control, name)} after {timeout_s} s; {remedy}")
                status.update(Text(f"{action} {name}: {progress(control, name)}, {seconds:.0f} s"))
                time.sleep(ASK_S)
    except StatusError as error:
        raise _failed(str(error)) from error
    if found["state"] == "failed":
        raise _failed(f"{action} {name}: {found['text']} ({found['code']})")
    out.print(Text(f"{action} {name}: done after {time.monotonic() - begin:.1f} s"), soft_wrap=True)


def _control(admin: str) -> Mapping[str, Any]:
    control: Mapping[str, Any] = fetch(admin).get("control") or {}
    if "orders" not in control:
        raise StatusError(f"{admin} is not the admin port of a `dl-inference serve`: name that with --admin")
    return control


def _failed(text: str) -> typer.Exit:
    err.print(Text(text, style="red"), soft_wrap=True)
    return typer.Exit(1)
