"""Addresses that servers listen on and that are called: ``host:port``, ``[v6]:port``, ``unix:/path``."""

import functools
import ipaddress
import re

# RFC 1123 labels, and the underscore that container networks put into names.
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
# sun_path of sockaddr_un holds 108 bytes with the closing zero.
_UNIX_PATH_BYTES = 107


def fault(address: str, *, port_zero: bool = False) -> str | None:
    """Say what is wrong with an address; None when it is well formed.

    Args:
        address: the text to judge; no name is looked up.
        port_zero: whether port 0 (any free one) may be asked for, as when listening.
    """
    if address.startswith("unix:"):
        return _unix_fault(address.removeprefix("unix:"))
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            return "an IPv6 address is written [address]:port"
        return _ipv6_fault(host) or _port_fault(rest[1:], port_zero)
    scheme, is_url, _ = address.partition("://")
    if is_url:
        return f"an address has no {scheme}://: host:port, [v6]:port or unix:/path"
    host, colon, port = address.rpartition(":")
    if not colon:
        return "the port is missing: host:port, [v6]:port or unix:/path"
    return _host_fault(host) or _port_fault(port, port_zero)


@functools.lru_cache(maxsize=65_536)  # a routing state compares all its endpoints, of which few have changed
def normal(address: str) -> str:
    """Return a well-formed address as it is compared: two that are equal then are one, whatever their spelling.

    ``LOCALHOST:080`` is ``localhost:80``, ``[0:0::1]:1`` is ``[::1]:1``, and ``[::ffff:10.0.0.1]:1`` is ``10.0.0.1:1``.
    """
    if address.startswith("unix:"):
        return "unix:" + re.sub(r"/+", "/", address.removeprefix("unix:"))
    host, port = split(address)
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return f"{host.lower().removesuffix('.')}:{int(port)}"
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    ip = mapped or ip
    return f"[{ip}]:{int(port)}" if ip.version == 6 else f"{ip}:{int(port)}"


def split(address: str) -> tuple[str, str]:
    """Return host, an IPv6 one without brackets, and port of a well-formed address that is not a unix socket's."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), port


def _unix_fault(path: str) -> str | None:
    if not path.startswith("/"):
        return "a unix socket is written unix:/absolute/path"
    if not path.isprintable():
        return "the path of a unix socket holds characters that cannot be printed"
    if len(path.encode()) > _UNIX_PATH_BYTES:
        return f"the path of a unix socket has at most {_UNIX_PATH_BYTES} bytes"
    return None


def _ipv6_fault(host: str) -> str | None:
    if "%" in host:
        return f"{host!r} names a network interface: give an address that is the same everywhere"
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return f"{host!r} is no IPv6 address"
    return None


def _host_fault(host: str) -> str | None:
    if not host:
        return "the host is missing: host:port, [v6]:port or unix:/path"
    if ":" in host:
        return "an IPv6 address is written [address]:port"
    if re.fullmatch(r"[0-9.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            return f"{host!r} is no IPv4 address"
        return None
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return f"{host!r} is not a host name"
    return None


def _port_fault(port: str, port_zero: bool) -> str | None:
    lowest = 0 if port_zero else 1
    if not re.fullmatch(r"[0-9]{1,5}", port) or not lowest <= int(port) <= 65535:
        return f"port {port!r} is not in {lowest}..65535"
    return None
