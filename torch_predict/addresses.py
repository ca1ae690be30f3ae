"""Addresses to listen on, looked at before a model loads for half a minute; the native front binds them afterwards."""

from __future__ import annotations

import socket
from pathlib import Path

_FORMS = "write HOST:PORT, [V6]:PORT or unix:/PATH"


def absolute(address: str) -> str:
    """Return the address with an absolute path: loading a model changes the working directory."""
    path = address.removeprefix("unix:")
    return f"unix:{Path(path).absolute()}" if path != address else address


def check(address: str) -> None:
    """Raise when the address cannot be listened on now.

    Raises:
        ValueError: it is not written as an address, or names what is not there or is in use.
    """
    if address.startswith("unix:"):
        folder = Path(address.removeprefix("unix:")).parent
        if not folder.is_dir():
            raise ValueError(f"cannot listen on {address}: there is no folder {folder}")
        return
    host, _, port = address.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and int(port) <= 65535
    if not host or not is_port or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise ValueError(f"cannot listen on {address!r}: {_FORMS}")
    try:
        _bind_one_of(host.strip("[]"), int(port))
    except OSError as error:
        raise ValueError(f"cannot listen on {address}: {error.strerror}") from error


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
