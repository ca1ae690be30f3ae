"""A registry written by hand, and a source that follows it, for tests with a real ZooKeeper."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry_client import LIMIT_S, PatientClient

from access.discovery.base import DiscoveryError, Snapshot
from access.discovery.zookeeper import ZookeeperConfig, ZookeeperResolver
from dl_inference.registry import schema


class Hand:
    """Writes into one registry."""

    def __init__(self, hosts: str, chroot: str, **options: Any) -> None:
        """Connect."""
        self.hosts, self.chroot = hosts, chroot
        self.client = PatientClient(hosts, **options)

    def close(self) -> None:
        """Disconnect."""
        self.client.end()

    def path(self, model: str, address: str) -> str:
        """Return an endpoint's path."""
        return self.chroot + schema.endpoint_path(model, address)

    def announce(self, model: str, address: str, **more: Any) -> str:
        """Write an endpoint's document; return its path."""
        path = self.path(model, address)
        self.client.put(path, document(model, address, **more))
        return path

    def release(self, model: str, revision: int, **weights: int) -> str:
        """Write a release document: ``release("digits", 1, v3=90, v4=10)``; return its path."""
        releases = {name[1:]: schema.Release(phase="production", weight=weight) for name, weight in weights.items()}
        path = self.chroot + schema.release_path(model)
        self.client.put(path, schema.ReleaseDocument(model=model, revision=revision, releases=releases).dump())
        return path


def document(model: str, address: str, **more: Any) -> bytes:
    """Return an endpoint's document."""
    return schema.EndpointDocument(**{"protocol": "tfs", **more, "model": model, "address": address}).dump()


class Followed:
    """A source that follows, with all that it has said."""

    def __init__(self, hosts: str, chroot: str, folder: Path = Path("/"), **config: Any) -> None:
        """Make it; ``with`` starts and stops it."""
        settings = {"kind": "zookeeper", "hosts": hosts, "path": chroot, "session_timeout_ms": 4000, **config}
        self.resolver = ZookeeperResolver.create(ZookeeperConfig.model_validate(settings), folder)
        self.said: list[Snapshot | DiscoveryError] = []
        self._news = threading.Condition()

    def __enter__(self) -> Followed:
        """Start."""
        self.resolver.start(self._changed)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.resolver.stop()

    def read(self) -> Snapshot | DiscoveryError:
        """Return what it says now."""
        try:
            return self.resolver.read()
        except DiscoveryError as error:
            return error

    def wait(self, wanted: Callable[[Snapshot], object], timeout_s: float = LIMIT_S) -> Snapshot:
        """Wait until it has told of a state that is wanted; one that lacks what is asked about is not."""

        def is_wanted(said: Snapshot | DiscoveryError) -> object:
            try:
                return isinstance(said, Snapshot) and wanted(said)
            except (KeyError, IndexError, AttributeError):
                return False

        found = self._wait(is_wanted, timeout_s)
        assert isinstance(found, Snapshot)
        return found

    def wait_error(self, text: str = "", timeout_s: float = LIMIT_S) -> str:
        """Wait until it has told of an error with a text in it."""
        return str(self._wait(lambda said: isinstance(said, DiscoveryError) and text in str(said), timeout_s))

    def _changed(self) -> None:
        said = self.read()
        with self._news:
            self.said.append(said)
            self._news.notify_all()

    def _wait(
        self, wanted: Callable[[Snapshot | DiscoveryError], object], timeout_s: float
    ) -> Snapshot | DiscoveryError:
        deadline = time.monotonic() + timeout_s
        with self._news:
            while not (self.said and wanted(self.said[-1])):
                assert self._news.wait(deadline - time.monotonic()), f"not within {timeout_s} s: {self.said}"
            return self.said[-1]


def addresses(snapshot: Snapshot, model: str) -> list[str]:
    """Return the addresses of a model's endpoints."""
    return [endpoint.address for endpoint in snapshot.entries[model].endpoints]
