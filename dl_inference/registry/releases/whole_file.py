"""A file that is read and written as a whole only: by one writer at a time, and never half of it on the disk."""

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dl_inference.registry.zookeeper import RegistryError

_LOCK_POLL_S = 0.01


def read(path: Path, max_bytes: int) -> bytes | None:
    """Return what is in a file; None where there is none.

    Raises:
        RegistryError: it cannot be read, or is too large.
    """
    try:
        # Opening a pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RegistryError(f"{path}: not a regular file")
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RegistryError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > max_bytes:
        raise RegistryError(f"{path}: more than {max_bytes} bytes")
    return data


@contextlib.contextmanager
def locked(path: Path, timeout_s: float) -> Iterator[None]:
    """Keep other writers of a file away; readers need no lock.

    Raises:
        RegistryError: the lock cannot be made, or another program holds it until the time is up.
    """
    lock = path.with_name(f".{path.name}.lock")
    deadline = time.monotonic() + timeout_s
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise RegistryError(f"{lock}: cannot be written: {error.strerror}") from error
    try:
        while not _is_ours(descriptor):
            if time.monotonic() > deadline:
                raise RegistryError(f"{lock}: another program has held it for {timeout_s * 1000:.0f} ms: try again")
            time.sleep(_LOCK_POLL_S)  # flock has no limit of its own
        yield
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole, or as it was, whatever happens meanwhile.

    Raises:
        RegistryError: it cannot be written.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise RegistryError(f"{path}: cannot be written: {error.strerror}") from error


def _is_ours(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
