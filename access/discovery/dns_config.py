"""What the configuration says about names in DNS, and who is asked for them."""

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from access.discovery.base import LiveSourceConfig
from access.fields import FrozenList, Name, Section, problem
from dl_inference.address import fault, split
from dl_inference.serving.limits import Milliseconds


def _checked_name(name: str) -> str:
    reason = "that is an address" if re.fullmatch(r"[0-9.]+|.*:.*", name) else fault(f"{name}:1")
    if reason:
        raise problem(f"{name!r}: {reason}", "give a name, as digits.default.svc.cluster.local; or use `endpoints`")
    return name


def server_address(text: str) -> tuple[str, int]:
    """Return IP address and port of ``10.0.0.10``, ``10.0.0.10:5353``, ``fd00::1`` or ``[fd00::1]:5353``."""
    try:
        return str(ipaddress.ip_address(text.strip("[]"))), 53
    except ValueError:
        if fault(text):
            raise
        host, port = split(text)
        return str(ipaddress.ip_address(host)), int(port)


DnsName = Annotated[str, AfterValidator(_checked_name)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Family = Literal["any", "ipv4", "ipv6"]


class DnsEntry(Section):
    """The name of one model's endpoints."""

    name: DnsName = Field(description="the name to look up")
    port: Port | None = Field(None, description="port of the name's addresses; none: its SRV records say it")
    family: Family = Field("any", description="`any`, `ipv4` or `ipv6`: which addresses are wanted")


def _checked_server(text: str) -> str:
    try:
        server_address(text)
    except ValueError:
        raise problem(f"{text!r} is no DNS server", "give its IP address: 10.0.0.10, 10.0.0.10:5353, [v6]:53") from None
    return text


class DnsConfig(LiveSourceConfig):
    """Endpoints by DNS: with `port` the addresses of a name (A and AAAA), without it the name's SRV records.

    As a model's own source it has a `name`, such as a headless Service of Kubernetes:
    `{kind: dns, name: digits.default.svc.cluster.local, port: 5000}`; as a source of many models it has `entries`,
    each with `name`, `port` and `family`.

    Of SRV records those with the lowest priority number count. Their weights are the endpoints'; 0 becomes 1, and
    every address of a target gets the target's weight. Their targets' addresses are looked up as well.

    An answer holds for its time to live, between `min_ttl_ms` and `max_ttl_ms`. A name that does not exist, or that
    has no such record, has no endpoints. After SERVFAIL, REFUSED or no answer, the last good state stays, and
    the question is asked again, with jitter and growing pauses up to `max_ttl_ms`. Where one of several names gets no
    answer, only its last endpoints stay. Addresses that cannot be called (0.0.0.0, multicast, link-local IPv6) are
    skipped and logged. It needs dnspython: `pip install 'dl-inference[dns]'`.
    """

    name: DnsName | None = Field(None, description="the name of this model's endpoints")
    port: Port | None = Field(None, description="port of the name's addresses; none: its SRV records say it")
    family: Family = Field("any", description="`any`, `ipv4` or `ipv6`: which addresses are wanted")
    entries: dict[Name, DnsEntry] = Field({}, description="route key -> `{name, port, family}`, in place of `name`")
    servers: Annotated[tuple[Annotated[str, AfterValidator(_checked_server)], ...], FrozenList] = Field(
        (),
        description="IP addresses of DNS servers, with `:port` where it is not 53; names are complete for them. "
        "None: /etc/resolv.conf with its search list, read again for every question",
    )
    min_ttl_ms: Milliseconds = Field(1_000, description="an answer holds at least so long, ms")
    max_ttl_ms: Milliseconds = Field(30_000, description="an answer holds at most so long, ms")
    lookup_timeout_ms: Milliseconds = Field(4_000, description="most that one question may take, tries included, ms")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.name is None) == (not self.entries):
            raise problem("a dns source has either `name` or `entries`", "`name` is for one model, `entries` for many")
        if self.entries and (self.port is not None or self.family != "any"):
            raise problem("`port` and `family` have no effect beside `entries`", "write them into the entries")
        if self.min_ttl_ms > self.max_ttl_ms:
            raise problem(f"min_ttl_ms {self.min_ttl_ms} is above max_ttl_ms {self.max_ttl_ms}", "exchange them")
        return self
