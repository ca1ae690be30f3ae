"""SHA256SUMS in a model folder, as ``sha256sum`` writes it: which files belong to it, and what is in them.

One covers its folder and the folders inside, but for those that have one of their own. What is hidden or a cache is
left out, as `serve` does where it looks for changes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from dl_inference.serving.load_error import LoadError

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"

QUICK_BYTES = 16 * 1024 * 1024
"""What may be summed up in the thread of `serve` that everything waits for: hundredths of a second."""

_IGNORED_SUFFIXES = (".pyc", ".log", ".tmp", ".swp", "~")
_LINE = re.compile(r"([0-9a-f]{64}) [ *](?!\\)(.+)")
_CHUNK = 1024 * 1024


def parse(folder: Path, content: bytes) -> dict[str, str]:
    """Return name -> sum.

    Args:
        folder: for the words of an error.
        content: of SHA256SUMS.

    Raises:
        LoadError: a line is none of ``sha256sum``'s, or names a file outside of the folder.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        match = _LINE.fullmatch(line)
        name = PurePosixPath(match[2]) if match is not None else None
        if match is None or name is None or name.is_absolute() or ".." in name.parts:
            remedy = "write it in the folder by: find . -type f ! -name 'SHA256SUMS*' | sort | xargs sha256sum"
            raise LoadError(f"{folder / SUMS}:{number}", f"is no sum of a file in this folder: {line[:80]!r}", remedy)
        sums[str(name)] = match[1]
    return sums


def files(folder: Path, leave_out: Collection[Path] = ()) -> Iterator[str]:
    """Yield the names of the files that a folder's SHA256SUMS must list."""
    for root, folders, names in os.walk(folder, followlinks=True):
        place = Path(root)
        folders[:] = [
            name
            for name in folders
            if name[0] != "." and name != "__pycache__" and place / name not in leave_out
            if not (place / name / SUMS).is_file()
        ]
        for name in names:
            if name[0] != "." and not name.endswith(_IGNORED_SUFFIXES) and name not in (SUMS, SIGNATURE):
                yield str((place / name).relative_to(folder))


def check_names(folder: Path, sums: Mapping[str, str], leave_out: Collection[Path] = ()) -> None:
    """Check that what is listed is there, and what is there is listed.

    Raises:
        LoadError: names the first file that is not.
    """
    there = set(files(folder, leave_out))
    for name in sorted(sums.keys() - there):
        if not (folder / name).is_file():
            raise LoadError(folder / name, f"is listed in {SUMS} and missing", "copy it, or write the list again")
    for name in sorted(there - sums.keys()):
        raise LoadError(folder / name, f"is not listed in {SUMS}", "remove the file, or write the list again")


def check(folder: Path, leave_out: Collection[Path] = ()) -> None:
    """Check a folder against its SHA256SUMS; one that has none passes.

    Raises:
        LoadError: names the first file that is not as listed.
        OSError: a file cannot be read.
    """
    if not (folder / SUMS).is_file():
        return
    sums = parse(folder, (folder / SUMS).read_bytes())
    check_names(folder, sums, leave_out)
    for name, wanted in sums.items():
        take(folder, name, wanted)


def is_complete(folder: Path, limit_bytes: int = QUICK_BYTES) -> bool:
    """Tell whether a folder has a SHA256SUMS, and all that it lists; False for more bytes than the limit."""
    try:
        if not (folder / SUMS).is_file():
            return False
        sums = parse(folder, (folder / SUMS).read_bytes())
        if sum((folder / name).stat().st_size for name in sums) > limit_bytes:
            return False
        check(folder)
    except (LoadError, OSError):
        return False
    return True


def take(folder: Path, name: str, wanted: str, copy: Path | None = None) -> None:
    """Read a file and check its sum; what was read is what is written into a copy, if any.

    Raises:
        LoadError: the sum is another.
        OSError: it cannot be read or written.
    """
    found = hashlib.sha256()
    if copy is not None:
        copy.parent.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "rb") as stream, open(copy or os.devnull, "wb") as target:
        while chunk := stream.read(_CHUNK):
            found.update(chunk)
            target.write(chunk)
    if found.hexdigest() != wanted:
        text = f"has another SHA-256 sum than {SUMS} says: {found.hexdigest()[:12]}..., not {wanted[:12]}..."
        raise LoadError(folder / name, text, "copy it again, or write the list again if the file is right")
