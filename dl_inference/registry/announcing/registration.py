"""What a server is told about the registry (options and environment), and what it says about itself there.

A server makes an `Announcement` and tells it what it serves. Where no registry is named, that does nothing, and
nothing is imported for it.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dl_inference.registry import zookeeper
from dl_inference.registry.announcing import reachable
from dl_inference.registry.schema import (
    EndpointAddress,
    EndpointCapacity,
    EndpointDocument,
    EndpointWeight,
    Protocol,
)
from dl_inference.registry.variables import ANNOUNCING
from dl_inference.registry.zookeeper import RegistryError, Zookeeper
from dl_inference.variables import variable

if TYPE_CHECKING:
    from dl_inference.registry.announcing.announcer import Announcer

log = logging.getLogger("registry")

GOODBYE_LIMIT_S = 2.0
"""How long the end of a server waits for a registry that does not take the goodbye."""
CLOSE_LIMIT_S = 2.0


class Registration(BaseModel):
    """Where and how a server announces itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    place: Zookeeper
    advertise: EndpointAddress | None = Field(None, description="address that others call it by")
    weight: EndpointWeight = Field(1, description="share of the calls among the endpoints of a model")
    capacity: EndpointCapacity | None = Field(None, description="calls at once that it can take")
    goodbye_ms: Annotated[int, Field(ge=0, le=600_000)] = Field(
        1_000, description="how long it goes on serving after it has announced that it drains, ms"
    )


def read(environment: Mapping[str, str], **flags: Any) -> Registration | None:
    """Return what options and environment say about the registry; None when they name none.

    Args:
        environment: DL_INFERENCE_REGISTER, _ADVERTISE, _WEIGHT, _CAPACITY, _GOODBYE_MS and the login
            (`zookeeper.parse_url`). An empty variable counts as none.
        flags: `register`, `advertise`, `weight`, `capacity`; they win. None: not given.

    Raises:
        RegistryError: a value does not fit; names the option or the variable.
    """
    given: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in ANNOUNCING:
        name_of_variable = variable(name)
        if flags.get(name) is not None:
            given[name], origins[name] = flags[name], f"--{name}"
        elif environment.get(name_of_variable):
            given[name], origins[name] = environment[name_of_variable], name_of_variable
    if "register" not in given:
        lonely = [origin for origin in origins.values() if origin.startswith("--")]
        if lonely:
            raise RegistryError(f"{lonely[0]} says something about the registry: name it with --register")
        return None
    place = zookeeper.parse_url(given.pop("register"), environment)
    try:
        return Registration.model_validate({**given, "place": place})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise RegistryError(f"{origins[name]}={given[name]}: {first['msg'].removeprefix('Value error, ')}") from None


@dataclass(frozen=True)
class Served:
    """One model that a server answers for, under each of its names.

    Attributes:
        names: route keys.
        protocol: whose messages it answers first of all.
        version: of calls that ask for none.
        versions: others that answer when asked for.
        labels: that it knows itself.
    """

    names: tuple[str, ...]
    protocol: Protocol
    version: str
    versions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class Announcement:
    """What one server says about itself. Constructing starts nothing; thread-safe.

    Args:
        registration: where; None: nowhere, and every method does nothing.
        program: its name, for the documents.

    Raises:
        RegistryError: what the registry needs is not installed.
    """

    def __init__(self, registration: Registration | None, program: str) -> None:
        self._registration = registration
        self._announcer: Announcer | None = None
        self._host, self._index, self._address = "", 0, ""
        self._told: Sequence[Served] | None = None
        self._faults: set[str] = set()
        if registration is not None:
            try:
                from dl_inference.registry.announcing.announcer import Announcer  # noqa: PLC0415  (kazoo is an extra)
            except ModuleNotFoundError as error:
                raise zookeeper.missing(error) from error
            self._announcer = Announcer(
                registration.place, program=f"{program} {_version()}", linger_s=registration.goodbye_ms / 1000
            )

    @property
    def is_on(self) -> bool:
        """Whether there is a registry."""
        return self._announcer is not None

    @property
    def goodbye_s(self) -> float:
        """Return how long to serve on after a goodbye, s."""
        return 0.0 if self._registration is None else self._registration.goodbye_ms / 1000

    def check(self, listening: Sequence[str], *served: Served) -> None:
        """Look at what will be said before anything takes time; to be called before `open`.

        Args:
            listening: what it will listen on; port 0 is fine.
            served: what it will serve.

        Raises:
            RegistryError: no address for others, or a name that the registry does not take.
        """
        if self._registration is not None:
            if self._registration.advertise is None:
                self._host, self._index = reachable.host(listening, self._registration.place)
            address = self._registration.advertise or f"{self._host}:1"
            faults = [text for each in served for text in _documents(self._registration, address, each)[1]]
            if faults:
                raise RegistryError("; ".join(faults))

    def open(self, bound: Sequence[str]) -> None:
        """Take the addresses that the server listens on, in the order of those that were checked."""
        if self._registration is None:
            return
        found = f"{self._host}:{bound[self._index].rpartition(':')[2]}"
        self._address = self._registration.advertise or found
        place = self._registration.place
        log.info("announcing %s in %s", self._address, place.url)
        is_elsewhere = not all(reachable.is_loopback(f"{host}:{port}") for host, port in place.servers)
        if reachable.is_loopback(self._address) and is_elsewhere:
            log.warning(
                "%s can be called from this machine only: listen on 0.0.0.0, or say --advertise HOST:PORT",
                self._address,
            )

    def tell(self, served: Sequence[Served]) -> None:
        """Say the whole of what is served from now on; without waiting. A name that cannot be announced is logged."""
        if self._announcer is None or self._registration is None or served == self._told:
            return
        self._told = served
        found = [_documents(self._registration, self._address, each) for each in served]
        self._announcer.announce(document for documents, _ in found for document in documents)
        faults = {text for _, texts in found for text in texts}
        for text in sorted(faults - self._faults):
            log.error("%s", text)
        self._faults = faults

    def say_goodbye(self, limit_s: float = GOODBYE_LIMIT_S) -> bool:
        """Say that no more calls should come, and wait until that is written; then serve on for `goodbye_s`.

        Returns:
            Whether it is written within `limit_s`; False also where there is no registry, or nothing was announced.
        """
        if self._announcer is None:
            return False
        is_written = self._announcer.goodbye(limit_s)
        if is_written:
            log.info("announced the drain in the registry: serving for %.1f s more", self.goodbye_s)
        return is_written

    def close(self) -> None:
        """Take everything away; waits for at most CLOSE_LIMIT_S."""
        if self._announcer is not None:
            self._announcer.close(CLOSE_LIMIT_S)


def _documents(registration: Registration, address: str, served: Served) -> tuple[list[EndpointDocument], list[str]]:
    """Return a document for each name, and what is wrong with those that cannot have one."""
    documents, faults = [], []
    for name in dict.fromkeys(served.names):
        try:
            documents.append(
                EndpointDocument(
                    address=address,
                    protocol=served.protocol,
                    model=name,
                    version=served.version,
                    versions=served.versions,
                    labels=served.labels,
                    weight=registration.weight,
                    capacity=registration.capacity,
                )
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            reason = first["msg"].removeprefix("Value error, ")
            faults.append(f"{first['input']!r} cannot be announced as {first['loc'][0]}: {reason}")
    return documents, faults


def _version() -> str:
    try:
        return importlib.metadata.version("dl-inference")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "(not installed)"
