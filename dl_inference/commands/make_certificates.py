"""`dl-inference make-certificates`: certificates for trying TLS out."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dl_inference import _native
from dl_inference.commands.console import err, out

_HOSTS = ["localhost", "127.0.0.1", "::1"]


def make_certificates(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder that gets the files; made where there is none.")
    ],
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Name or address of the server, beside localhost. Repeatable."),
    ] = None,
) -> None:
    """Make certificates for trying TLS out.

    An authority's, a server's and a client's, each with its key. They hold for a year. The keys can be read by their
    owner only. Files that are there already are not replaced.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = _native.make_certificates(folder, [*_HOSTS, *(name or ())])
    except (OSError, _native.NativeError) as error:
        err.print(Text(str(error), style="red"), soft_wrap=True)
        raise typer.Exit(1) from error
    for each in made:
        out.print(Text(str(folder / each)), soft_wrap=True)
