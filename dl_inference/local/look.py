"""What a model folder looks like at one moment, so that any change of it can be told. Looks, and reads no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_FILES = 10_000
MAX_DEPTH = 16

# What the model's own process may write beside the model must not look like a new model.
_IGNORED_SUFFIXES = (".pyc", ".log", ".tmp", ".swp", "~")


@dataclass(frozen=True)
class Look:
    """A folder at one moment: what tells its states apart, and when it was last touched."""

    identity: tuple[object, ...]
    files: Mapping[str, tuple[int, ...]]
    touched_at: float = field(compare=False)


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
                return Look((f"holds more than {MAX_FILES} files; keep data that is not a model elsewhere",), {}, 0)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Look((f"cannot be read: {error.strerror}",), {}, 0)
    return Look((str(path), status.st_dev, status.st_ino), files, touched_ns / 1e9)


def difference(before: Look | None, now: Look) -> str:
    """Return the first file that differs, and how many more do, for the log."""
    if before is None:
        return "new"
    if before.identity != now.identity:
        return "another folder"
    names = sorted(
        name for name in before.files.keys() | now.files.keys() if before.files.get(name) != now.files.get(name)
    )
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else "again"


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
