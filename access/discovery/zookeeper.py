"""The registry in ZooKeeper as a source: what its endpoints and releases say, followed as it changes."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from access.discovery.base import Announced, Entry, LiveSourceConfig, Resolver, Snapshot, SourceConfig
from access.errors import DiscoveryError
from access.fields import Secret, problem
from access.files import FileError, read_text
from dl_inference.problem import Problem
from dl_inference.registry.following.tree import View
from dl_inference.registry.schema import AccessDocument, EndpointDocument, ReleaseDocument, SchemaError
from dl_inference.registry.zookeeper import (
    DEFAULT_CHROOT,
    RegistryError,
    Zookeeper,
    chroot_fault,
    hosts_fault,
    login,
    missing,
)

if TYPE_CHECKING:
    from dl_inference.registry.following.follower import Follower

MAX_WARNINGS = 100
# Longest wait for an answer about the releases' history, which only people want to see.
HISTORY_TIMEOUT_MS = 5000
MAX_PASSWORD_BYTES = 4096


def _checked_hosts(hosts: str) -> str:
    if reason := hosts_fault(hosts):
        raise problem(reason, "write host1:2181,host2:2181,host3:2181")
    return hosts


def _checked_path(path: str) -> str:
    if reason := chroot_fault(path):
        raise problem(reason)
    return path


class ZookeeperConfig(LiveSourceConfig):
    """Endpoints that announce themselves, and releases, in ZooKeeper: `pip install 'dl-inference[zookeeper]'`.

    Every change is followed, within a second; what belongs together comes together. A document that cannot be used
    (no JSON, too large, another model or address than its path says, another protocol than most of its model) is
    skipped and named in the log and in `dl-inference status`; the rest stands. A release document that cannot be used
    changes nothing: the last good one stays.

    `username` and what follows it can be given by the environment instead, as `DL_INFERENCE_REGISTRY_USERNAME`,
    `_PASSWORD`, `_SASL`, `_CA_FILE`, `_CERTIFICATE_FILE` and `_KEY_FILE`. More in [ZooKeeper](zookeeper.md).
    """

    hosts: Annotated[str, AfterValidator(_checked_hosts)] = Field(
        description="the ensemble: `host1:2181,host2:2181`; without a port it is 2181"
    )
    path: Annotated[str, AfterValidator(_checked_path)] = Field(
        DEFAULT_CHROOT, description="the registry's znode, all of it is under; it need not exist yet"
    )
    session_timeout_ms: Annotated[int, Field(ge=400, le=3_600_000)] = Field(
        10_000, description="a server that is silent for two thirds of this time is left for another, ms"
    )
    username: str | None = Field(None, description="login of ZooKeeper's digest scheme, or of `sasl`")
    password: Secret | None = Field(None, description="goes with it; better in `password_file` or in the environment")
    password_file: str | None = Field(
        None,
        description="file that holds the password, read at each login; relative paths start at the configuration's "
        "folder",
    )
    sasl: Literal["DIGEST-MD5", "GSSAPI"] | None = Field(
        None, description="SASL mechanism; null: none. `GSSAPI` takes the ticket of the process"
    )
    tls: bool = Field(False, description="connect by TLS, and check the servers' names")
    ca_file: str | None = Field(None, description="certificates of the authorities to trust, PEM; null: the system's")
    certificate_file: str | None = Field(None, description="our own certificate, PEM; goes with `key_file`")
    key_file: str | None = Field(None, description="its key, PEM")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise problem("there is a `password` and a `password_file`", "keep the file")
        if not self.tls and (self.ca_file or self.certificate_file or self.key_file):
            raise problem("certificates are given, but not `tls: true`")
        if bool(self.certificate_file) != bool(self.key_file):
            raise problem("`certificate_file` and `key_file` go together")
        return self


class ZookeeperResolver(Resolver):
    """Follows one registry."""

    def __init__(self, place: Zookeeper, password_file: Path | None, start_timeout_ms: int) -> None:
        self._place, self._password_file = place, password_file
        self._start_timeout_s = start_timeout_ms / 1000
        self._deadline = 0.0
        self._follower: Follower | None = None
        self._missing = "it has not been started"
        self._entries: dict[str, tuple[View, Entry]] = {}
        self._lock = threading.Lock()
        self.name = f"zookeeper:{place.url}"

    @classmethod
    def create(cls, config: SourceConfig, folder: Path) -> Self:
        """Make the resolver; what `config` leaves open the environment may say."""
        config = ZookeeperConfig.model_validate(config)
        given = login(os.environ)
        for name in ("username", "sasl"):
            given[name] = getattr(config, name) or given.get(name)
        for name in ("ca_file", "certificate_file", "key_file"):
            if path := getattr(config, name):
                given[name] = str(folder / path)
        if config.password is not None:
            given["password"] = config.password.get_secret_value()
        place = Zookeeper(
            config.hosts, config.path, tls=config.tls, session_timeout_s=config.session_timeout_ms / 1000, **given
        )
        return cls(place, folder / config.password_file if config.password_file else None, config.start_timeout_ms)

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to follow, without waiting."""
        try:
            from dl_inference.registry.following.follower import Follower  # noqa: PLC0415  (needs an extra)
        except ModuleNotFoundError as error:
            self._missing = str(missing(error))
            return
        self._follower = Follower(replace(self._place, password=None), self._password, changed)
        self._deadline = time.monotonic() + self._start_timeout_s
        self._follower.start()

    def read(self) -> Snapshot:
        """Return the current state; only at the start, wait for it, until `start_timeout_ms` after `start`.

        Raises:
            DiscoveryError: ZooKeeper does not answer, refuses the login, or is not to be read; or there is no kazoo.
        """
        if self._follower is None:
            raise DiscoveryError(f"{self._place.url}: {self._missing}")
        try:
            reading = self._follower.read(max(0.0, self._deadline - time.monotonic()))
        except RegistryError as error:
            raise DiscoveryError(str(error)) from error
        with self._lock:
            # What did not change is the same object again, and its entry is kept.
            self._entries = {name: self._entry(name, view) for name, view in reading.views.items()}
            entries = {name: entry for name, (_, entry) in self._entries.items()}
        faults = [*reading.faults, *(fault for view in reading.views.values() for fault in view.faults)]
        warnings = [Problem(self._place.chroot + fault.path, fault.message) for fault in faults[:MAX_WARNINGS]]
        if len(faults) > MAX_WARNINGS:
            warnings.append(Problem(self._place.url, f"{len(faults) - MAX_WARNINGS} more are not used"))
        return Snapshot(entries, tuple(warnings))

    def report(self, document: AccessDocument) -> None:
        """Say in the registry what has been applied, for `dl-inference release show`; without waiting."""
        if self._follower is not None:
            self._follower.report(document.dump())

    def release_history(self, models: Sequence[str], last: int) -> Mapping[str, Sequence[ReleaseDocument]] | None:
        """Read what the registry keeps, in a session of its own."""
        from dl_inference.registry.connection import Connection  # noqa: PLC0415  (needs an extra)
        from dl_inference.registry.releases.nodes import ReleaseNodes  # noqa: PLC0415

        try:
            with Connection(replace(self._place, password=self._password()), HISTORY_TIMEOUT_MS) as connection:
                nodes = ReleaseNodes(connection)
                found = {model: nodes.history(model, last) for model in models}
        except RegistryError as error:
            raise DiscoveryError(str(error)) from error
        # What cannot be read was never followed either.
        return {name: [it for it in every if not isinstance(it, SchemaError)] for name, every in found.items()}

    def stop(self) -> None:
        """End the session and its threads, within a few seconds whatever ZooKeeper does."""
        if self._follower is not None:
            self._follower.stop()

    def _entry(self, name: str, view: View) -> tuple[View, Entry]:
        known = self._entries.get(name)
        return known if known is not None and known[0] is view else (view, entry_of(view))

    def _password(self) -> str | None:
        if self._password_file is None:
            return self._place.password
        try:
            return read_text(self._password_file, MAX_PASSWORD_BYTES).rstrip("\r\n")
        except FileError as error:
            raise RegistryError(f"password_file: {error}") from error


def entry_of(view: View) -> Entry:
    """Return what a model's view is for the access service."""
    return Entry(
        tuple(_announced(document) for document in view.endpoints),
        protocol=view.protocol,
        release=view.release,
        leaving=view.leaving,
        is_release_unknown=view.is_release_unknown,
    )


def _announced(document: EndpointDocument) -> Announced:
    return Announced(
        address=document.address,
        weight=document.weight,
        version=document.version,
        versions=document.versions,
        labels=document.labels,
    )
