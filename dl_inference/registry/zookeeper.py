"""The connection to ZooKeeper: where it is, who we are there, and a kazoo client made of that."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dl_inference import address
from dl_inference.registry.variables import LOGIN, login_variable

if TYPE_CHECKING:
    from kazoo.client import KazooClient

DEFAULT_CHROOT = "/dl-inference"
DEFAULT_PORT = 2181
MAX_RECONNECT_DELAY_S = 5.0


class RegistryError(Exception):
    """The registry cannot be used as asked; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Zookeeper:
    """Where a registry is and how to get in.

    Attributes:
        hosts: ``host:port``, comma-separated; the port may be left out (2181).
        chroot: path that all of ours is under.
        tls: whether to connect by TLS.
        session_timeout_s: after so long without a heartbeat ZooKeeper takes the session, and what it announced, away.
        username: of the digest scheme, or of SASL where `sasl` is set; none: nobody in particular.
        password: goes with it.
        sasl: mechanism, ``DIGEST-MD5`` or ``GSSAPI``; none: no SASL.
        ca_file: certificates that the servers' are checked against; none: the system's.
        certificate_file: our own; none: we show none.
        key_file: goes with it.
    """

    hosts: str
    chroot: str = DEFAULT_CHROOT
    tls: bool = False
    session_timeout_s: float = 10.0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sasl: str | None = None
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    @property
    def url(self) -> str:
        """Return the place for people: without the password."""
        return f"{'zks' if self.tls else 'zk'}://{self.hosts}{self.chroot}"

    @property
    def servers(self) -> tuple[tuple[str, int], ...]:
        """Return host and port of each server, an IPv6 address without brackets."""
        parts = [urlsplit(f"//{each}") for each in self.hosts.split(",")]
        return tuple((part.hostname or "", part.port or DEFAULT_PORT) for part in parts)


def parse_url(url: str, environment: Mapping[str, str]) -> Zookeeper:
    """Read ``zk://host1:2181,host2/chroot``, or ``zks://`` for TLS.

    Args:
        url: the place; without a path it is ``/dl-inference`` there.
        environment: DL_INFERENCE_REGISTRY_USERNAME, _PASSWORD, _SASL, _CA_FILE, _CERTIFICATE_FILE, _KEY_FILE.

    Raises:
        RegistryError: not such a URL.
    """
    match = re.fullmatch(r"(zks?)://([^/@\s]+)(/[^\s?#]*)?", url)
    if not match:
        raise RegistryError(f"{url!r} is not a registry: write zk://host1:2181,host2:2181/chroot")
    chroot = (match[3] or "").rstrip("/") or DEFAULT_CHROOT
    if reason := hosts_fault(match[2]) or chroot_fault(chroot):
        raise RegistryError(f"{url!r}: {reason}")
    return replace(Zookeeper(match[2], chroot, tls=match[1] == "zks"), **login(environment))


def login(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of `Zookeeper` that the environment gives: DL_INFERENCE_REGISTRY_USERNAME and so on."""
    given = {name: environment.get(login_variable(name)) for name in LOGIN}
    return {name: value for name, value in given.items() if value}


def hosts_fault(hosts: str) -> str | None:
    """Say what is wrong with ``host1:2181,host2``; None when every address is well formed."""
    for host in hosts.split(","):
        has_port = re.search(r"(^|[^:]):[0-9]+$", host) if not host.startswith("[") else "]:" in host
        if reason := address.fault(host if has_port else f"{host}:{DEFAULT_PORT}"):
            return f"{host!r}: {reason}"
    return None


def chroot_fault(chroot: str) -> str | None:
    """Say why a path cannot hold a registry; None when it can."""
    parts = chroot.split("/")
    if parts[0] or any(part in ("", ".", "..") or not part.isprintable() for part in parts[1:]):
        return f"{chroot!r} is not a path in ZooKeeper: write /dl-inference"
    return None


def missing(error: ModuleNotFoundError) -> RegistryError:
    """Return what to say where a module is not installed."""
    name = (error.name or "").partition(".")[0]
    return RegistryError(f"{name} is not installed: pip install 'dl-inference[zookeeper]'")


def client(place: Zookeeper, **options: Any) -> KazooClient:
    """Make a client that is not started yet, and that tries to connect again for as long as it runs.

    What it creates anybody may read; where it logs in, only who logs in as the same may change it. Paths given to it
    begin with `place.chroot`: kazoo's own chroot must exist already, and ours need not.

    Args:
        place: where.
        options: more of KazooClient's, such as ``handler`` and ``logger``.

    Raises:
        RegistryError: kazoo, or what a login needs, is not installed; or a file of TLS's cannot be read.
    """
    for path in (place.ca_file, place.certificate_file, place.key_file):
        if path and not os.access(path, os.R_OK):
            raise RegistryError(f"{path} cannot be read: connecting by TLS needs it")
    try:
        from kazoo.client import KazooClient  # noqa: PLC0415  (an extra)
        from kazoo.retry import KazooRetry  # noqa: PLC0415
        from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE  # noqa: PLC0415

        if place.sasl:
            import puresasl  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        raise missing(error) from error
    sasl = None
    if place.sasl == "GSSAPI":
        sasl = {"mechanism": "GSSAPI", "service": "zookeeper"}
    elif place.sasl:
        sasl = {"mechanism": place.sasl, "username": place.username or "", "password": place.password or ""}
    digest = [("digest", f"{place.username}:{place.password}")] if place.username and not sasl else []
    return KazooClient(
        hosts=place.hosts,
        timeout=place.session_timeout_s,
        auth_data=digest,
        sasl_options=sasl,
        default_acl=[*CREATOR_ALL_ACL, *READ_ACL_UNSAFE] if digest or sasl else list(OPEN_ACL_UNSAFE),
        use_ssl=place.tls,
        check_hostname=place.tls,
        ca=place.ca_file,
        certfile=place.certificate_file,
        keyfile=place.key_file,
        # Jittered, so that a fleet does not come back in one wave.
        connection_retry=KazooRetry(max_tries=-1, delay=0.1, max_delay=MAX_RECONNECT_DELAY_S, max_jitter=0.4),
        **options,
    )
