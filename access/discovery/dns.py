"""Endpoints by DNS: the addresses of a name (A and AAAA), or its services (SRV) with their ports and weights.

A name is asked again when its answer's time to live is over. "There is no such name" is an answer, an empty one;
SERVFAIL, a refusal and silence are none, and what was known stays. One thread follows all names of a source.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import random
import re
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, model_validator

from access.discovery.base import (
    ANY_MODEL,
    DiscoveryError,
    EndpointConfig,
    Entry,
    Field,
    FrozenList,
    LiveSourceConfig,
    Milliseconds,
    Name,
    Problem,
    Resolver,
    Section,
    Snapshot,
    SourceConfig,
    fault,
    problem,
)

if TYPE_CHECKING:
    import dns.asyncresolver
    import dns.name

Value = TypeVar("Value")

log = logging.getLogger("access")

# Questions on their way at once: 1,000 names must not want 2,000 sockets.
MAX_QUESTIONS = 32
MAX_WEIGHT = 65_535
STOP_STEP_S = 0.05
# One answer's bad addresses are told by examples.
MAX_EXAMPLES = 3
RESOLV_CONF = "/etc/resolv.conf"


def _checked_name(name: str) -> str:
    reason = "that is an address" if re.fullmatch(r"[0-9.]+|.*:.*", name) else fault(f"{name}:1")
    if reason:
        raise problem(f"{name!r}: {reason}", "give a name, as digits.default.svc.cluster.local; or use `endpoints`")
    return name


def _checked_server(text: str) -> str:
    try:
        _server(text)
    except ValueError:
        raise problem(f"{text!r} is no DNS server", "give its IP address: 10.0.0.10, 10.0.0.10:5353, [v6]:53") from None
    return text


def _server(text: str) -> tuple[str, int]:
    """Return IP address and port of ``10.0.0.10``, ``10.0.0.10:5353``, ``fd00::1`` or ``[fd00::1]:5353``."""
    try:
        return str(ipaddress.ip_address(text.strip("[]"))), 53
    except ValueError:
        host, _, port = text.rpartition(":")
        if fault(text):
            raise
        return str(ipaddress.ip_address(host.strip("[]"))), int(port)


DnsName = Annotated[str, AfterValidator(_checked_name)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Family = Literal["any", "ipv4", "ipv6"]


class DnsEntry(Section):
    """The name of one model's endpoints."""

    name: DnsName = Field(description="the name to look up")
    port: Port | None = Field(None, description="port of the name's addresses; none: its SRV records say it")
    family: Family = Field("any", description="`any`, `ipv4` or `ipv6`: which addresses are wanted")


class DnsConfig(LiveSourceConfig):
    """Endpoints by DNS: with `port` the addresses of a name (A and AAAA), without it the name's SRV records.

    As a model's own source it has a `name`, such as a headless Service of Kubernetes:
    `{kind: dns, name: digits.default.svc.cluster.local, port: 5000}`; as a source of many models it has `entries`,
    each with `name`, `port` and `family`.

    Of SRV records those with the lowest priority number count. Their weights are the endpoints'; 0 becomes 1, and
    every address of a target gets the target's weight. Their targets' addresses are looked up as well.

    An answer holds for its time to live, between `min_ttl_ms` and `max_ttl_ms`. A name that does not exist, or that
    has no such record, has no endpoints. SERVFAIL, REFUSED and silence are no answers: the last good state stays, and
    the question is asked again, jittered and ever more slowly up to `max_ttl_ms`. Where one of several names gets no
    answer, only its last endpoints stay. Addresses that nobody can call (0.0.0.0, multicast, link-local IPv6) are
    skipped and named. It needs dnspython: `pip install 'dl-inference[dns]'`.
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


class _Unanswered(Exception):
    """A question without an answer: nothing is known about the name."""


class _Records(NamedTuple):
    """What a name has of one type: the records' data, how long that holds, and whether the name exists at all."""

    data: tuple[Any, ...]
    ttl_s: float
    exists: bool = True


