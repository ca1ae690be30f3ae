"""`dl-inference check`: name every problem of a configuration or a model folder."""

import os
from pathlib import Path
from typing import Annotated

import typer

from access.check import check as check_access
from dl_inference.commands import access_settings
from dl_inference.commands.check_view import show, show_problems
from dl_inference.commands.console import out
from dl_inference.commands.options import AllowPickle
from dl_inference.serving.folder import PYTORCH_FILES, kind_of
from dl_inference.serving.given import Given


def check(
    path: Annotated[Path, typer.Argument(metavar="CONFIG|MODEL_DIR", help="access.yaml, or a model folder.")],
    allow_pickle: AllowPickle = False,
) -> None:
    """Report every problem of a configuration or a model folder.

    If a configuration has no problems, this prints its effective values, where each comes from, and the routes. The
    exit status is 1 if there are problems.
    """
    if path.is_dir():
        _model(path, allow_pickle)
        return
    if path.suffix in {Path(name).suffix for name in PYTORCH_FILES}:
        out.print(f"{path}: a model file\n    name its folder: {path.parent}", markup=False, soft_wrap=True)
        raise typer.Exit(1)
    report = check_access(path, access_settings.read)
    show(out, report)
    if report.problems:
        raise typer.Exit(1)


def _model(folder: Path, allow_pickle: bool) -> None:
    """Print every problem of a model folder; exit status 1 when there is one."""
    # numpy, which the servers' formats need, doubles the start of every other command
    from tf_predict import repository as saved_models  # noqa: PLC0415
    from torch_predict import repository  # noqa: PLC0415

    given = Given(os.environ)
    if kind_of(folder) == "TensorFlow":
        problems = saved_models.check(folder, given)
    else:
        problems = repository.check(folder, given, allow_pickle=allow_pickle)
    show_problems(out, problems, "red")
    if problems:
        raise typer.Exit(1)
    out.print(f"{folder}: no problem found", markup=False, soft_wrap=True)
