"""Which addresses are the access service's own: an endpoint there would send every call round in a circle."""

import contextlib
import functools
import ipaddress
import socket
from collections.abc import Iterable

from dl_inference.address import normal, split

_NAMES = frozenset({"localhost", "ip6-localhost"})


class OwnAddresses:
    """The addresses that a process listens on.

    Args:
        listening: bound addresses: ``0.0.0.0:8500``, ``[::1]:8500``, ``unix:/path``.
    """

    def __init__(self, listening: Iterable[str]) -> None:
        addresses = [normal(each) for each in listening]
        self._paths = frozenset(each for each in addresses if each.startswith("unix:"))
        self._hosts: dict[str, list[str]] = {}
        for each in addresses:
            if not each.startswith("unix:"):
                host, port = split(each)
                self._hosts.setdefault(port, []).append(host)

    def contains(self, address: str) -> bool:
        """Tell whether a call to this address would arrive here. No name is looked up but this machine's own."""
        address = normal(address)
        if address.startswith("unix:"):
            return address in self._paths
        host, port = split(address)
        return any(_is_same(host, listening) for listening in self._hosts.get(port, ()))


def _is_same(host: str, listening: str) -> bool:
    try:
        bound = ipaddress.ip_address(listening)
        if host in _NAMES:
            return bound.is_loopback or bound.is_unspecified
        if host == socket.gethostname().lower():
            return not bound.is_loopback
        called = ipaddress.ip_address(host)
    except ValueError:  # a name of elsewhere
        return False
    return called == bound or (bound.is_unspecified and _is_local(host))


@functools.lru_cache(maxsize=4096)
def _is_local(host: str) -> bool:
    """Tell whether an IP address is one of this machine's: only those can be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return True
    return False
