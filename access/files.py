"""Reading the small text files that somebody else may be rewriting: access.yaml and discovery's lists."""

import hashlib
import os
import stat
from pathlib import Path

from access.errors import AccessError


class FileError(AccessError):
    """A file that cannot be read as text; the message begins with its name."""


def read_text(path: Path, max_bytes: int) -> str:
    """Return the content of a regular UTF-8 file.

    Raises:
        FileError: it is missing, no regular file (opening a pipe would wait for its writer), too large or no UTF-8.
    """
    data = _read(path, max_bytes)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not UTF-8 at byte {error.start}") from error


def fingerprint(path: Path, max_bytes: int) -> str:
    """Return a text that changes with the file's content, and when it comes, goes or cannot be read.

    The content and not its times: a rewrite within one tick of the file system's clock, of the same length,
    leaves size and times as they were, and a file that was only touched should not be applied again.
    """
    try:
        return hashlib.blake2b(_read(path, max_bytes), digest_size=16).hexdigest()
    except FileError as error:
        return str(error)


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileError(f"{path}: not a regular file")
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > max_bytes:
        raise FileError(f"{path}: more than {max_bytes} bytes")
    return data
