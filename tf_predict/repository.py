"""Model folders in TF Serving's layout: find what one holds, say everything that is wrong with it.

No TensorFlow here: finding and checking are quick.

    <name>/model.yaml                          settings, optional
    <name>/<integer version>/saved_model.pb    or, unversioned (= version 1), <name>/saved_model.pb
    <name>/samples/expected.json               requests to warm up with, optional
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dl_inference.problem import Problem
from dl_inference.serving import folder, foreign, requirements
from dl_inference.serving.expected import FILE as SAMPLES
from dl_inference.serving.given import NOTHING, Given
from dl_inference.serving.settings import FILE, ModelFolderError
from tf_predict import samples, saved_file
from tf_predict.config import ModelSettings

MAX_VERSION = 2**63 - 1
"""ModelSpec.version is an int64; TF Serving skips folders whose number does not fit."""

Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Version:
    """One version of a model: a folder with a SavedModel."""

    number: int
    path: Path

    def fingerprint(self) -> Fingerprint:
        """Return name, size and time (ns) of every file; equal ones mean that nothing is being copied there.

        Raises:
            OSError: the folder changes at this moment.
        """
        return _fingerprint(self.path, sorted(file for file in self.path.rglob("*") if file.is_file()))


class ModelFolder(folder.ModelFolder[ModelSettings, Version]):
    """A model folder that holds a SavedModel."""

    def fingerprint(self) -> Fingerprint:
        """Return those of the files beside the versions that judge them.

        Raises:
            OSError: the folder changes at this moment.
        """
        return _fingerprint(self.path, [file for name in (FILE, SAMPLES) if (file := self.path / name).is_file()])


def _fingerprint(path: Path, files: Iterable[Path]) -> Fingerprint:
    stats = [(file, file.stat()) for file in files]
    return tuple((str(file.relative_to(path)), stat.st_size, stat.st_mtime_ns) for file, stat in stats)


def find(path: Path, given: Given = NOTHING) -> ModelFolder:
    """Return what a model folder holds.

    Args:
        path: the model folder.
        given: what replaces values of model.yaml.

    Raises:
        ModelFolderError: with every problem that keeps it from being served.
    """
    path = path.resolve()
    if not path.is_dir():
        raise ModelFolderError(
            [Problem(str(path), "is not a folder", "name a folder that holds saved_model.pb or versions of it")]
        )
    problems: list[Problem] = []
    settings = folder.read_settings(path, ModelSettings, given, problems)
    versions = _versions(path, problems)
    if versions:
        problems += folder.missing_versions(path, settings, versions)
    if problems:
        raise ModelFolderError(problems)
    return ModelFolder(path.name, path, settings, versions)


def check(path: Path, given: Given = NOTHING) -> list[Problem]:
    """Return every problem of a model folder, without loading it."""
    try:
        found = find(path, given)
    except ModelFolderError as error:
        return error.problems
    problems = [problem for version in found.versions for problem in saved_file.problems(version.path)]
    for place in dict.fromkeys((found.path, *(version.path for version in found.versions))):
        problems += requirements.problems(place)
    return problems + samples.read(found.path)[1] + foreign.odd_versions(found.path)


def _versions(path: Path, problems: list[Problem]) -> tuple[Version, ...]:
    empty: list[Path] = []

    def counts(number: int, place: Path) -> bool:
        if number > MAX_VERSION:
            problems.append(Problem(str(place), f"is more than {MAX_VERSION}, an int64", "give it a smaller number"))
            return False
        # A folder without the file is one that is being copied; it counts once the file is there.
        if not folder.holds_saved_model(place):
            empty.append(place)
            return False
        return True

    numbered = folder.version_folders(path, problems, counts)
    if numbered:
        return tuple(Version(number, place) for number, place in numbered.items())
    if folder.holds_saved_model(path):
        return (Version(1, path),)
    if empty:
        problems += [Problem(str(each), "holds no SavedModel", "put saved_model.pb there") for each in empty]
        return ()
    inner = sorted({file.parent.parent.name for name in folder.SAVED_MODEL_FILES for file in path.glob(f"*/*/{name}")})
    if inner:
        problems.append(Problem(str(path), "holds no SavedModel, but model folders", f"name one: {', '.join(inner)}"))
    elif not problems:
        problems.append(Problem(str(path), "holds no SavedModel", "put saved_model.pb there, or in a folder called 1"))
    return ()
