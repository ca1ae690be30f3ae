"""Model folders in TF Serving's layout: find what one holds, say everything that is wrong with it.

No TensorFlow here: finding and checking are quick.

    <name>/model.yaml                          settings, optional
    <name>/<integer version>/saved_model.pb    or, unversioned (= version 1), <name>/saved_model.pb
    <name>/samples/expected.json               requests to warm up with, optional
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dl_inference.problem import Problem
from tf_predict.config import ModelSettings, read_model_settings
from tf_predict.errors import ModelFolderError

FILES = ("saved_model.pb", "saved_model.pbtxt")

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
        files = sorted(file for file in self.path.rglob("*") if file.is_file())
        stats = [(file, file.stat()) for file in files]
        return tuple((str(file.relative_to(self.path)), stat.st_size, stat.st_mtime_ns) for file, stat in stats)


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that holds a SavedModel.

    Attributes:
        versions: every version there is, the latest last.
    """

    name: str
    path: Path
    settings: ModelSettings
    versions: tuple[Version, ...]

    def chosen(self, number: int | None) -> tuple[Version, ...]:
        """Return the versions to serve: that one; None: those that model.yaml names, else the latest.

        Raises:
            ModelFolderError: there is no such version.
        """
        if number is not None:
            found = tuple(version for version in self.versions if version.number == number)
            if not found:
                raise ModelFolderError([_missing(str(self.path), number, self.versions)])
            return found
        wanted = self.settings.versions
        return self.versions[-1:] if wanted is None else tuple(v for v in self.versions if v.number in wanted)


def find(path: Path) -> ModelFolder:
    """Return what a model folder holds.

    Raises:
        ModelFolderError: with every problem that keeps it from being served.
    """
    path = path.resolve()
    if not path.is_dir():
        raise ModelFolderError(
            [Problem(str(path), "is not a folder", "name a folder that holds saved_model.pb or versions of it")]
        )
    problems: list[Problem] = []
    settings = ModelSettings()
    try:
        settings = read_model_settings(path / "model.yaml")
    except ModelFolderError as error:
        problems += error.problems
    versions = _versions(path, problems)
    if versions:
        problems += _missing_versions(path, settings, versions)
    if problems:
        raise ModelFolderError(problems)
    return ModelFolder(path.name, path, settings, versions)


def check(path: Path) -> list[Problem]:
    """Return every problem of a model folder, without loading it."""
    try:
        find(path)
    except ModelFolderError as error:
        return error.problems
    return []


def holds_saved_model(path: Path) -> bool:
    """Tell whether a SavedModel lies in this very folder."""
    return any((path / name).is_file() for name in FILES)


def is_saved_model_folder(path: Path) -> bool:
    """Tell whether a SavedModel lies in a folder, or in one that is named like a version of it."""
    try:
        versions = [each for each in path.iterdir() if each.name.isascii() and each.name.isdecimal()]
    except OSError:  # it is missing or may not be read: who opens it next says so
        return False
    return any(map(holds_saved_model, (path, *versions)))


def _versions(path: Path, problems: list[Problem]) -> tuple[Version, ...]:
    numbered: dict[int, Path] = {}
    empty: list[Path] = []
    for child in sorted(p for p in path.iterdir() if p.is_dir() and p.name.isascii() and p.name.isdecimal()):
        number = int(child.name)
        if number > MAX_VERSION:
            problems.append(Problem(str(child), f"is more than {MAX_VERSION}, an int64", "give it a smaller number"))
        elif number in numbered:
            problems.append(Problem(str(child), f"is version {number} again", f"remove it or {numbered[number].name}"))
        elif holds_saved_model(child):
            numbered[number] = child
        else:
            empty.append(child)
    if numbered:
        # A folder without the file is one that is being copied; it counts once the file is there.
        return tuple(Version(number, place) for number, place in sorted(numbered.items()))
    if holds_saved_model(path):
        return (Version(1, path),)
    if empty:
        problems += [Problem(str(each), "holds no SavedModel", "put saved_model.pb there") for each in empty]
        return ()
    inner = sorted({file.parent.parent.name for name in FILES for file in path.glob(f"*/*/{name}")})
    if inner:
        problems.append(Problem(str(path), "holds no SavedModel, but model folders", f"name one: {', '.join(inner)}"))
    elif not problems:
        problems.append(Problem(str(path), "holds no SavedModel", "put saved_model.pb there, or in a folder called 1"))
    return ()


def _missing_versions(path: Path, settings: ModelSettings, versions: tuple[Version, ...]) -> list[Problem]:
    numbers = {version.number for version in versions}
    wanted = {f"versions: {number}": number for number in settings.versions or ()}
    wanted |= {f"labels.{label}: {number}": number for label, number in settings.labels.items()}
    file = path / "model.yaml"
    return [_missing(f"{file}: {place}", n, versions) for place, n in wanted.items() if n not in numbers]


def _missing(place: str, number: int, versions: tuple[Version, ...]) -> Problem:
    found = ", ".join(str(version.number) for version in versions)
    return Problem(place, f"there is no version {number}", f"found: {found}")
