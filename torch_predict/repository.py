"""Model folders: find what one holds, say everything that is wrong with it, load one version.

Finding and checking need no torch and run no code of the folder; only `load` does.

    <name>/model.yaml                     settings, optional
    <name>/<integer version>/model.pt2    or, unversioned (= version 1), <name>/model.pt2
    <name>/<integer version>/processor.py hooks, optional; beside the model file
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.problem import Problem
from torch_predict.config import ModelSettings, read_model_settings
from torch_predict.errors import LoadError, ModelFolderError, PickleNotAllowed
from torch_predict.runtimes import RUNTIMES, Runtime

if TYPE_CHECKING:
    import torch

SUFFIXES = tuple(dict.fromkeys(suffix for runtime in RUNTIMES for suffix in runtime.suffixes))


@dataclass(frozen=True)
class Version:
    """One version of a model: a folder with one model file."""

    number: int
    path: Path
    file: Path
    runtime: Runtime


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that can be served."""

    name: str
    path: Path
    settings: ModelSettings
    versions: tuple[Version, ...]
    """Every version there is, the latest last."""

    @property
    def served(self) -> tuple[Version, ...]:
        """Return the versions to serve: those that model.yaml names, else the latest."""
        wanted = self.settings.versions
        return self.versions[-1:] if wanted is None else tuple(v for v in self.versions if v.number in wanted)


def find(path: Path) -> ModelFolder:
    """Return what a model folder holds.

    Raises:
        ModelFolderError: with every problem that keeps it from being served.
    """
    folder, problems = _inspect(path.resolve())
    if folder is None or problems:
        raise ModelFolderError(problems)
    return folder


def check(path: Path, *, allow_pickle: bool = False) -> list[Problem]:
    """Return every problem of a model folder, also those that only loading would meet, without loading.

    Args:
        path: the model folder.
        allow_pickle: whether the server would be started with ``--allow-pickle``.
    """
    folder, problems = _inspect(path.resolve())
    for version in folder.versions if folder is not None else ():
        if (
            version.runtime.runs_code(version.file)
            and folder is not None
            and not (allow_pickle or folder.settings.allow_pickle)
        ):
            problems.append(PickleNotAllowed(version.file).problem)
        problems += _source_problems(version)
    return problems


def load(folder: ModelFolder, version: Version, *, allow_pickle: bool, device: torch.device) -> Callable[..., Any]:
    """Load one version's model for inference; its folder must have been entered before (modules.enter).

    Raises:
        PickleNotAllowed: loading it runs code inside it, and neither the argument nor model.yaml allows that.
        LoadError: the file's content is wrong.
    """
    if version.runtime.runs_code(version.file) and not (allow_pickle or folder.settings.allow_pickle):
        raise PickleNotAllowed(version.file)
    return version.runtime.load(version.file, device)


def _inspect(path: Path) -> tuple[ModelFolder | None, list[Problem]]:
    if not path.is_dir():
        return None, [Problem(str(path), "is not a folder", "name a folder that holds model.pt2 or versions of it")]
    problems: list[Problem] = []
    settings = ModelSettings()
    try:
        settings = read_model_settings(path / "model.yaml")
    except ModelFolderError as error:
        problems += error.problems
    versions: list[Version] = []
    for number, place in _version_folders(path, problems):
        try:
            file = _model_file(place)
            versions.append(Version(number, place, file, _runtime_of(file)))
        except LoadError as error:
            problems.append(error.problem)
    if versions:
        problems += missing_versions(path, settings, [v.number for v in versions])
    return (ModelFolder(path.name, path, settings, tuple(versions)) if versions else None), problems


def _version_folders(path: Path, problems: list[Problem]) -> list[tuple[int, Path]]:
    numbered: dict[int, Path] = {}
    for child in sorted(p for p in path.iterdir() if p.is_dir() and p.name.isascii() and p.name.isdecimal()):
        number = int(child.name)
        if number in numbered:
            problems.append(Problem(str(child), f"is version {number} again", f"remove it or {numbered[number].name}"))
        numbered.setdefault(number, child)
    if not numbered:
        return [(1, path)]
    for name in ("processor.py", "model.py", *(f"model{suffix}" for suffix in SUFFIXES)):
        if (path / name).exists():
            problems.append(Problem(str(path / name), "is not used: the folder has versions", "move it into a version"))
    return sorted(numbered.items())


def _model_file(place: Path) -> Path:
    names = ", ".join(f"model{suffix}" for suffix in SUFFIXES)
    files = [place / f"model{suffix}" for suffix in SUFFIXES if (place / f"model{suffix}").is_file()]
    if len(files) > 1:
        both = " and ".join(file.name for file in files)
        raise LoadError(place, f"holds two models: {both}", "keep one")
    if files:
        return files[0]
    if (place / "saved_model.pb").is_file():
        raise LoadError(place, "holds a TensorFlow SavedModel", "serve it with a TensorFlow server")
    inner = [p.parent.name for suffix in SUFFIXES for p in sorted(place.glob(f"*/model{suffix}"))]
    if inner:
        raise LoadError(place, "holds no model, but model folders", f"name one of them: {', '.join(inner)}")
    raise LoadError(place, "holds no model", f"put exactly one of {names} there")


def _runtime_of(file: Path) -> Runtime:
    candidates = [runtime for runtime in RUNTIMES if file.suffix in runtime.suffixes]
    for runtime in candidates:
        if runtime.recognises(file):
            return runtime
    kinds = " or ".join(runtime.name for runtime in candidates)
    raise LoadError(file, f"is damaged, or no {kinds} model ({file.stat().st_size} bytes)", "save or copy it again")


def missing_versions(path: Path, settings: ModelSettings, found: Sequence[int]) -> list[Problem]:
    """Return what a model folder's model.yaml names of versions that are not there."""
    wanted = {f"versions: {number}": number for number in settings.versions or ()}
    wanted |= {f"labels.{label}: {number}": number for label, number in settings.labels.items()}
    there = ", ".join(map(str, found))
    return [
        Problem(f"{path / 'model.yaml'}: {place}", "there is no such version", f"found: {there}")
        for place, number in wanted.items()
        if number not in found
    ]


def _source_problems(version: Version) -> list[Problem]:
    problems = []
    for name in ("processor.py", "model.py"):
        file = version.path / name
        if not file.is_file():
            if name == "model.py" and version.runtime.needs_model_py:
                problems.append(
                    Problem(
                        str(file), f"is missing: {version.file.name} holds weights only", "write a class Model there"
                    )
                )
            continue
        try:
            ast.parse(file.read_bytes(), str(file))
        except (SyntaxError, ValueError) as error:
            place = f"{file}:{error.lineno}" if isinstance(error, SyntaxError) else str(file)
            problems.append(Problem(place, f"is not Python: {error}", "mend the line"))
    return problems
