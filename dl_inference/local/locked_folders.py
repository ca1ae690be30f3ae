"""What one `serve` has for itself: the lock on its MODELS_DIR, and the private folder of its processes' sockets.

Both are flocks, which end with the process that holds them however it ends: nothing stale ever blocks.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dl_inference.serving import room

log = logging.getLogger("serve")

_PREFIX = "dl-inference-serve-"
# sun_path of sockaddr_un holds 108 bytes with the closing zero; a socket's own name gets these at the end.
_UNIX_PATH_BYTES = 107
SOCKET_NAME_BYTES = 40
# A folder this young may not have been locked yet by the process that has made it.
_YOUNG_S = 60.0


class InUseError(Exception):
    """Another `serve` has this MODELS_DIR; the message names it."""


@contextlib.contextmanager
def locked(models_dir: Path) -> Iterator[None]:
    """Hold the only lock on a folder of model folders.

    The folder itself is locked, so that two names of it are one, and nothing has to be written into it.

    Raises:
        InUseError: another process holds it.
        OSError: it cannot be opened.
    """
    descriptor = os.open(models_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = _holder(os.fstat(descriptor).st_ino)
            raise InUseError(f"{models_dir} is being served already{who}; stop that one first") from None
        except OSError as error:  # a network file system that locks no folders
            log.warning("%s cannot be locked (%s): nothing keeps a second serve away", models_dir, error.strerror)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def socket_folder() -> Iterator[Path]:
    """Make a folder that only this user may enter, with a path short enough for sockets; remove it at the end."""
    try:
        base = tempfile.gettempdir()  # a folder that could be written to a moment ago
    except FileNotFoundError as error:
        raise OSError(f"no folder for sockets: {error.strerror}; {room.REMEDY}, or name one by TMPDIR") from None
    if len(os.fsencode(base)) + len(_PREFIX) + 10 + SOCKET_NAME_BYTES > _UNIX_PATH_BYTES:
        base = "/tmp"
    _remove_stale(Path(base))
    try:
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=base)
    except OSError as error:
        raise OSError(f"no folder for sockets in {base}: {error.strerror}; {room.REMEDY}") from None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield Path(folder)
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_stale(base: Path) -> None:
    """Remove the folders of those of this user's `serve` processes that were killed."""
    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, alive, or just removed by another
            status = folder.lstat()
            if status.st_uid != os.getuid() or time.time() - status.st_mtime < _YOUNG_S:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _holder(inode: int) -> str:
    """Say which process holds a flock, as far as /proc/locks tells (not across containers)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1:2] == ["FLOCK"] and words[5:6] and words[5].rpartition(":")[2] == str(inode):
                return f" by process {words[4]}"
    return ""
