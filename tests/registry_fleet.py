"""A registry for tests: one ZooKeeper for a module, a chroot for each test, and servers that announce themselves."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processes import Process
from registry_client import PatientClient
from zookeeper_process import Ensemble, start_ensemble

from dl_inference.registry.schema import ACCESS, AccessDocument, EndpointDocument, endpoint_path
from dl_inference.registry.zookeeper import parse_url

_CHROOTS = itertools.count(1)


@contextlib.contextmanager
def one_zookeeper(folder: Path) -> Iterator[Ensemble]:
    """Run one server for as long as the context lasts."""
    started: list[Process] = []

    def start(command: list[str | Path]) -> Process:
        started.append(Process(command))
        return started[-1]

    try:
        yield start_ensemble(start, folder, 1)
    finally:
        for process in started:
            process.kill()


class Fleet:
    """The programs of one chroot, played by a session of the test's own."""

    def __init__(self, hosts: str) -> None:
        self.url = f"zk://{hosts}/fleet{next(_CHROOTS)}/of/tests"
        self.place = parse_url(self.url, {})
        self.kazoo = PatientClient(hosts)

    def announce(self, model: str, version: str | None, address: str, **more: Any) -> None:
        """Announce an endpoint, or change what it says."""
        values = {"protocol": "tfs", "model": model, "address": address, "version": version, **more}
        document = EndpointDocument.model_validate(values)
        self.put(endpoint_path(model, address), document.dump(), ephemeral=True)

    def leave(self, model: str, address: str) -> None:
        """Take an endpoint away."""
        self.kazoo.delete(self.place.chroot + endpoint_path(model, address))

    def apply(self, instance: str, **applied: tuple[int, str]) -> None:
        """Say what an access service has applied."""
        document = AccessDocument(listen=("10.0.0.9:8500",), host="gate", applied=applied)
        self.put(f"{ACCESS}/{instance}", document.dump(), ephemeral=True)

    def put(self, path: str, data: bytes, *, ephemeral: bool = False) -> None:
        """Write anything anywhere."""
        self.kazoo.put(self.place.chroot + path, data, ephemeral=ephemeral)

    def get(self, path: str) -> bytes | None:
        """Read anything; None where nothing is."""
        place = self.place.chroot + path
        return self.kazoo.get(place)[0] if self.kazoo.exists(place) else None

    def names(self, path: str) -> list[str]:
        """Return what is below a path."""
        place = self.place.chroot + path
        return sorted(self.kazoo.get_children(place)) if self.kazoo.exists(place) else []

    def close(self) -> None:
        """End the session, and with it what it announced."""
        self.kazoo.end()