@dataclass(frozen=True, slots=True)
class _Answer:
    endpoints: tuple[EndpointConfig, ...]
    warnings: tuple[Problem, ...]
    ttl_s: float = field(compare=False)


class DnsResolver(Resolver):
    """Follows the names of one source."""

    def __init__(self, config: DnsConfig) -> None:
        self._config = config
        entries: Mapping[str, DnsEntry] = config.entries
        if config.name is not None:
            entries = {ANY_MODEL: DnsEntry(name=config.name, port=config.port, family=config.family)}
        self._entries = entries
        self.name = _source_name(config, list(entries.values()))
        self._lock = threading.Lock()
        self._answers: dict[str, _Answer] = {}
        self._errors: dict[str, str] = {}
        self._asked_all = threading.Event()
        self._has_waited = False
        self._runner: asyncio.Runner | None = None
        self._thread: threading.Thread | None = None
        self._stopping = asyncio.Event()
        self._changed: Callable[[], None] = lambda: None

    @classmethod
    def create(cls, config: SourceConfig, folder: Path) -> Self:
        """Make the resolver; there are no paths in the configuration."""
        return cls(DnsConfig.model_validate(config))

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to ask."""
        self._changed = changed
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._runner.get_loop()  # so that `stop` has it from now on
        self._thread = threading.Thread(target=self._run, args=(self._runner,), name="access-dns", daemon=True)
        self._thread.start()

    def read(self) -> Snapshot:
        """Return the entry of every name that was ever answered.

        Raises:
            DiscoveryError: no name is answered now; or dnspython is not installed.
        """
        if self._thread is None:
            raise DiscoveryError("it has not been started")
        if not self._has_waited:
            self._has_waited = True
            self._asked_all.wait(self._config.start_timeout_ms / 1000)
        with self._lock:
            return self._snapshot()

    def stop(self) -> None:
        """End the questions that are on their way, and the thread."""
        if self._thread is None or self._runner is None:
            return
        self._runner.get_loop().call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = self._runner = None

    def _snapshot(self) -> Snapshot:
        unasked = f"no answer within start_timeout_ms {self._config.start_timeout_ms}"
        errors = {
            key: self._errors.get(key, unasked)
            for key in self._entries
            if key in self._errors or key not in self._answers
        }
        if len(errors) == len(self._entries):
            raise DiscoveryError("; ".join(sorted(set(errors.values()))[:MAX_EXAMPLES]))
        stays = {True: "its last endpoints stay", False: "it has no endpoints until then"}
        warnings = [Problem(f"dns {key}", error, stays[key in self._answers]) for key, error in errors.items()]
        warnings += [each for key in self._entries if key in self._answers for each in self._answers[key].warnings]
        return Snapshot(
            {key: Entry(self._answers[key].endpoints) for key in self._entries if key in self._answers}, tuple(warnings)
        )

    # --- in the thread

    def _run(self, runner: asyncio.Runner) -> None:
        with runner:
            runner.run(self._follow())

    async def _follow(self) -> None:
        questions = _Questions(self._config)
        pending = {asyncio.create_task(self._follow_name(questions, *each)) for each in self._entries.items()}
        await self._stopping.wait()
        while pending:
            # Again and again: before Python 3.12 `asyncio.wait_for` loses one that comes with its answer.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=STOP_STEP_S)

    async def _follow_name(self, questions: _Questions, key: str, entry: DnsEntry) -> None:
        failures = 0
        shortest, longest = self._config.min_ttl_ms / 1000, self._config.max_ttl_ms / 1000
        while True:
            answer = await self._ask(questions, key, entry)
            if answer is not None:
                failures = 0
                # Not earlier: a caching server would give the rest of the old answer's time.
                delay_s = min(max(answer.ttl_s, shortest), longest) * random.uniform(1.0, 1.1)
            else:
                failures += 1
                delay_s = min(shortest * 2 ** min(failures - 1, 16), longest) * random.uniform(0.5, 1.0)
            await asyncio.sleep(delay_s)

    async def _ask(self, questions: _Questions, key: str, entry: DnsEntry) -> _Answer | None:
        """Ask for a name, keep what comes, and say so where it is new; None where there is no answer."""
        answer, error = None, None
        try:
            answer = await questions.endpoints(entry)
        except _Unanswered as unanswered:
            error = str(unanswered)
        except Exception as unexpected:
            # Whatever it is, the other names and the next question stand.
            log.exception("%s: %s: unexpected", self.name, entry.name)
            error = f"{entry.name}: {type(unexpected).__name__}: {unexpected}"
        with self._lock:
            before = self._answers.get(key), self._errors.get(key)
            if answer is not None:
                self._answers[key] = answer
                self._errors.pop(key, None)
            elif error is not None:
                self._errors[key] = error
            is_new = before != (self._answers.get(key), self._errors.get(key))
            if all(each in self._answers or each in self._errors for each in self._entries):
                self._asked_all.set()
        if is_new:
            self._changed()
        return answer


def _source_name(config: DnsConfig, entries: Sequence[DnsEntry]) -> str:
    """Return a name that no other source has which may say something else: state is kept under it."""
    first = entries[0]
    name = f"dns:{first.name}" + (f":{first.port}" if first.port else "")
    if not config.entries and not config.servers and first.family == "any":
        return name
    more = f"+{len(entries) - 1}" if len(entries) > 1 else ""
    question = config.model_dump_json(include={"name", "port", "family", "entries", "servers"})
    return f"{name}{more}#{hashlib.blake2b(question.encode(), digest_size=4).hexdigest()}"


class _Questions:
    """Asks DNS servers; made where an event loop runs."""

    def __init__(self, config: DnsConfig) -> None:
        self._config = config
        self._permits = asyncio.Semaphore(MAX_QUESTIONS)

    async def endpoints(self, entry: DnsEntry) -> _Answer:
        """Return the endpoints of a name, in an order that depends on nothing but them.

        Raises:
            _Unanswered: nobody could say.
        """
        if entry.port is None:
            return await self._services(entry)
        found = await self._addresses(entry.name, entry.family)
        return _answer(entry.name, [(address, entry.port, 1) for address in found.data], found, [])

    async def _services(self, entry: DnsEntry) -> _Answer:
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
            raise _Unanswered("dnspython is not installed: pip install 'dl-inference[dns]'") from error
        async with self._permits:
            try:
                answer = await self._resolver().resolve(
                    name,
                    kind,
                    raise_on_no_answer=False,
                    search=not self._config.servers,
                    backend=dns.asyncbackend.get_backend("asyncio"),
                )
            except dns.resolver.NXDOMAIN as error:
                lives = [each.resolve_chaining().minimum_ttl for each in error.kwargs["responses"].values()]
                return _Records((), min(lives), exists=False)
            except (dns.exception.DNSException, OSError) as error:
                raise _Unanswered(f"{name} {kind}: {_reason(error)}") from error
        if answer.response.flags & dns.flags.TC:
            raise _Unanswered(f"{name} {kind}: the answer is cut short by TCP too")
        return _Records(tuple(answer.rrset or ()), answer.chaining_result.minimum_ttl)

    def _resolver(self) -> dns.asyncresolver.Resolver:
        import dns.asyncresolver  # noqa: PLC0415
        import dns.nameserver  # noqa: PLC0415

        resolver = dns.asyncresolver.Resolver(RESOLV_CONF, configure=not self._config.servers)
        if self._config.servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(*_server(each)) for each in self._config.servers]
        resolver.lifetime = self._config.lookup_timeout_ms / 1000
        resolver.timeout = min(resolver.timeout, resolver.lifetime / 2)  # a lost packet gets another try
        return resolver


def _answer(name: str, found: Iterable[tuple[str, int, int]], records: _Records, bad: list[str]) -> _Answer:
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
    return _Answer(endpoints, tuple(warnings), float(records.ttl_s))


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
    return "no answer: " + (", ".join(sorted(reasons)) or "nobody to ask")


async def _together(coroutines: Iterable[Coroutine[Any, Any, Value]]) -> list[Value]:
    """Await all at once; the first failure ends the others."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
