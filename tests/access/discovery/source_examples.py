"""An example of each kind of source, whose content a test can change, spoil, lose and hang: one class for each."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import dns.rcode
from fixtures.dns_server import DnsServer, refuse, silence
from fixtures.registry_client import PatientClient
from fixtures.zookeeper_process import Ensemble

from dl_inference.address import fault
from dl_inference.registry.schema import EndpointDocument, endpoint_path, endpoints_path

Endpoints = Mapping[str, int]
"""address -> weight."""

MODEL = "69"


class Example(ABC):
    """A source that announces one model, MODEL.

    Attributes:
        is_live: whether anything can change in it.
        config: its part of the configuration; its places are relative to the folder.
    """

    is_live: ClassVar[bool] = True
    config: dict[str, Any]

    def __init__(self, folder: Path, zookeeper: Callable[[], Ensemble]) -> None:
        """Make it, without any content.

        Args:
            folder: an empty one of its own.
            zookeeper: gives one that runs, and that several examples use one after the other.
        """
        self.folder = folder

    @abstractmethod
    def put(self, endpoints: Endpoints) -> None:
        """Announce these endpoints, and no others."""

    def bad(self, number: int) -> str:
        """Return an address that `put` takes and nobody can use, another for each number from 1 to 99."""
        forms = ("10.9.{}.9:99999", "10.9.{}.9", "10.9.9.{}9999:1", "bad {}:1", "http://bad{}:1", "::{}:80", "-{}-:80")
        return forms[number % len(forms)].format(number)

    def spoil(self) -> None:
        """Add what cannot be used beside the rest."""
        raise NotImplementedError

    def lose(self) -> None:
        """Make it answer that it cannot."""
        raise NotImplementedError

    def hang(self) -> None:
        """Make it take questions and answer none."""
        raise NotImplementedError

    def recover(self) -> None:
        """End what `lose` or `hang` began."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027  (most have nothing to close)
        """Release what it holds."""


class Static(Example):
    """Content of the configuration itself."""

    is_live = False

    def put(self, endpoints: Endpoints) -> None:
        listed = [{"address": address, "weight": weight} for address, weight in endpoints.items()]
        self.config = {"kind": "static", "entries": {MODEL: {"endpoints": listed}}}


class _File(Example):
    """A file in which `line` stands for the model and `bad_line` for nothing."""

    name: ClassVar[str]
    bad_line: ClassVar[str]

    def __init__(self, folder: Path, zookeeper: Callable[[], Ensemble]) -> None:
        super().__init__(folder, zookeeper)
        self.config = {"kind": self.name, "path": "list.txt"}
        self._path = folder / "list.txt"
        self._text = ""

    @abstractmethod
    def line(self, endpoints: Endpoints) -> str:
        """Return the model's line."""

    def put(self, endpoints: Endpoints) -> None:
        self._write(self.line(endpoints))

    def spoil(self) -> None:
        self._write(self._text + self.bad_line)

    def lose(self) -> None:
        self._path.unlink()

    def hang(self) -> None:
        """Put a pipe there: opening it the usual way waits for a writer."""
        self._path.unlink()
        os.mkfifo(self._path)

    def recover(self) -> None:
        self._path.unlink(missing_ok=True)
        self._write(self._text)

    def _write(self, text: str) -> None:
        self._text = text
        (self.folder / "new").write_text(text)
        (self.folder / "new").replace(self._path)


class Nodefile(_File):
    """dl_inference's list."""

    name = "nodefile"
    bad_line = "garbage\n"

    def line(self, endpoints: Endpoints) -> str:
        return f"{MODEL}=1000,{','.join(f'{address}*{weight}' for address, weight in endpoints.items())}\n"


class YamlFile(_File):
    """A YAML file in our form."""

    name = "file"
    bad_line = "other: garbage\n"

    def line(self, endpoints: Endpoints) -> str:
        listed = [f"{{address: '{address}', weight: {weight}}}" for address, weight in endpoints.items()]
        return f"{MODEL}: {{endpoints: [{', '.join(listed)}]}}\n"


class Dns(Example):
    """SRV records."""

    def __init__(self, folder: Path, zookeeper: Callable[[], Ensemble]) -> None:
        super().__init__(folder, zookeeper)
        self._server = DnsServer()
        self._server.ttl = 0
        self.config = {
            "kind": "dns",
            "entries": {MODEL: {"name": "_grpc._tcp.test"}, "other": {"name": "other.test", "port": 1}},
            "servers": [self._server.address],
            "min_ttl_ms": 50,
            "max_ttl_ms": 200,
            "lookup_timeout_ms": 1_000,
        }

    def put(self, endpoints: Endpoints) -> None:
        services, hosts = [], {("other.test.", "A"): ["10.0.0.9"]}
        for number, (address, weight) in enumerate(endpoints.items()):
            host, _, port = address.rpartition(":")
            services.append(f"0 {weight} {port} host{number}.test.")
            hosts[f"host{number}.test.", "A"] = [host]
        self._server.records = {**hosts, ("_grpc._tcp.test.", "SRV"): services}

    def bad(self, number: int) -> str:
        return f"224.0.0.{number}:80"

    def spoil(self) -> None:
        self._server.records = {**self._server.records, ("other.test.", "A"): ["0.0.0.0"]}

    def lose(self) -> None:
        self._server.behaviour["*"] = refuse(dns.rcode.SERVFAIL)

    def hang(self) -> None:
        self._server.behaviour["*"] = silence

    def recover(self) -> None:
        self._server.behaviour.clear()

    def close(self) -> None:
        self._server.close()


class Zookeeper(Example):
    """Documents in Debian's ZooKeeper, which a client of the test's own writes."""

    def __init__(self, folder: Path, zookeeper: Callable[[], Ensemble]) -> None:
        super().__init__(folder, zookeeper)
        self._ensemble = zookeeper()
        self._path = f"/{folder.name}"
        self._is_lost = self._is_frozen = False
        self._client = PatientClient(self._ensemble.hosts)
        # A session as short as can be, so that loss is seen soon.
        self.config = {
            "kind": "zookeeper",
            "hosts": self._ensemble.hosts,
            "path": self._path,
            "session_timeout_ms": 800,
        }

    def put(self, endpoints: Endpoints) -> None:
        parent = f"{self._path}{endpoints_path(MODEL)}"
        self._client.ensure_path(parent)
        for child in self._client.get_children(parent):
            self._client.delete(f"{parent}/{child}")
        for address, weight in endpoints.items():
            data = b"garbage"
            if not fault(address):
                data = EndpointDocument(address=address, weight=weight, model=MODEL, protocol="tfs").dump()
            self._client.create(f"{self._path}{endpoint_path(MODEL, address)}", data)

    def spoil(self) -> None:
        self._client.create(f"{self._path}{endpoint_path(MODEL, '10.9.9.9:1')}", b"garbage")

    def lose(self) -> None:
        self._ensemble.servers[0].kill()
        self._is_lost = True

    def hang(self) -> None:
        self._ensemble.servers[0].freeze()
        self._is_frozen = True

    def recover(self) -> None:
        if self._is_frozen:
            self._ensemble.servers[0].thaw()
        if self._is_lost:
            self._ensemble.servers[0].restart()
        self._is_lost = self._is_frozen = False
        self._ensemble.await_ready()

    def close(self) -> None:
        self.recover()
        self._client.end()


EXAMPLES: dict[str, type[Example]] = {
    "dns": Dns,
    "file": YamlFile,
    "nodefile": Nodefile,
    "static": Static,
    "zookeeper": Zookeeper,
}
"""Kind -> its example. A new kind brings its own."""
