"""Model folders: find what one holds, say everything that is wrong with it, load one version.

Finding and checking need no torch and run no code of the folder; only `load` does.

    <name>/model.yaml                     settings, optional
    <name>/<integer version>/model.pt2    or, unversioned (= version 1), <name>/model.pt2
    <name>/<integer version>/processor.py hooks, optional; beside the model file
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.problem import Problem
from dl_inference.serving import folder, foreign, requirements
from dl_inference.serving.given import NOTHING, Given
from dl_inference.serving.load_error import LoadError
from dl_inference.serving.settings import FILE, ModelFolderError
from torch_predict import samples, sources
from torch_predict.config import ModelSettings
from torch_predict.runtimes import RUNTIMES, Runtime

if TYPE_CHECKING:
    import torch


_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Version:
    """One version of a model: a folder with one model file."""

    number: int
    path: Path
    file: Path
    runtime: Runtime


class ModelFolder(folder.ModelFolder[ModelSettings, Version]):
    """A model folder that can be served."""


def find(path: Path, given: Given = NOTHING) -> ModelFolder:
    """Return what a model folder holds.

    Args:
        path: the model folder.
        given: what replaces values of model.yaml.

    Raises:
        ModelFolderError: with every problem that keeps it from being served.
    """
    found, problems = _inspect(path.resolve(), given)
    if found is None or problems:
        raise ModelFolderError(problems)
    return found  # with the faults of single versions, which concern nobody who serves another one


def check(path: Path, given: Given = NOTHING, *, allow_pickle: bool = False) -> list[Problem]:
    """Return every problem of a model folder, also those that only loading would meet, without loading.

    Args:
        path: the model folder.
        given: what replaces values of model.yaml.
        allow_pickle: whether the server would be started with ``--allow-pickle``.
    """
    found, problems = _inspect(path.resolve(), given)
    # What is installed in another interpreter is not known here.
    has_own_packages = found is not None and found.settings.python is not None
    problems += [problem for each in (found.faults if found is not None else {}).values() for problem in each]
    for version in found.versions if found is not None else ():
        if (
            version.runtime.runs_code(version.file)
            and found is not None
            and not (allow_pickle or found.settings.allow_pickle)
        ):
            problems.append(version.runtime.refusal(version.file).problem)
        if version.runtime.name == "pickled":
            problems += sources.pickled_problems(version.file)
        problems += sources.problems(
            version.path,
            needs_model_py=version.runtime.needs_model_py,
            model_file=version.file.name,
            has_own_packages=has_own_packages,
        )
        if not has_own_packages:
            problems += sources.hidden_modules(version.path)
            problems += requirements.problems(version.path)
    if found is not None:
        problems += samples.read(found.path)[1] + foreign.odd_versions(found.path)
        problems += [] if has_own_packages else requirements.problems(found.path)
    return list(dict.fromkeys(problems))


def load(found: ModelFolder, version: Version, *, allow_pickle: bool, device: torch.device) -> Callable[..., Any]:
    """Load one version's model for inference; its folder must have been entered before (modules.enter).

    Raises:
        LoadError: the file's content is wrong; or loading it runs code inside it, and neither the argument nor
            model.yaml allows that.
    """
    if version.runtime.runs_code(version.file) and not (allow_pickle or found.settings.allow_pickle):
        raise version.runtime.refusal(version.file)
    return version.runtime.load(version.file, device)


def interpreter(path: Path, settings: ModelSettings) -> Path | None:
    """Return the interpreter that a folder's processes run in; None: the server's own.

    Links are not followed: by its place an interpreter knows its environment.
    """
    return None if settings.python is None else path / settings.python


def _inspect(path: Path, given: Given) -> tuple[ModelFolder | None, list[Problem]]:
    if not path.is_dir():
        return None, [Problem(str(path), "is not a folder", "name a folder that holds model.pt2 or versions of it")]
    if not os.access(path, os.R_OK | os.X_OK):
        text = f"may not be entered by user {os.geteuid()}"
        return None, [Problem(str(path), text, f"chmod a+rx {path}, and the folders around it")]
    problems: list[Problem] = []
    settings = folder.read_settings(path, ModelSettings, given, problems)
    versions: list[Version] = []
    faults: dict[int, tuple[Problem, ...]] = {}
    for number, place in _version_folders(path, problems).items():
        try:
            file = _model_file(place)
            versions.append(Version(number, place, file, _runtime_of(file)))
        except LoadError as error:
            faults[number] = (error.problem,)
    problems += _python_problems(path, settings)
    if not versions:
        return None, problems + [problem for each in faults.values() for problem in each]
    problems += folder.missing_versions(path, settings, versions, faults)
    return ModelFolder(path.name, path, settings, tuple(versions), faults), problems


def _python_problems(path: Path, settings: ModelSettings) -> list[Problem]:
    python = interpreter(path, settings)
    if python is None or (python.is_file() and os.access(python, os.X_OK)):
        return []
    text = f"python: {python} " + ("cannot be executed" if python.exists() else "is not there")
    return [Problem(f"{path / FILE}", text, "make it: docs/serve.md, 'Packages of its own'")]


def _version_folders(path: Path, problems: list[Problem]) -> dict[int, Path]:
    numbered = folder.version_folders(path, problems)
    if not numbered:
        return {1: path}
    for name in ("processor.py", "model.py", *folder.PYTORCH_FILES):
        if (path / name).exists():
            problems.append(Problem(str(path / name), "is not used: the folder has versions", "move it into a version"))
    return numbered


def _model_file(place: Path) -> Path:
    files = [place / name for name in folder.PYTORCH_FILES if (place / name).is_file()]
    if len(files) > 1:
        both = " and ".join(file.name for file in files)
        raise LoadError(place, f"holds two models: {both}", "keep one")
    if files:
        return files[0]
    if folder.holds_saved_model(place):
        raise LoadError(place, "holds a TensorFlow SavedModel", "serve it with a TensorFlow server")
    for problem in [*foreign.foreign_files(place), *foreign.odd_versions(place)]:
        raise LoadError(problem.place, problem.message, problem.remedy)
    inner = [p.parent.name for name in folder.PYTORCH_FILES for p in sorted(place.glob(f"*/{name}"))]
    if inner:
        raise LoadError(place, "holds no model, but model folders", f"name one of them: {', '.join(inner)}")
    raise LoadError(place, "holds no model", f"put exactly one of {', '.join(folder.PYTORCH_FILES)} there")


def _runtime_of(file: Path) -> Runtime:
    try:
        with file.open("rb") as stream:
            beginning = stream.read(len(_LFS_POINTER))
    except PermissionError as error:
        status = file.stat()
        whose = f"it is of user {status.st_uid} with mode {status.st_mode & 0o777:o}, and this is user {os.geteuid()}"
        raise LoadError(file, f"cannot be read: {error.strerror}: {whose}", f"chmod a+r {file}") from None
    except OSError as error:
        raise LoadError(file, f"cannot be read: {error.strerror}", "look at the disk that it is on") from None
    if beginning == _LFS_POINTER:
        raise LoadError(file, "is a pointer of Git LFS, not the model itself", "git lfs pull")
    candidates = [runtime for runtime in RUNTIMES if file.suffix in runtime.suffixes]
    for runtime in candidates:
        if runtime.recognises(file):
            return runtime
    kinds = " or ".join(runtime.name for runtime in candidates)
    raise LoadError(file, f"is damaged, or no {kinds} model ({file.stat().st_size} bytes)", "save or copy it again")
