"""By which address others call a server that listens on several, or on every interface."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Sequence

from dl_inference.address import split
from dl_inference.registry.zookeeper import RegistryError, Zookeeper


def host(listening: Sequence[str], place: Zookeeper) -> tuple[str, int]:
    """Return the host that others call a server by, and which of its ports.

    Args:
        listening: what it listens on. The first that is not a unix socket counts; of every interface, the one that
            leads to the registry.
        place: the registry.

    Returns:
        The host as it is written in an address; the index of the address in `listening` that has the port.

    Raises:
        RegistryError: none can be called by others, or it cannot be found out.
    """
    index = next((index for index, each in enumerate(listening) if not each.startswith("unix:")), None)
    if index is None:
        raise RegistryError(
            "a unix socket cannot be called from another machine: listen on HOST:PORT too, or say with "
            "--advertise HOST:PORT what leads here"
        )
    name = listening[index].rpartition(":")[0]
    wildcard = _wildcard(split(listening[index])[0])
    if wildcard is None:
        return name, index
    found = _route(place, listening[index], allow_ipv6=wildcard.version == 6)
    return f"[{found}]" if ":" in found else found, index


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can call an address."""
    name, _ = split(address)
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost"


def _wildcard(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with contextlib.suppress(ValueError):
        found = ipaddress.ip_address(name)
        return found if found.is_unspecified else None
    return None


def _route(place: Zookeeper, listening: str, *, allow_ipv6: bool) -> str:
    """Return the address of this machine that its packets to the registry come from; sends none."""
    reason: OSError | str = "it has IPv6 addresses only"
    for server, port in place.servers:
        try:
            targets = socket.getaddrinfo(server, port, type=socket.SOCK_DGRAM)
        except OSError as error:
            reason = error
            continue
        for family, kind, protocol, _, target in targets:
            if family == socket.AF_INET6 and not allow_ipv6:
                continue
            try:
                with socket.socket(family, kind, protocol) as probe:
                    probe.connect(target)
                    own = str(probe.getsockname()[0])
            except OSError as error:
                reason = error
                continue
            if "%" not in own:  # a link's own addresses mean nothing elsewhere
                return own
    raise RegistryError(
        f"which of this machine's addresses others can call cannot be found by the route to {place.hosts} ({reason}); "
        f"it listens on {listening}: say --advertise HOST:PORT"
    )
