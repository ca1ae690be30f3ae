"""The model folders inside of MODELS_DIR: which there are, what each asks for, and when one has changed.

Looks and reads; starts nothing and imports neither torch nor tensorflow. Only one thread uses it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dl_inference.names import is_name
from dl_inference.serving.folder import PYTORCH_FILES, Kind, kind_of
from dl_inference.serving.given import Given
from dl_inference.serving.settings import ModelFolderError
from tf_predict import repository as saved_models
from torch_predict import repository

SETTLE_S = 1.0
"""A folder that was not renamed in as a whole counts as changed when it has been still for so long."""

MAX_FILES = 10_000
MAX_DEPTH = 16

# What the model's own process may write beside the model must not look like a new model.
_IGNORED_SUFFIXES = (".pyc", ".log", ".tmp", ".swp", "~")


class FolderError(Exception):
    """Why a folder cannot be served as it is; every problem on a line of its own."""


@dataclass(frozen=True)
class Layout:
    """What a model folder asks for.

    Attributes:
        name: of the model: the folder's.
        path: where it really is, links followed.
        kind: which server.
        places: every version there is -> its folder.
        keys: every version there is -> a text that changes with anything its process is made from.
        served: the versions to serve, ascending; never empty.
        default: the one of them that calls without a version get.
        labels: label -> version, one of `served`.
        aliases: further names of the model.
        timeout_ms: most that a call may take.
    """

    name: str
    path: Path
    kind: Kind
    places: Mapping[int, Path]
    keys: Mapping[int, str]
    served: tuple[int, ...]
    default: int
    labels: Mapping[str, int]
    aliases: tuple[str, ...]
    timeout_ms: int


class Change(NamedTuple):
    """What became of a folder.

    Attributes:
        name: the folder's.
        found: what it asks for now, why it cannot be served, or None: it is gone.
        because: the first file that differs, for the log.
    """

    name: str
    found: Layout | FolderError | None
    because: str


@dataclass(frozen=True)
class Look:
    """A folder at one moment: what tells its states apart, and when it was last touched."""

    identity: tuple[object, ...]
    files: Mapping[str, tuple[int, ...]]
    touched_at: float = field(compare=False)


class ModelsDir:
    """The folder of model folders, as it was looked at last."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._accepted: dict[str, Look | None] = {}
        self._candidates: dict[str, tuple[Look | None, float]] = {}

    @property
    def is_settling(self) -> bool:
        """Whether a folder was seen to change that may still be changing: look again soon."""
        return bool(self._candidates)

    def look(self, *, force: bool = False) -> list[Change]:
        """Return the folders that have changed since the last look, and come to rest.

        Args:
            force: take every folder as it is now, changed or not.

        Raises:
            OSError: the folder of folders cannot be read; what was found before stands.
        """
        names = {name for name in os.listdir(self._root) if name[0] not in "._" and (self._root / name).is_dir()}
        return [
            self._change(name, force=force)
            for name in sorted(names | self._accepted.keys() | self._candidates.keys())
            if self._has_changed(name, look(self._root / name), force=force)
        ]

    def _has_changed(self, name: str, seen: Look | None, *, force: bool) -> bool:
        if name in self._accepted and seen == self._accepted[name] and not force:
            self._candidates.pop(name, None)
            return False
        if seen is None and self._accepted.get(name) is None and not force:  # came and went
            self._candidates.pop(name, None)
            return False
        now = time.monotonic()
        candidate, since = self._candidates.get(name, (None, now))
        if name not in self._candidates or candidate != seen:
            since = now
        self._candidates[name] = (seen, since)
        # By the file system's clock, one that was renamed in has been still for long; where that clock cannot be
        # believed, or the folder is gone, what counts is how long it was seen like this.
        is_old = seen is not None and time.time() - seen.touched_at >= SETTLE_S
        return force or is_old or now - since >= SETTLE_S

    def _change(self, name: str, *, force: bool) -> Change:
        seen, _ = self._candidates.pop(name)
        before = self._accepted.get(name)
        if seen is None:
            self._accepted.pop(name, None)
            return Change(name, None, "")
        self._accepted[name] = seen
        because = "asked for by a signal" if force else _difference(before, seen)
        try:
            return Change(name, inspect(self._root / name, seen), because)
        except ModelFolderError as error:
            return Change(name, FolderError(str(error)), because)
        except FolderError as error:
            return Change(name, error, because)
        except Exception as error:  # whatever a file of a stranger's makes a parser raise: the other folders go on
            return Change(name, FolderError(f"{self._root / name}: {type(error).__name__}: {error}"), because)


