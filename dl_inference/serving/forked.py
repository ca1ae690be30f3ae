"""What a process that the model's own code forks must not keep of its server: the sockets.

A child that holds a copy of a listening socket keeps the port open after the server is gone, and callers wait there for
nobody; one that holds a caller's connection keeps it from being closed.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator

Name = str | int
"""Where a socket is bound: a port, or the path of a unix socket."""


def listening() -> set[Name]:
    """Return where this process listens."""
    return {name for _, name, listens in _sockets() if listens}


def disown(names: set[Name]) -> None:
    """Close, in every child that is forked from now on, the sockets bound to these places."""

    def close() -> None:
        for descriptor in [descriptor for descriptor, name, _ in _sockets() if name in names]:
            os.close(descriptor)

    os.register_at_fork(after_in_child=close)


def _sockets() -> Iterator[tuple[int, Name, bool]]:
    for entry in os.listdir("/proc/self/fd"):
        descriptor = int(entry)
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            view = socket.socket(fileno=descriptor)
        except OSError:  # closed since; what listdir itself had open, for one
            continue
        try:
            name = view.getsockname()
            listens = view.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        except OSError:
            continue
        finally:
            view.detach()
        if view_name := _place(name):
            yield descriptor, view_name, listens


def _place(name: object) -> Name | None:
    if isinstance(name, tuple) and len(name) >= 2 and isinstance(name[1], int):
        return name[1] or None
    return name if isinstance(name, str) and name else None
