"""`dl-inference check`: name every problem of a configuration or a model folder."""

from pathlib import Path
from typing import Annotated

import typer

from access import check as access_check
from dl_inference.commands import access_settings
from dl_inference.commands.check_view import show, show_problems
from dl_inference.commands.console import out, say_what_is_missing
from dl_inference.commands.options import AllowPickle

# torch_predict knows them too, but takes its time to import.
MODEL_SUFFIXES = (".pt2", ".pt", ".pth", ".safetensors")


def check(
    path: Annotated[Path, typer.Argument(metavar="CONFIG|MODEL_DIR", help="access.yaml, or a model folder.")],
    allow_pickle: AllowPickle = False,
) -> None:
    """Name every problem of a configuration or folder.

    Of a configuration without problems it shows the values in force, where each came from, and the routes that they
    lead to. Exit status 1 when there are problems.
    """
    if path.is_dir():
        _model(path, allow_pickle)
        return
    if path.suffix in MODEL_SUFFIXES:
        out.print(f"{path}: a model file\n    name its folder: {path.parent}", markup=False, soft_wrap=True)
        raise typer.Exit(1)
    report = access_check.config(path, access_settings.read)
    show(out, report)
    if report.problems:
        raise typer.Exit(1)


def _model(folder: Path, allow_pickle: bool) -> None:
    """Print every problem of a model folder; exit status 1 when there is one."""
    from tf_predict import repository as saved_models  # noqa: PLC0415  (not for the other commands)

    try:
        if saved_models.is_saved_model_folder(folder):
            problems = saved_models.check(folder)
        else:
            from torch_predict import repository  # noqa: PLC0415  (torch is an extra, and takes seconds to import)

            problems = repository.check(folder, allow_pickle=allow_pickle)
    except ModuleNotFoundError as error:
        say_what_is_missing(error)
        raise typer.Exit(1) from error
    show_problems(out, problems, "red")
    if problems:
        raise typer.Exit(1)
    out.print(f"{folder}: no problem found", markup=False, soft_wrap=True)