def look(folder: Path) -> Look | None:
    """Return what a folder looks like now; None when there is none."""
    try:
        status = folder.stat()
        path = folder.resolve()
        files: dict[str, tuple[int, ...]] = {}
        touched_ns = status.st_mtime_ns
        for name, each in _walk(path, "", 0):
            if stat.S_ISDIR(each.st_mode):
                touched_ns = max(touched_ns, each.st_mtime_ns)
                continue
            files[name] = (each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns)
            touched_ns = max(touched_ns, each.st_ctime_ns)
            if len(files) > MAX_FILES:
                return Look((f"{path} holds more than {MAX_FILES} files; keep data that is no model elsewhere",), {}, 0)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Look((f"{folder} cannot be read: {error.strerror}",), {}, 0)
    return Look((str(path), status.st_dev, status.st_ino), files, touched_ns / 1e9)


def inspect(folder: Path, seen: Look) -> Layout:
    """Return what a folder asks for.

    Args:
        folder: its name is the model's.
        seen: what it looked like.

    Raises:
        FolderError, ModelFolderError: it cannot be served.
    """
    if len(seen.identity) == 1:  # `look` says why
        raise FolderError(str(seen.identity[0]))
    name, path = folder.name, folder.resolve()
    if not is_name(name):
        raise FolderError(
            f"{folder}: a model's name has letters, digits, '.', '_' and '-', at most 128; rename the folder"
        )
    found: repository.ModelFolder | saved_models.ModelFolder
    given = Given(os.environ)
    kind = kind_of(path)
    if kind == "TensorFlow":
        found = saved_models.find(path, given)
        _refuse_both(path, found)
    else:
        found = repository.find(path, given)
    served = [each.number for each in found.chosen()]
    settings = found.settings
    places = {each.number: each.path for each in found.versions}
    _check_names(folder, settings.labels, settings.aliases)
    # What a process reads of model.yaml; a label of PyTorch's concerns the routes only, so that one that moves starts
    # nothing.
    read = settings.model_dump(exclude={"versions", "labels"} if kind == "PyTorch" else {"versions"})
    return Layout(
        name=name,
        path=path,
        kind=kind,
        places=places,
        keys=_keys(path, places, seen, read),
        served=tuple(sorted({*served, *settings.labels.values()})),
        default=max(served),
        labels=settings.labels,
        aliases=tuple(settings.aliases),
        timeout_ms=settings.timeout_ms,
    )


def _refuse_both(path: Path, found: saved_models.ModelFolder) -> None:
    """Raise where a PyTorch model lies beside a SavedModel: nothing says which one is meant."""
    for place in (path, *(version.path for version in found.versions)):
        for name in PYTORCH_FILES:
            if (place / name).exists():
                raise FolderError(f"{place / name}: is a PyTorch model beside a SavedModel; keep one of the two")


def _check_names(folder: Path, labels: Iterable[str], aliases: Iterable[str]) -> None:
    """Refuse labels and aliases that no call could ask for, or that would be taken for something else."""
    wrong = [f"alias {each!r}" for each in aliases if not is_name(each)]
    wrong += [f"label {each!r}" for each in labels if not is_name(each) or each.isdecimal()]
    if wrong:
        raise FolderError(
            f"{folder / 'model.yaml'}: {', '.join(wrong)}: a name has letters, digits, '.', '_' and '-', at most 128, "
            "and a label is no number; rename it"
        )


def _keys(path: Path, places: Mapping[int, Path], seen: Look, settings: Mapping[str, object]) -> dict[int, str]:
    """Return each version's key: a version's own files, those that it shares with others, and what concerns both.

    model.yaml is not among them but for the settings that a process reads: a label that moves starts nothing.
    """
    inside = {number: "" if place == path else f"{place.name}/" for number, place in places.items()}
    others = tuple(prefix for prefix in inside.values() if prefix)
    shared = {name: each for name, each in seen.files.items() if not name.startswith(others)}
    shared.pop("model.yaml", None)
    keys = {}
    for number, prefix in inside.items():
        own = {name: each for name, each in seen.files.items() if prefix and name.startswith(prefix)}
        text = json.dumps(
            [seen.identity, number, sorted(settings.items()), sorted(shared.items()), sorted(own.items())]
        )
        keys[number] = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    return keys


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    """Yield name and status of everything inside of a folder, links followed; what is hidden or a cache is left out."""
    if depth > MAX_DEPTH:
        raise OSError(0, f"it is more than {MAX_DEPTH} folders deep")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == "." or entry.name == "__pycache__" or entry.name.endswith(_IGNORED_SUFFIXES):
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:  # gone already, or a link to nowhere
                continue
            yield prefix + entry.name, status
            if entry.is_dir():
                yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", depth + 1)


def _difference(before: Look | None, now: Look) -> str:
    if before is None:
        return "new"
    if before.identity != now.identity:
        return "another folder"
    names = sorted(
        name for name in before.files.keys() | now.files.keys() if before.files.get(name) != now.files.get(name)
    )
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else "again"
