"""`dl-inference check`: name every problem of a configuration or of model folders."""

from pathlib import Path
from typing import Annotated

import typer

from access.check import check as check_access
from dl_inference.commands import access_settings
from dl_inference.commands.check_view import show, show_folder, show_folders
from dl_inference.commands.console import out
from dl_inference.commands.options import AllowPickle
from dl_inference.serving.folder import PYTORCH_FILES


def check(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="access.yaml, a model folder, or the folder of model folders that `serve` takes."
        ),
    ],
    *,
    allow_pickle: AllowPickle = False,
    has_all: Annotated[bool, typer.Option("--all", help="Also print every effective value.")] = False,
) -> None:
    """Report every problem of a configuration or of model folders.

    The verdict comes first, then each problem with its remedy. Without problems, this prints what it found: the routes
    of a configuration; the format, versions, inputs, outputs and hooks of a model. The exit status is 1 if there are
    problems.
    """
    if path.is_dir():
        is_good = _folders(path, allow_pickle=allow_pickle, has_all=has_all)
    elif path.suffix in {Path(name).suffix for name in PYTORCH_FILES}:
        out.print(f"{path}: a model file\n    name its folder: {path.parent}", markup=False, soft_wrap=True)
        is_good = False
    else:
        report = check_access(path, access_settings.read)
        show(out, path, report, has_all=has_all)
        is_good = not report.problems
    if not is_good:
        raise typer.Exit(1)


def _folders(path: Path, *, allow_pickle: bool, has_all: bool) -> bool:
    """Print what there is to say of a model folder, or of all those in a folder; return whether nothing is wrong."""
    # numpy, which the servers' formats need, doubles the start of every other command
    from dl_inference.local import check as folders  # noqa: PLC0415

    if not folders.holds_model_folders(path):
        checked = folders.check(path, allow_pickle=allow_pickle)
        show_folder(out, checked, has_all=has_all)
        return not checked.problems
    every = folders.check_all(path, allow_pickle=allow_pickle)
    others = folders.left_out(path)
    show_folders(out, every, others, has_all=has_all)
    return not others and not any(each.problems for each in every)
