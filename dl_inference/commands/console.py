"""Where the commands print, and what several of them say in the same way."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from rich.console import Console

_OUTPUT_LOST = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def _open_closed_streams() -> None:
    """Let standard streams that were closed at the start be /dev/null, or the next file opened would become one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the lowest free descriptor is the one that is missing
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  (for the process)


_open_closed_streams()
# What reads a pipe wants whole lines: no table is folded there.
out = Console(width=None if sys.stdout.isatty() else 10_000)
err = Console(stderr=True)


@contextlib.contextmanager
def whole_output() -> Iterator[None]:
    """End with status 1 where standard output takes nothing any more, and say why; a reader that has gone knows it."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here, where it can still be said that it failed
    except OSError as error:
        if error.errno not in _OUTPUT_LOST:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to print has no other place
        if error.errno != errno.EPIPE:
            print(f"cannot print the output: {error.strerror}; send it elsewhere, or make room", file=sys.stderr)
        sys.exit(1)
