"""What is wrong with model folders, as `serve` would see them, and what is in those that it could serve.

Looks and reads; starts nothing, runs nothing of a folder and imports neither torch nor tensorflow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from access.config.sections import AccessConfig
from dl_inference.local.folders import model_names
from dl_inference.local.layout import Layout, inspect
from dl_inference.local.look import look
from dl_inference.local.models import Model
from dl_inference.local.routes import routing
from dl_inference.local.staged import Staged
from dl_inference.problem import Problem
from dl_inference.serving.folder import PYTORCH_FILES, holds_model, holds_versions, kind_of
from dl_inference.serving.foreign import is_odd_version
from dl_inference.serving.given import Given
from dl_inference.serving.settings import FILE, CommonSettings, ModelFolderError
from tf_predict import repository as saved_models
from tf_predict import summary as saved_summary
from torch_predict import repository, summary


@dataclass(frozen=True)
class Checked:
    """One model folder that was looked at.

    Attributes:
        folder: as it was named.
        layout: what it asks for; None where `serve` would not serve it.
        problems: all of them; those of a folder with a layout keep it from working as it was meant.
        found: what is in it, for people: ``format``, ``versions``, ``inputs`` ...; empty without a layout.
        settings: of model.yaml, as they would apply; versions and labels are in `found`.
        staged: what its samples showed, by version; empty where they were not run.
    """

    folder: Path
    layout: Layout | None
    problems: tuple[Problem, ...]
    found: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    staged: tuple[Staged, ...] = ()


def holds_model_folders(path: Path) -> bool:
    """Tell whether a folder is one for `serve`, with model folders in it, and is not a model folder itself."""
    if _is_model_folder(path):
        return False
    try:
        return any(_is_model_folder(path / name) for name in model_names(path) if not is_odd_version(name))
    except OSError:  # whoever looks into it next says so
        return False


def check(folder: Path, *, allow_pickle: bool) -> Checked:
    """Look at one model folder.

    Args:
        folder: its name is the model's.
        allow_pickle: whether the server would be started with ``--allow-pickle``.
    """
    seen = look(folder)
    layout: Layout | None = None
    problems: list[Problem] = []
    try:
        # `look` finds no folder that is none: the servers' own check says so
        layout = inspect(folder, seen) if seen is not None else None
    except ModelFolderError as error:
        problems = error.problems
    except Exception as error:  # what `serve` does with whatever a stranger's file makes a parser raise
        problems = [Problem(str(folder), f"cannot be read: {type(error).__name__}: {error}", "correct this file")]
    given = Given(os.environ)
    try:
        if kind_of(folder) == "TensorFlow":
            problems += saved_models.check(folder, given)
        else:
            problems += repository.check(folder, given, allow_pickle=allow_pickle)
        found, settings = _described(layout, given) if layout is not None and not layout.faults else ({}, {})
    except OSError as error:
        problems.append(Problem(str(error.filename or folder), f"cannot be read: {error.strerror}"))
        found, settings = {}, {}
    return Checked(folder, layout, tuple(dict.fromkeys(problems)), found, settings)


def check_all(root: Path, *, allow_pickle: bool) -> list[Checked]:
    """Look at every model folder that `serve` would serve from a folder, by name.

    Raises:
        OSError: the folder cannot be read.
    """
    checked = {name: check(root / name, allow_pickle=allow_pickle) for name in sorted(model_names(root))}
    models = [Model(name, each.layout) for name, each in checked.items() if each.layout is not None]
    for text in routing(AccessConfig(), models).warnings:
        name, _, message = text.partition(": ")
        problem = Problem(str(root / name / FILE), message, "give it another alias")
        checked[name] = replace(checked[name], problems=(*checked[name].problems, problem))
    return list(checked.values())


def left_out(root: Path) -> list[Problem]:
    """Return model files that lie in a folder for `serve` in no folder of their own.

    Raises:
        OSError: the folder cannot be read.
    """
    suffixes = {Path(name).suffix for name in PYTORCH_FILES}
    return [
        Problem(str(file), "is in no model folder, so it is not served", f"move it to {root / file.stem}/model{suffix}")
        for file in sorted(root.iterdir())
        if (suffix := file.suffix) in suffixes and file.is_file()
    ]


def _is_model_folder(path: Path) -> bool:
    own = (FILE, "processor.py", "model.py")
    return holds_model(path) or holds_versions(path) or any((path / name).is_file() for name in own)


def _described(layout: Layout, given: Given) -> tuple[dict[str, str], dict[str, object]]:
    if layout.kind == "TensorFlow":
        saved = saved_models.find(layout.path, given)
        return saved_summary.of(saved), _values(saved.settings)
    found = repository.find(layout.path, given)
    return summary.of(found), _values(found.settings)


def _values(settings: CommonSettings) -> dict[str, object]:
    values = settings.model_dump(exclude={"versions", "labels"})  # the summary has them
    limits: dict[str, object] = values.pop("limits")
    return values | {f"limits.{name}": value for name, value in limits.items()}
