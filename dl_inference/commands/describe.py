"""`dl-inference describe`: what a model takes and gives, and how to call it."""

from typing import Annotated

import typer
from rich.text import Text

from dl_inference.commands.call import KeyFile, key_in, target_fault
from dl_inference.commands.console import err


def describe(  # noqa: PLR0913  (the options of the command)
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    *,
    to: Annotated[
        str,
        typer.Option("--to", "--address", metavar="ADDRESS", help="Address of an access service or a model server."),
    ] = "127.0.0.1:8500",
    admin: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Admin port of the access service: it knows the labels, too."),
    ] = None,
    model_version: Annotated[int | None, typer.Option(metavar="NUMBER", help="Version of the model.")] = None,
    signature: Annotated[str, typer.Option(metavar="NAME", help="Signature of the model (tfs).")] = "",
    timeout_ms: Annotated[int, typer.Option(min=1, metavar="MS", help="Deadline of each call, ms.")] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    api_key_file: KeyFile = None,
) -> None:
    """Show what a model takes and gives, and how to call it.

    It asks the questions that the protocols have for this, so it works with our servers, TensorFlow Serving, Triton,
    MLServer and seldon-core, and through an access service.
    """
    for option, value in (("--to", to), ("--admin", admin)):
        if value is not None and (fault := target_fault(value)):
            err.print(Text(f"{option} {value!r}: {fault}", style="red"), soft_wrap=True)
            raise typer.Exit(2)
    # numpy and grpc double the start of every other command
    from dl_inference.commands import describe_show  # noqa: PLC0415

    asked = describe_show.Asked(model, to, admin, model_version, signature, timeout_ms, key_in(api_key_file))
    raise typer.Exit(describe_show.run(asked, as_json=as_json))
