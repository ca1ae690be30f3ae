"""The command `dl-inference`: the door that every command is behind. What each does is in commands/."""

import typer

from dl_inference.commands import access, call, check, predict, registry, release, serve, status, version
from dl_inference.serving import ending

app = typer.Typer(
    help="One gRPC address for every deep-learning model: access service with load balancing, and model servers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    serve.serve,
    access.access,
    predict.predict,
    call.call,
    check.check,
    status.status,
    version.version,
):
    app.command()(command)
app.add_typer(release.app, name="release")
app.add_typer(registry.app, name="registry")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except SystemExit as end:
        ending.bound_exit(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


if __name__ == "__main__":
    main()
