"""`dl-inference new`: make a model folder for a model file, to start from."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dl_inference.commands.check_view import show_problems
from dl_inference.commands.console import err, out


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make; its name is the model's.")],
    *,
    source: Annotated[
        Path, typer.Option("--from", metavar="FILE", help="The model: model.pt2 of torch.export, or TorchScript.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="NAME=DTYPE[SIZES]", help="An input that the model does not tell: x=float32[-1,4]."
        ),
    ] = None,
    timeout_ms: Annotated[int, typer.Option(min=1, metavar="MS", help="Most time with the model, ms.")] = 600_000,
) -> None:
    """Make a model folder for a model file.

    It has a processor.py with typed hooks, a model.yaml and samples: generated inputs and what the model, run in a
    process of its own, answers.
    """
    # numpy and grpc double the start of every other command
    from dl_inference.local.drafting import DraftError, draft  # noqa: PLC0415

    folder = Path(folder.absolute())
    err.print(f"loading {source}", markup=False, soft_wrap=True)  # which may take minutes
    try:
        made = draft(folder, source, inputs or [], timeout_s=timeout_ms / 1000)
    except DraftError as error:
        show_problems(err, error.problems, "red")
        raise typer.Exit(1) from None
    except OSError as error:
        err.print(Text(f"{error.filename or folder}: {error.strerror}", style="red"), soft_wrap=True)
        raise typer.Exit(1) from None
    rows = {
        "inputs": made.inputs or "not known",
        "outputs": made.outputs or "not known",
        "files": ", ".join(made.files),
    }
    if made.why:
        rows["no samples"] = made.why
    rows["next"] = f"dl-inference check {folder} --stages"
    out.print(Text.assemble((str(folder), "bold"), ": made"), soft_wrap=True)
    for name, text in rows.items():
        out.print(Text(f"    {name:{max(map(len, rows))}}  {text}"), soft_wrap=True)
