"""`dl-inference callers`: who may call the access service; make, replace and revoke their keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from access.callers.editing import Editing, editing, until
from access.callers.load import for_data_plane, load
from access.callers.schema import CallersConfig, Rule
from access.errors import AccessError, ConfigError
from dl_inference._native import NativeError, callers_rule
from dl_inference.commands.callers_view import of_rule, table
from dl_inference.commands.check_view import show_problems
from dl_inference.commands.console import err, out

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Say who may call the access service, and what.",
)

METHODS = ("predict", "metadata", "admin")


def _moment(text: str) -> datetime:
    try:
        return until(text, datetime.now(UTC))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: write a day, 2027-01-31, a time, or how long: 90d, 12h, 30m, 45s"
        ) from None


File = Annotated[
    Path, typer.Option("--file", "-f", metavar="PATH", help="The document: `callers` of access.yaml names it.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the caller.")]
Expires = Annotated[
    datetime | None, typer.Option(parser=_moment, metavar="TIME", help="Until when the key is one: 90d, 2027-01-31.")
]


@app.command()
def add(  # noqa: PLR0913  (each is an option)
    name: Name,
    *,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="A model that it may call; `*` stands for any text. May be repeated."),
    ] = None,
    version: Annotated[
        list[str] | None,
        typer.Option(metavar="VERSION", help="A version or label that it has to ask for. May be repeated."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD", help="predict, metadata or admin. May be repeated. [default: predict, metadata]"
        ),
    ] = None,
    certificate: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name of its client certificate, in place of a key. May be repeated."),
    ] = None,
    priority: Annotated[
        str | None, typer.Option(metavar="PRIORITY", help="high, normal or low: how much it matters at most.")
    ] = None,
    expires: Expires = None,
    file: File = Path("callers.yaml"),
) -> None:
    """Add a caller and print its key, which is shown once.

    With --certificate it gets no key.
    """
    rule: dict[str, Any] = {"models": list(model or ())}
    rule |= {"versions": list(version)} if version else {}
    rule |= {"methods": list(method)} if method else {}
    more: dict[str, Any] = {"priority": priority} if priority else {}
    more |= {"certificates": list(certificate)} if certificate else {}
    if not model and (version or method):
        raise typer.BadParameter("--version and --method say more of --model: name a model, or '*' for all")
    made = None
    with _changing(file, may_be_new=True) as edited:
        edited.add(name, [rule] if model else [], more)
        if not certificate:
            made = edited.add_key(name, expires)
    if not model:
        err.print(f"{name} may call nothing yet: write its `allow` into {file}", markup=False, soft_wrap=True)
    _show(name, made)


@app.command()
def rotate(
    name: Name,
    expires: Expires = None,
    keep: Annotated[
        datetime,
        typer.Option(
            parser=_moment, metavar="TIME", help="Until when the keys that it has stay keys: 7d, 2027-01-31; 0s: now."
        ),
    ] = "7d",  # type: ignore[assignment]  # the parser reads it
    file: File = Path("callers.yaml"),
) -> None:
    """Make a caller another key and print it; those that it has end later."""
    with _changing(file) as edited:
        changed = edited.limit_keys(name, keep)
        made = edited.add_key(name, expires)
    if changed:
        err.print(f"{', '.join(changed)} of {name} expire {keep:%Y-%m-%d %H:%M:%S %Z}", markup=False, soft_wrap=True)
    _show(name, made)


@app.command()
def revoke(
    name: Name,
    key: Annotated[str | None, typer.Option(metavar="ID", help="This key alone; else the caller is removed.")] = None,
    file: File = Path("callers.yaml"),
) -> None:
    """Remove a caller, or one of its keys: it is refused within a second."""
    with _changing(file) as edited:
        edited.revoke(name, key)
    what = name if key is None else f"key {key} of {name}"
    err.print(f"{what} is revoked", markup=False, soft_wrap=True)


@app.command("ls")
def list_callers(
    file: File = Path("callers.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the callers: keys and when they expire, and what each may do."""
    config = _loaded(file)
    if as_json:
        print(config.model_dump_json())
    else:
        out.print(table(config, datetime.now(UTC)))


@app.command()
def check(
    question: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL METHOD]", help="With --as: what it would do.")
    ] = None,
    caller: Annotated[
        str | None, typer.Option("--as", metavar="CALLER", help="Say whether this caller may: a name, or anonymous.")
    ] = None,
    version: Annotated[str | None, typer.Option(metavar="VERSION", help="With --as: the version it asks for.")] = None,
    file: File = Path("callers.yaml"),
) -> None:
    """Report every problem of the document, else show what holds.

    `--as CALLER MODEL METHOD` answers yes or no, with the rule, as the access service itself finds it; no is status 1.
    """
    config = _loaded(file)
    words = question or []
    if caller is None and not words:
        _rule_of(config, next(iter(config.callers), None), "", "predict", None)  # what the data plane alone refuses
        out.print(table(config, datetime.now(UTC)))
        return
    if caller is None or len(words) != 2 or words[1] not in METHODS:
        raise typer.BadParameter(f"ask `--as CALLER MODEL METHOD`, where METHOD is {', '.join(METHODS)}")
    model, method = words
    rule = _rule_of(config, caller, model, method, version)
    if rule is None:
        out.print(f"no: no rule of {caller} allows {method} of {model}", markup=False, soft_wrap=True)
        raise typer.Exit(1)
    number, found = rule
    out.print(f"yes: rule {number} of {caller}: {of_rule(found)}", markup=False, soft_wrap=True)


def _rule_of(
    config: CallersConfig, caller: str | None, model: str, method: str, version: str | None
) -> tuple[int, Rule] | None:
    """Ask the data plane; return the rule and its number, from 1."""
    try:
        index = callers_rule(json.dumps(for_data_plane(config)), caller or "", model, method, version)
    except NativeError as error:
        if caller is None:
            return None
        raise _failed(str(error)) from error
    if index is None or caller is None:
        return None
    found = config.callers.get(caller) or config.anonymous
    return (index + 1, found.allow[index]) if found else None


@contextmanager
def _changing(file: Path, *, may_be_new: bool = False) -> Iterator[Editing]:
    try:
        with editing(file, may_be_new=may_be_new) as edited:
            yield edited
    except ConfigError as error:
        show_problems(err, error.problems, "red")
        raise typer.Exit(1) from error
    except AccessError as error:
        raise _failed(str(error)) from error
    if edited.has_comments:
        err.print(f"{file} is written anew, without its comments", markup=False, soft_wrap=True)


def _loaded(file: Path) -> CallersConfig:
    try:
        return load(file)
    except ConfigError as error:
        show_problems(err, error.problems, "red")
        raise typer.Exit(1) from error


def _show(name: str, made: tuple[str, str] | None) -> None:
    if made is not None:
        key_id, key = made
        err.print(f"key {key_id} of {name}, shown this once:", markup=False, soft_wrap=True)
        print(key)


def _failed(text: str) -> typer.Exit:
    err.print(text, markup=False, soft_wrap=True)
    return typer.Exit(1)
