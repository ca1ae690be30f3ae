"""Questions to DNS servers, one name at a time, and what their answers say about endpoints."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from access.discovery.dns_config import DnsEntry, Family
from access.fields import EndpointConfig
from dl_inference.problem import Problem
from dl_inference.registry.schema import MAX_WEIGHT

if TYPE_CHECKING:
    import dns.asyncresolver
    import dns.name

Value = TypeVar("Value")

# On their way at once: 1,000 names must not want 2,000 sockets.
MAX_QUESTIONS = 32
# One answer's bad addresses are told by examples.
MAX_EXAMPLES = 3
RESOLV_CONF = "/etc/resolv.conf"


class Unanswered(Exception):
    """A question without an answer: nothing is known about the name."""


class _Records(NamedTuple):
    """What a name has of one type: the records' data, how long that holds, and whether the name exists at all."""

    data: tuple[Any, ...]
    ttl_s: float
    exists: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name's answer says: its endpoints, what of it is odd, and how long it holds."""

    endpoints: tuple[EndpointConfig, ...]
    warnings: tuple[Problem, ...]
    ttl_s: float = field(compare=False)


class Questions:
    """Asks DNS servers; made where an event loop runs.

    Args:
        servers: IP addresses with ports; none: those of /etc/resolv.conf, with its search list.
        lookup_timeout_s: most that one question may take, tries included.
    """

    def __init__(self, servers: Sequence[tuple[str, int]], lookup_timeout_s: float) -> None:
        self._servers, self._lookup_timeout_s = servers, lookup_timeout_s
        self._permits = asyncio.Semaphore(MAX_QUESTIONS)

    async def endpoints(self, entry: DnsEntry) -> Answer:
        """Return the endpoints of a name, in an order that depends on nothing but them.

        Raises:
            Unanswered: nobody could say.
        """
        if entry.port is None:
            return await self._services(entry)
        found = await self._addresses(entry.name, entry.family)
        return _answer(entry.name, [(address, entry.port, 1) for address in found.data], found, [])

    async def _services(self, entry: DnsEntry) -> Answer:
        services = await self._records(entry.name, "SRV")
        lowest = min((each.priority for each in services.data), default=0)
        # The target "." says: decidedly not here.
        wanted = [each for each in services.data if each.priority == lowest and len(each.target) > 1 and each.port]
        found = await _together(self._addresses(each.target, entry.family) for each in wanted)
        bad = [f"target {str(each.target)[:80]!r}" for each, its in zip(wanted, found, strict=True) if not its.data]
        callable_at = [
            (address, each.port, each.weight) for each, its in zip(wanted, found, strict=True) for address in its.data
        ]
        ttl_s = min([services.ttl_s, *(each.ttl_s for each in found)])
        return _answer(entry.name, callable_at, services._replace(ttl_s=ttl_s), bad)

    async def _addresses(self, name: str | dns.name.Name, family: Family) -> _Records:
        kinds = {"any": ("A", "AAAA"), "ipv4": ("A",), "ipv6": ("AAAA",)}[family]
        found = await _together(self._records(name, kind) for kind in kinds)
        return _Records(
            tuple(record.address for each in found for record in each.data),
            min(each.ttl_s for each in found),
            any(each.exists for each in found),
        )

    async def _records(self, name: str | dns.name.Name, kind: str) -> _Records:
        try:
            import dns.asyncbackend  # noqa: PLC0415  (an extra)
            import dns.asyncresolver  # noqa: PLC0415
            import dns.exception  # noqa: PLC0415
            import dns.flags  # noqa: PLC0415
            import dns.resolver  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise Unanswered("dnspython is not installed: pip install 'dl-inference[dns]'") from error
        async with self._permits:
            try:
                answer = await self._resolver().resolve(
                    name,
                    kind,
                    raise_on_no_answer=False,
                    search=not self._servers,
                    backend=dns.asyncbackend.get_backend("asyncio"),
                )
            except dns.resolver.NXDOMAIN as error:
                lives = [each.resolve_chaining().minimum_ttl for each in error.kwargs["responses"].values()]
                return _Records((), min(lives), exists=False)
            except (dns.exception.DNSException, OSError) as error:
                raise Unanswered(f"{name} {kind}: {_reason(error)}") from error
        if answer.response.flags & dns.flags.TC:
            raise Unanswered(f"{name} {kind}: the answer is cut short by TCP too")
        return _Records(tuple(answer.rrset or ()), answer.chaining_result.minimum_ttl)

    def _resolver(self) -> dns.asyncresolver.Resolver:
        import dns.asyncresolver  # noqa: PLC0415
        import dns.nameserver  # noqa: PLC0415

        resolver = dns.asyncresolver.Resolver(RESOLV_CONF, configure=not self._servers)
        if self._servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(*each) for each in self._servers]
        resolver.lifetime = self._lookup_timeout_s
        resolver.timeout = min(resolver.timeout, resolver.lifetime / 2)  # a lost packet gets another try
        return resolver


def _answer(name: str, found: Iterable[tuple[str, int, int]], records: _Records, bad: list[str]) -> Answer:
    """Make an answer of (address, port, weight); the same endpoint twice gets the sum of the weights."""
    weights: dict[str, int] = {}
    for address, port, weight in found:
        if _nobody_can_call(address):
            bad.append(address)
            continue
        text = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        weights[text] = min(weights.get(text, 0) + max(weight, 1), MAX_WEIGHT)
    warnings = []
    if bad:
        more = f" and {len(bad) - MAX_EXAMPLES} more" if len(bad) > MAX_EXAMPLES else ""
        examples = ", ".join(sorted(bad)[:MAX_EXAMPLES])
        warnings.append(Problem(f"dns {name}", f"{examples}{more} cannot be called: skipped", "correct the zone"))
    if not weights:
        what = "has no such records" if records.exists else "does not exist"
        warnings.append(Problem(f"dns {name}", f"the name {what}: no endpoints", "is it written as the zone has it?"))
    endpoints = tuple(EndpointConfig(address=each, weight=weights[each]) for each in sorted(weights))
    return Answer(endpoints, tuple(warnings), float(records.ttl_s))


def _nobody_can_call(text: str) -> bool:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        # A link-local address means nothing without its interface.
        mapped = address.ipv4_mapped
        return (
            address.is_unspecified
            or address.is_multicast
            or address.is_link_local
            or (mapped is not None and _nobody_can_call(str(mapped)))
        )
    return address.is_unspecified or address.is_multicast or address.is_reserved


def _reason(error: Exception) -> str:
    """Say why there is no answer, in words that stay the same while it is the same."""
    import dns.rcode  # noqa: PLC0415
    import dns.resolver  # noqa: PLC0415

    if not isinstance(error, dns.resolver.NoNameservers | dns.resolver.LifetimeTimeout):
        return " ".join(str(error).split()) or type(error).__name__
    reasons = set()
    for server, _, port, cause, response in error.kwargs["errors"]:
        what = dns.rcode.to_text(response.rcode()) if response is not None else type(cause).__name__
        reasons.add(f"{what} from {server.removeprefix('Do53:')}" + ("" if "@" in server else f":{port}"))
    return "no answer: " + (", ".join(sorted(reasons)) or "no server to ask")


async def _together(coroutines: Iterable[Coroutine[Any, Any, Value]]) -> list[Value]:
    """Await all at once; the first failure ends the others."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
