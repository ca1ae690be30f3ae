"""A disk that takes nothing more, full or read-only: said so that people can act on it. No model folder is to blame."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dl_inference.serving.load_error import LoadError

REMEDY = "free space on that disk, or let it be written to; then it goes on by itself"

_WORDS = {
    errno.ENOSPC: "no space is left on its disk",
    errno.EDQUOT: "the quota of its disk is used up",
    errno.EROFS: "its disk is read-only",
}


class NoRoomError(LoadError):
    """Something that a process needs cannot be written: trying again later helps."""

    def __init__(self, place: Path, why: str) -> None:
        super().__init__(place, f"cannot be written: {why}", REMEDY)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Say of what is done inside that this is what could not be written, where a disk takes nothing more.

    Raises:
        NoRoomError: so it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _WORDS:
            raise
        raise NoRoomError(place, _WORDS[error.errno]) from error


def why_full(place: Path) -> str:
    """Return why nothing can be written into a folder, of what its disk says; "" where it seems that something can."""
    try:
        found = os.statvfs(place)
    except OSError:
        return ""
    if found.f_flag & os.ST_RDONLY:
        return _WORDS[errno.EROFS]
    return _WORDS[errno.ENOSPC] if found.f_bavail * found.f_frsize < _LEAST_BYTES else ""


_LEAST_BYTES = 1 << 20
"""Some programs stop a little before the last byte."""


def is_meant(text: str) -> bool:
    """Whether an error's text, our own or the system's, is about such a disk."""
    theirs = (os.strerror(number) for number in _WORDS)
    return any(words in text for words in (*_WORDS.values(), *theirs))
