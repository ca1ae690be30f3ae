"""One model folder as `predict` takes it: once, at the start, under the name and with the version that it was told."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from dl_inference.local.folders import Change
from dl_inference.local.layout import Layout, inspect
from dl_inference.local.look import Look, look
from dl_inference.serving.options import ServeOptions
from torch_predict import repository


class OneFolder:
    """The one layout; what becomes of the folder later is not looked at, as one process alone does not."""

    is_settling = False

    def __init__(self, layout: Layout) -> None:
        self.path = layout.path
        self._changes = [Change(layout.name, layout, "named by the command")]

    def look(self, *, force: bool = False, at: str | None = None) -> list[Change]:
        """Return the layout the first time, then nothing."""
        changes, self._changes = self._changes, []
        return changes


def needs_supervisor(options: ServeOptions) -> bool:
    """Tell whether a folder asks for more than the one process that `predict` itself can be.

    Raises:
        ModelFolderError: it cannot be served.
    """
    settings = repository.find(options.model_dir, options.given(os.environ)).settings
    return (settings.instances or 1) > 1 or settings.python is not None


def layout_of(options: ServeOptions) -> tuple[Layout, repository.ModelFolder]:
    """Return what a PyTorch model folder asks for, and what is in it.

    Raises:
        ModelFolderError: it cannot be served.
    """
    path = Path(os.path.abspath(options.model_dir))  # of "." the name is wanted, too; a link keeps its own
    found = repository.find(path, options.given(os.environ))
    version = found.chosen(options.version)[-1].number
    layout = inspect(path, look(path) or Look((), {}, 0))
    return replace(
        layout,
        name=options.name or layout.name,
        served=(version,),
        default=version,
        labels={label: number for label, number in found.settings.labels.items() if number == version},
        timeout_ms=found.settings.timeout_ms,
        limits=options.limits,
    ), found
