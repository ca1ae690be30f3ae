"""The arguments and options of `dl-inference release`: what they are called, and which values they take."""

import re
from collections.abc import Sequence
from typing import Annotated, get_args

import typer

from dl_inference.commands.options import whole
from dl_inference.commands.release_view import COMMANDS
from dl_inference.names import is_name
from dl_inference.registry.schema import MAX_WEIGHT, VERSION
from dl_inference.serving.limits import MAX_MS, Priority

PHASES = ("staging", "canary", "production")
PRIORITIES = get_args(Priority)
INHERIT = "inherit"


def _version(text: str) -> str:
    if not VERSION.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is not a version: a version is a number (commands: {', '.join(COMMANDS)})")
    return text


def _phase(text: str | None) -> str | None:
    if text is not None and text not in PHASES:
        raise typer.BadParameter(f"{text!r} is not a phase: staging, canary or production")
    return text


def _priority(text: str | None) -> str | None:
    if text is not None and text not in {*PRIORITIES, INHERIT}:
        raise typer.BadParameter(f"{text!r} is not a priority: {', '.join(PRIORITIES)}, or {INHERIT}")
    return "" if text == INHERIT else text


def label_name(text: str) -> str:
    """Return a label; BadParameter for what is none."""
    if VERSION.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is a number: that would be a version, and no label")
    if not is_name(text):
        raise typer.BadParameter(
            f"{text!r} is not a label: use letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return text


def labels_of(texts: Sequence[str] | None) -> dict[str, str]:
    """Return label -> version, empty where it is to go; BadParameter for what is no such pair."""
    found: dict[str, str] = {}
    for text in texts or ():
        match = re.fullmatch(r"([^=]+)=([0-9]{0,19})", text)
        if not match:
            raise typer.BadParameter(f"{text!r}: write NAME=VERSION, or NAME= to take the label away")
        found[label_name(match[1])] = match[2]
    return found


Version = Annotated[str, typer.Argument(metavar="VERSION", help="The version's number.", callback=_version)]
PhaseOption = Annotated[
    str | None,
    typer.Option(
        metavar="PHASE",
        callback=_phase,
        help="staging: only calls that ask for it; canary: a share; production: every call, or a share with --weight.",
    ),
]
Weight = Annotated[
    int | None, typer.Option(parser=whole(0, MAX_WEIGHT), metavar="N", help="Share, relative to the others' weights.")
]
TimeoutMs = Annotated[
    int | None,
    typer.Option(parser=whole(0, MAX_MS), metavar="MS", help="Time limit of a call, ms; 0: inherit it."),
]
AttemptTimeoutMs = Annotated[
    int | None,
    typer.Option(
        parser=whole(0, MAX_MS), metavar="MS", help="Time after which another endpoint is tried, ms; 0: inherit it."
    ),
]
PriorityOption = Annotated[
    str | None,
    typer.Option(
        metavar="PRIORITY",
        callback=_priority,
        help="How much the calls matter at most: high, normal or low; inherit: inherit it.",
    ),
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Reason, for the history.")]
Author = Annotated[str | None, typer.Option(metavar="NAME", help="Author, for the history; default: user@host.")]
Force = Annotated[
    bool, typer.Option("--force", help="Make the change although checks refuse it; prints what it overrides.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
