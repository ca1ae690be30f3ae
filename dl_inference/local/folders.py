"""The model folders in MODELS_DIR, or MODELS_DIR itself where it is one: which there are, and when one has changed.

Looks and reads; starts nothing and imports neither torch nor tensorflow. Only one thread uses it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from dl_inference.local.layout import FolderError, Layout, inspect
from dl_inference.local.look import Look, difference, look
from dl_inference.local.quarantine import words
from dl_inference.serving import manifest
from dl_inference.serving.folder import is_model_folder
from dl_inference.serving.settings import ModelFolderError

SETTLE_S = 1.0
"""A folder that was not renamed in as a whole counts as changed when it has been still for so long."""


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


class ModelsDir:
    """The folder of model folders, as it was looked at last; one that is itself a model folder is the only one."""

    def __init__(self, root: Path) -> None:
        path = Path(os.path.abspath(root))  # of "." the name is wanted, too; a link keeps its own
        self._only = path.name if is_model_folder(path) else None
        self._root = root if self._only is None else path.parent
        self._accepted: dict[str, Look | None] = {}
        self._candidates: dict[str, tuple[Look | None, float]] = {}

    @property
    def is_settling(self) -> bool:
        """Whether a folder was seen to change that may still be changing: look again soon."""
        return bool(self._candidates)

    def look(self, *, force: bool = False, at: str | None = None) -> list[Change]:
        """Return the folders that have changed since the last look, and come to rest.

        Args:
            force: take every folder as it is now, changed or not.
            at: look at this one only, and take it as it is now if it has changed.

        Raises:
            OSError: the folder of folders cannot be read; what was found before stands.
        """
        names = self._names()
        if at is not None:
            if at not in names or (seen := look(self._root / at)) == self._accepted.get(at):
                return []
            self._candidates[at] = (seen, 0.0)
            return [self._change(at, force=False)]
        return [
            self._change(name, force=force)
            for name in sorted(names | self._accepted.keys() | self._candidates.keys())
            if self._has_changed(name, look(self._root / name), force=force)
        ]

    def _names(self) -> set[str]:
        if self._only is None:
            return model_names(self._root)
        return {self._only} if (self._root / self._only).is_dir() else set()

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
        return force or is_old or now - since >= SETTLE_S or self._is_complete(name, seen)

    def _is_complete(self, name: str, seen: Look | None) -> bool:
        """Tell whether everything that has changed is as a SHA256SUMS says: then there is nothing to wait for."""
        if seen is None:
            return False
        root, before = self._root / name, self._accepted.get(name)
        former = before.files if before is not None else {}
        changed = [file for file in seen.files.keys() | former.keys() if seen.files.get(file) != former.get(file)]
        places = {root / file.partition("/")[0] if _in_version(file) else root for file in changed}
        return bool(places) and all(map(manifest.is_complete, places))

    def _change(self, name: str, *, force: bool) -> Change:
        seen, _ = self._candidates.pop(name)
        before = self._accepted.get(name)
        if seen is None:
            self._accepted.pop(name, None)
            return Change(name, None, "")
        self._accepted[name] = seen
        because = "asked for by a signal" if force else difference(before, seen)
        try:
            return Change(name, inspect(self._root / name, seen), because)
        except ModelFolderError as error:
            return Change(name, FolderError(*words(error.problems)), because)
        except Exception as error:  # whatever a file of a stranger's makes a parser raise: the other folders go on
            return Change(name, FolderError(f"{self._root / name}: {type(error).__name__}: {error}", ""), because)


def _in_version(file: str) -> bool:
    first, slash, _ = file.partition("/")
    return bool(slash) and first.isascii() and first.isdecimal()


def model_names(root: Path) -> set[str]:
    """Return the names of the folders inside of MODELS_DIR that count as model folders.

    Raises:
        OSError: it cannot be read.
    """
    return {name for name in os.listdir(root) if name[0] not in "._" and (root / name).is_dir()}
