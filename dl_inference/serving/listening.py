"""Addresses to listen on, looked at before a model loads for half a minute; who serves binds them afterwards."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from dl_inference.address import fault

# The same words as where the data plane binds them: dataplane/crates/core/src/net/listener.rs.
_REMEDIES = {
    errno.EADDRINUSE: "stop the program that listens there, or choose another address",
    errno.EADDRNOTAVAIL: "choose an address of this machine, or 0.0.0.0 for all of them",
    errno.EACCES: "choose an address that this user may listen on: a port of 1024 or more, a folder that is theirs",
}


def absolute(address: str) -> str:
    """Return the address with an absolute path: loading a model may change the working directory."""
    path = address.removeprefix("unix:")
    return f"unix:{Path(path).absolute()}" if path != address else address


def check(address: str) -> None:
    """Raise when the address cannot be listened on now.

    Raises:
        ValueError: it is not written as an address, or names what is not there or is in use.
    """
    if reason := fault(address, port_zero=True):
        raise ValueError(f"cannot listen on {address!r}: {reason}")
    try:
        if address.startswith("unix:"):
            _check_unix(Path(address.removeprefix("unix:")))
        else:
            _bind_one_of(*split(address))
    except OSError as error:
        reason = error.strerror or str(error)
        if remedy := _REMEDIES.get(error.errno or 0):
            reason = f"{reason}; {remedy}"
        raise ValueError(f"cannot listen on {address}: {reason}") from error


def split(address: str) -> tuple[str, int]:
    """Return host and port of a well-formed ``host:port`` or ``[v6]:port``."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _check_unix(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return  # nothing there, or what a dead process left, which is removed when it is bound
    # grpcio would take the path away from whoever listens there.
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _bind_one_of(host: str, port: int) -> None:
    """Bind one of the addresses that a host has, without listening, and let go of it.

    A name such as localhost may have an IPv6 address on a machine without IPv6.
    """
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind, protocol) as probe:
                # As servers do it: connections of an earlier process that linger are no hindrance.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                return
        except OSError as error:
            failure = failure or error
    if failure is not None:
        raise failure
