"""Model folders: which server one is for, the versions in it, and which of them are to be served.

    <name>/model.yaml                   settings, optional
    <name>/<integer version>/FILE       or, unversioned (= version 1), <name>/FILE

Looks only: no framework is imported, and nothing of a folder is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from dl_inference.problem import Problem
from dl_inference.serving.given import Given
from dl_inference.serving.settings import FILE, CommonSettings, ModelFolderError, Settings, read_model_settings

Kind = Literal["PyTorch", "TensorFlow"]

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")

PYTORCH_FILES = ("model.pt2", "model.pt", "model.pth", "model.safetensors")
"""What a PyTorch model's file may be called; `torch_predict.runtimes` says what is in each."""


class Numbered(Protocol):
    """A version of a model."""

    @property
    def number(self) -> int: ...  # noqa: D102


Version = TypeVar("Version", bound=Numbered)


@dataclass(frozen=True)
class ModelFolder(Generic[Settings, Version]):
    """A model folder that can be served.

    Attributes:
        name: the folder's, which is the model's unless it is called otherwise.
        versions: every version there is, the latest last.
        faults: what else is named like a version -> why it cannot be one as its files are.
    """

    name: str
    path: Path
    settings: Settings
    versions: tuple[Version, ...]
    faults: Mapping[int, tuple[Problem, ...]] = field(default_factory=dict)

    def chosen(self, number: int | None = None) -> tuple[Version, ...]:
        """Return the versions to serve: that one; None: those that model.yaml names, else the latest.

        Raises:
            ModelFolderError: there is no such version, or it cannot be one as its files are.
        """
        there = sorted({*(version.number for version in self.versions), *self.faults})
        if number is not None and number not in there:
            raise ModelFolderError([_missing(str(self.path), number, there)])
        wanted = chosen_numbers(self.settings, there) if number is None else (number,)
        if problems := [problem for each in wanted for problem in self.faults.get(each, ())]:
            raise ModelFolderError(problems)
        return tuple(version for version in self.versions if version.number in wanted)

    def versions_text(self) -> str:
        """Return, for people, which versions there are, which are served, and what labels stand for."""
        there = sorted({*(version.number for version in self.versions), *self.faults})
        served = {*chosen_numbers(self.settings, there), *self.settings.labels.values()}
        text = ", ".join(
            str(each.number) + ("" if each.number in served else " (not served)") for each in self.versions
        )
        labels = ", ".join(f"{label} is {number}" for label, number in self.settings.labels.items())
        return f"{text}; {labels}" if labels else text


def kind_of(path: Path) -> Kind:
    """Tell which server a model folder is for: TensorFlow's, where a SavedModel lies in it or in a version of it."""
    return "TensorFlow" if any(map(holds_saved_model, (path, *_numbered_entries(path)))) else "PyTorch"


def holds_saved_model(path: Path) -> bool:
    """Tell whether a SavedModel lies in this very folder."""
    return any((path / name).is_file() for name in SAVED_MODEL_FILES)


def holds_model(path: Path) -> bool:
    """Tell whether a model of either kind lies in this very folder."""
    return any((path / name).is_file() for name in (*SAVED_MODEL_FILES, *PYTORCH_FILES))


def holds_versions(path: Path) -> bool:
    """Tell whether versions of one model lie in this folder: every model in it is named by a number."""
    numbered = {each for each in _numbered_entries(path) if holds_model(each)}
    if not numbered:
        return False
    others = (each for each in path.iterdir() if each.is_dir() and each not in numbered)
    return not any(holds_model(each) or any(map(holds_model, _numbered_entries(each))) for each in others)


def is_model_folder(path: Path) -> bool:
    """Tell whether a folder is one model: a model lies in it, or versions of one lie in it beside a model.yaml."""
    return holds_model(path) or ((path / FILE).is_file() and holds_versions(path))


def version_folders(
    path: Path, problems: list[Problem], counts: Callable[[int, Path], bool] = lambda number, place: True
) -> dict[int, Path]:
    """Return the folders that are named like versions, by number, ascending.

    Args:
        path: the model folder.
        problems: gets those of two folders with one number.
        counts: tells whether such a folder is a version; asked once for each number's first.
    """
    numbered: dict[int, Path] = {}
    for child in sorted(each for each in _numbered_entries(path) if each.is_dir()):
        number = int(child.name)
        if number in numbered:
            problems.append(Problem(str(child), f"is version {number} again", f"remove it or {numbered[number].name}"))
        elif counts(number, child):
            numbered[number] = child
    return dict(sorted(numbered.items()))


def read_settings(path: Path, settings: type[Settings], given: Given, problems: list[Problem]) -> Settings:
    """Return what a folder's model.yaml and `given` say; the defaults where that has problems, which are added."""
    try:
        return read_model_settings(path / FILE, settings, given)
    except ModelFolderError as error:
        problems += error.problems
        return settings()


def chosen_numbers(settings: CommonSettings, there: Sequence[int]) -> tuple[int, ...]:
    """Return which of the versions that there are model.yaml asks for, ascending.

    Args:
        settings: of model.yaml.
        there: ascending.
    """
    named = settings.named_versions
    if named is not None:
        return tuple(number for number in there if number in named)
    latest = settings.latest_versions
    return tuple(there if latest is None else there[-latest:])


def missing_versions(
    path: Path, settings: Settings, versions: Sequence[Numbered], faulty: Iterable[int] = ()
) -> list[Problem]:
    """Return what a model folder's model.yaml names of versions that are not there; faulty ones are."""
    there = sorted({*(version.number for version in versions), *faulty})
    key = "versions" if settings.versions is not None else "version_policy.specific"
    wanted = {f"{key}: {number}": number for number in settings.named_versions or ()}
    wanted |= {f"labels.{label}: {number}": number for label, number in settings.labels.items()}
    return [_missing(f"{path / FILE}: {place}", n, there) for place, n in wanted.items() if n not in there]


def _missing(place: str, number: int, there: Iterable[int]) -> Problem:
    return Problem(place, f"there is no version {number}", f"found: {', '.join(map(str, there))}")


def _numbered_entries(path: Path) -> list[Path]:
    try:
        return [each for each in path.iterdir() if each.name.isascii() and each.name.isdecimal()]
    except OSError:  # it is missing or may not be read: who opens it next says so
        return []
