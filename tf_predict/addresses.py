"""Addresses to listen on, looked at before a model loads for seconds; grpcio binds them afterwards."""

from __future__ import annotations

import socket
from pathlib import Path

FORMS = "write HOST:PORT, [V6]:PORT or unix:/PATH"


def check(address: str) -> None:
    """Raise when the address cannot be listened on now.

    Raises:
        ValueError: it is not written as an address, or names what is not there or is in use.
    """
    try:
        if address.startswith("unix:"):
            _check_unix(Path(address.removeprefix("unix:")))
        else:
            _bind_one_of(*split(address))
    except OSError as error:
        raise ValueError(f"cannot listen on {address}: {error.strerror or error}") from error


def split(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` or ``[V6]:PORT``.

    Raises:
        ValueError: it is written otherwise.
    """
    host, _, port = address.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and int(port) <= 65535
    if not host or not is_port or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise ValueError(f"cannot listen on {address!r}: {FORMS}")
    return host.strip("[]"), int(port)


def _check_unix(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(2, f"there is no folder {path.parent}")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return  # nothing there, or what a dead process left; grpcio removes that
    raise OSError(98, "Address already in use")  # grpcio would take the path away from whoever listens there


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
