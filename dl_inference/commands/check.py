"""`dl-inference check`: report every problem of a configuration or of model folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from access.check import check as check_access
from dl_inference.commands import access_settings
from dl_inference.commands.check_view import show, show_folder, show_folders
from dl_inference.commands.console import err, out
from dl_inference.commands.options import AllowPickle
from dl_inference.problem import Problem
from dl_inference.serving.folder import PYTORCH_FILES

if TYPE_CHECKING:
    from dl_inference.local.check import Checked
    from dl_inference.local.staged import Staged


def check(  # noqa: PLR0913  (each is an option)
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="access.yaml, a model folder, or the folder of model folders that `serve` takes."
        ),
    ],
    *,
    allow_pickle: AllowPickle = False,
    has_all: Annotated[bool, typer.Option("--all", help="Also print every effective value.")] = False,
    loads: Annotated[
        bool,
        typer.Option("--load", help="Also load each model, in a process of its own, and send its samples through it."),
    ] = False,
    is_staged: Annotated[
        bool,
        typer.Option(
            "--stages",
            help="As --load; also run the samples stage by stage, and compare with what the server answers.",
        ),
    ] = False,
    tolerance: Annotated[
        float, typer.Option(min=0, help="With --stages: by how much numbers of two answers may differ, relatively.")
    ] = 1e-5,
    timeout_ms: Annotated[
        int,
        typer.Option(min=1, metavar="MS", help="With --load and --stages: most time for each step with a model, ms."),
    ] = 600_000,
) -> None:
    """Report every problem of a configuration or model folders.

    The verdict comes first, then each problem with its remedy. Without problems, this prints what it found: the routes
    of a configuration; the format, versions, inputs, outputs and hooks of a model. The exit status is 1 if there are
    problems.
    """
    if path.is_dir():
        every, others = _folders(path, allow_pickle=allow_pickle)
        if loads or is_staged:
            within = tolerance if is_staged else None
            every = _loaded(every, allow_pickle=allow_pickle, timeout_s=timeout_ms / 1000, tolerance=within)
        if len(every) == 1 and not others and every[0].folder == path:
            show_folder(out, every[0], has_all=has_all)
        else:
            show_folders(out, every, others, has_all=has_all, has_found=loads or is_staged)
        is_good = not others and not any(each.problems for each in every)
    elif path.suffix in {Path(name).suffix for name in PYTORCH_FILES}:
        out.print(f"{path}: a model file\n    name its folder: {path.parent}", markup=False, soft_wrap=True)
        is_good = False
    else:
        report = check_access(path, access_settings.read)
        show(out, path, report, has_all=has_all)
        is_good = not report.problems
    if not is_good:
        raise typer.Exit(1)


def _folders(path: Path, *, allow_pickle: bool) -> tuple[list[Checked], list[Problem]]:
    """Look at a model folder, or at all those in a folder; return what was found, and what else is wrong there."""
    # numpy, which the servers' formats need, doubles the start of every other command
    from dl_inference.local import check as folders  # noqa: PLC0415

    if not folders.holds_model_folders(path):
        return [folders.check(path, allow_pickle=allow_pickle)], []
    return folders.check_all(path, allow_pickle=allow_pickle), folders.left_out(path)


def _loaded(every: list[Checked], *, allow_pickle: bool, timeout_s: float, tolerance: float | None) -> list[Checked]:
    """Load what could be served, with a tolerance stage by stage; return also what only that tells."""
    from dl_inference.local.loading import load  # noqa: PLC0415  (grpc: as above)
    from dl_inference.local.staging import stage  # noqa: PLC0415

    done = []
    for each in every:
        if each.layout is None:
            done.append(each)
            continue
        err.print(f"loading {each.folder}", markup=False, soft_wrap=True)  # which may take minutes
        staged: tuple[Staged, ...] = ()
        if tolerance is not None and each.layout.kind == "PyTorch":
            (found, problems), staged = stage(
                each.layout, allow_pickle=allow_pickle, timeout_s=timeout_s, tolerance=tolerance
            )
        else:
            found, problems = load(each.layout, allow_pickle=allow_pickle, timeout_s=timeout_s)
        together = tuple(dict.fromkeys([*each.problems, *problems]))
        done.append(replace(each, found={**each.found, **found}, problems=together, staged=staged))
    return done
