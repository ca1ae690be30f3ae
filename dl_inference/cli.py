"""The command `dl-inference`: the door that every command is behind. What each does is in commands/."""

from typing import Annotated

import typer

from dl_inference.commands import (
    access,
    call,
    callers,
    check,
    console,
    describe,
    make_certificates,
    models,
    new,
    predict,
    registry,
    release,
    serve,
    simulate,
    status,
    upgrade,
    version,
    why,
)
from dl_inference.serving import ending

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        version.version()
        raise typer.Exit


@app.callback()
def options(
    is_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """One gRPC address for every deep-learning model: access service with load balancing, and model servers."""


for command in (
    serve.serve,
    access.access,
    predict.predict,
    call.call,
    describe.describe,
    check.check,
    new.new,
    make_certificates.make_certificates,
    status.status,
    upgrade.upgrade,
    why.why,
    simulate.simulate,
    version.version,
):
    app.command()(command)
app.add_typer(models.app, name="models")
app.add_typer(release.app, name="release")
app.add_typer(registry.app, name="registry")
app.add_typer(callers.app, name="callers")


def main() -> None:
    """Run the command line."""
    try:
        with console.whole_output():
            app()
    except SystemExit as end:
        ending.bound_exit(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


if __name__ == "__main__":
    main()
