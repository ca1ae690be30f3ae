"""An access service that follows ZooKeeper under an open loop of 300 calls/s: its failures cost no call."""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.calls import tfs_request, unforgiven
from fixtures.access_process import TFS, Access, wait_until
from fixtures.processes import Endpoint, Load, Process
from fixtures.registry_client import PatientClient
from fixtures.zookeeper_process import Ensemble, start_ensemble

from dl_inference.registry import schema

RATE = 300
# Calls between two steps of a case.
STEP = 150
SESSION_S = 2.0
FOLLOWED_S = 1.0
"""Issue: a change is routed within 1 s."""


class Registry:
    """The test's own session: it announces endpoints that exist elsewhere."""

    def __init__(self, hosts: str, chroot: str) -> None:
        self.hosts, self.chroot = hosts, chroot
        self.kazoo = PatientClient(hosts, timeout=SESSION_S)

    def announce(self, address: str, model: str = "m", version: str = "1", **more: Any) -> None:
        """Add or change an endpoint."""
        document = schema.EndpointDocument.model_validate(
            {"schema": 1, "address": address, "protocol": "tfs", "model": model, "version": version, **more}
        )
        self.kazoo.put(self.chroot + schema.endpoint_path(model, address), document.dump(), ephemeral=True)

    def leave(self, address: str, model: str = "m") -> None:
        """Say goodbye, as a server does at the start of its drain."""
        self.announce(address, model, state="draining")

    def vanish(self, address: str, model: str = "m") -> None:
        """Go, as a server does at the end of its drain."""
        self.kazoo.delete(self.chroot + schema.endpoint_path(model, address))

    def release(self, revision: int, releases: dict[str, Any], model: str = "m", **more: Any) -> None:
        """Write a release document."""
        text = json.dumps({"schema": 1, "model": model, "revision": revision, "releases": releases, **more}).encode()
        self.kazoo.put(self.chroot + schema.release_path(model), text)

    def expire(self) -> None:
        """Have the session expired: whoever closes it elsewhere ends it for all."""
        PatientClient(self.hosts, client_id=self.kazoo.client_id).end()

    def close(self) -> None:
        """End the session, and what it announced."""
        self.kazoo.end()


class Scene:
    """Three endpoints in a registry, an access service that follows it, and load."""

    def __init__(self, fleet: Fleet, endpoints: list[Endpoint], access: Access) -> None:
        access.wait_live_model("m")
        self.registry, self.endpoints, self.access = fleet.registry, endpoints, access
        self.load = fleet.load(access)
        self.pass_calls()

    def pass_calls(self, number: int = STEP) -> None:
        """Wait until so many more calls have been answered."""
        goal = self.access.counter("dl_requests_total") + number
        wait_until(lambda: self.access.counter("dl_requests_total") >= goal, f"{number} more calls are answered", 30)

    def source(self) -> dict[str, Any]:
        """Return what /status says of the registry."""
        found: dict[str, Any] = self.access.status()["control"]["sources"][0]
        return found

    def end(self, *killed: Endpoint) -> dict[str, Any]:
        """End the load; assert that no call failed, but for one in the midst of its answer at each kill."""
        report = self.load.stop()
        failed = unforgiven(report, killed)
        assert not failed, failed
        assert report["corrupt"] == 0
        assert report["calls"] >= STEP
        return report


def routed(access: Access, cluster: str = "m") -> set[str]:
    found = [each for each in access.status()["clusters"] if each["name"] == cluster]
    return {endpoint["address"] for each in found for endpoint in each["endpoints"]}


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(command: Any, **options: Any) -> Process:
        started.append(Process(command, **options))
        return started[-1]

    yield begin
    for process in reversed(started):
        process.kill()


@pytest.fixture(scope="module")
def ensemble(start: Callable[..., Process], tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    return start_ensemble(start, tmp_path_factory.mktemp("ensemble"), 3)


@pytest.fixture
def chroot(request: pytest.FixtureRequest) -> str:
    return f"/{request.node.name.split('[')[0]}"


@pytest.fixture
def registry(ensemble: Ensemble, chroot: str) -> Iterator[Registry]:
    ensemble.await_ready()
    opened = Registry(ensemble.hosts, chroot)
    yield opened
    opened.close()


class Fleet:
    """What a test starts: all of it belongs to one chroot of the ensemble."""

    def __init__(self, ensemble: Ensemble, registry: Registry, starters: tuple[Any, Any, Any], folder: Path) -> None:
        self.ensemble, self.registry, self._folder = ensemble, registry, folder
        self._start_access, self._start_endpoint, self._start_load = starters

    def access(self, name: str, hosts: str | None = None, **more: Any) -> Access:
        """Start an access service whose saved state has a name."""
        source = {"kind": "zookeeper", "hosts": hosts or self.ensemble.hosts, "path": self.registry.chroot}
        config = {
            "discovery": [{**source, "session_timeout_ms": int(SESSION_S * 1000), **more}],
            "state_dir": str(self._folder / name),
            "cluster_defaults": {"attempt_timeout_ms": 300},
        }
        access: Access = self._start_access(config)
        return access

    def endpoint(self, **more: Any) -> Endpoint:
        """Start an endpoint; nobody announces it."""
        endpoint: Endpoint = self._start_endpoint("--echo", "yes", **more)
        return endpoint

    def load(self, access: Access) -> Load:
        """Start load on an access service."""
        options = ("--rate", str(RATE), "--seconds", "90", "--deadline-ms", "1000", "--echo", "yes")
        load: Load = self._start_load(access.address, TFS, tfs_request("m", 1024), *options)
        return load


@pytest.fixture
def starters(start_access: Any, start_endpoint: Any, start_load: Any) -> tuple[Any, Any, Any]:
    return start_access, start_endpoint, start_load


@pytest.fixture
def fleet(ensemble: Ensemble, registry: Registry, starters: tuple[Any, Any, Any], tmp_path: Path) -> Fleet:
    return Fleet(ensemble, registry, starters, tmp_path)


@pytest.fixture
def scene(fleet: Fleet) -> Scene:
    endpoints = [fleet.endpoint() for _ in range(3)]
    for endpoint in endpoints:
        fleet.registry.announce(endpoint.address)
    return Scene(fleet, endpoints, fleet.access("first"))


def test_no_call_fails_when_the_leader_is_killed(scene: Scene, fleet: Fleet) -> None:
    leader = fleet.ensemble.leader
    leader.kill()
    scene.pass_calls(2 * STEP)
    added = fleet.endpoint()
    scene.registry.announce(added.address)
    wait_until(lambda: added.address in routed(scene.access), "what joined under the new leader is routed", 30)
    leader.restart()
    scene.pass_calls()
    scene.end()


def test_no_call_fails_while_the_whole_ensemble_hangs(scene: Scene, ensemble: Ensemble) -> None:
    for server in ensemble.servers:
        server.freeze()
    try:
        wait_until(lambda: not scene.source()["ok"], "the silence is noticed", 30)
        scene.pass_calls(2 * STEP)
        assert routed(scene.access) == {each.address for each in scene.endpoints}
        assert scene.access.get("/ready").startswith("ready")
    finally:
        for server in ensemble.servers:
            server.thaw()
    wait_until(lambda: scene.source()["ok"], "the registry is back", 60)
    scene.pass_calls()
    scene.end()


def test_no_call_fails_when_the_whole_ensemble_is_killed_and_started_again(scene: Scene, ensemble: Ensemble) -> None:
    for server in ensemble.servers:
        server.kill()
    wait_until(lambda: not scene.source()["ok"], "the loss is noticed", 30)
    scene.pass_calls(2 * STEP)
    for server in ensemble.servers:
        server.restart()
    ensemble.await_ready()
    wait_until(lambda: scene.source()["ok"], "the registry is back", 60)
    scene.pass_calls()
    scene.end()


def test_no_call_fails_when_every_session_expires(scene: Scene) -> None:
    addresses = {each.address for each in scene.endpoints}
    scene.registry.expire()
    children = scene.registry.chroot + schema.endpoints_path("m")
    wait_until(lambda: scene.registry.kazoo.get_children(children) == [], "the announcements are gone", 30)
    wait_until(lambda: scene.source()["skipped"], "the loss is seen, and not believed", 10)
    scene.pass_calls(2 * STEP)
    assert routed(scene.access) == addresses
    for address in addresses:
        scene.registry.announce(address)
    wait_until(lambda: not scene.source()["skipped"], "the endpoints are back", 10)
    scene.pass_calls()
    scene.end()


def test_no_call_fails_while_a_hundred_endpoints_join_and_leave(
    scene: Scene, fleet: Fleet, record_property: Callable[[str, object], None]
) -> None:
    # Every address of 127.0.0.0/8 leads to a program that listens on all.
    everywhere = fleet.endpoint(host="0.0.0.0")
    port = everywhere.address.rpartition(":")[2]
    addresses = [f"127.0.1.{number}:{port}" for number in range(1, 101)]
    delays = []
    for address in addresses:
        begin = time.monotonic()
        scene.registry.announce(address)
        wait_until(lambda address=address: address in routed(scene.access), f"{address} is routed")
        delays.append(time.monotonic() - begin)
    for address in addresses:
        begin = time.monotonic()
        scene.registry.leave(address)
        wait_until(lambda address=address: address not in routed(scene.access), f"{address} is routed no more")
        delays.append(time.monotonic() - begin)
        scene.registry.vanish(address)
    scene.end()
    record_property("seconds until a change is routed", {"median": statistics.median(delays), "maximum": max(delays)})
    print(f"until a change is routed: median {statistics.median(delays):.3f} s, maximum {max(delays):.3f} s")
    assert max(delays) <= FOLLOWED_S


def test_no_call_fails_over_a_thousand_releases(scene: Scene) -> None:
    for version, endpoint in zip("123", scene.endpoints, strict=True):
        scene.registry.announce(endpoint.address, version=version)
    phases = ["production", "canary", "staging"]
    for revision in range(1, 1001):
        releases = {
            version: {"phase": phases[(index + revision) % 3], "weight": 1 + (revision * 7 + index) % 100}
            for index, version in enumerate("123")
        }
        scene.registry.release(revision, releases)
    wait_until(lambda: routed(scene.access, "m@1"), "releases are routed")
    scene.pass_calls()
    scene.end()


def test_an_access_service_starts_from_its_saved_state_while_the_registry_is_away(scene: Scene, fleet: Fleet) -> None:
    scene.end()
    scene.access.terminate()
    scene.access.process.wait()
    servers = fleet.ensemble.servers
    for server in servers:
        server.kill()
    after = Scene(fleet, scene.endpoints, fleet.access("first", start_timeout_ms=500))
    after.pass_calls(2 * STEP)
    assert after.source()["origin"] == "saved"
    for server in servers:
        server.restart()
    fleet.ensemble.await_ready()
    wait_until(lambda: after.source()["origin"] == "source", "the registry is followed again", 60)
    after.pass_calls()
    after.end()


def test_an_access_service_that_is_announced_as_an_endpoint_does_not_call_itself(scene: Scene) -> None:
    scene.registry.announce(scene.access.address)
    said = f"{scene.access.address} is this access service itself"
    wait_until(lambda: said in str(scene.access.status()["control"]["warnings"]), "it is named")
    scene.pass_calls()
    assert scene.access.address not in routed(scene.access)
    scene.end()


class Line:
    """A TCP connection to the registry that can be cut without a word, in both directions."""

    def __init__(self, target: str) -> None:
        host, port = target.split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open = threading.Event()
        self._open.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Pass nothing on from now on."""
        self._open.clear()

    def mend(self) -> None:
        """Pass on what has waited, and what comes."""
        self._open.set()

    def close(self) -> None:
        """Take no more connections."""
        self._open.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target, timeout=20)
            except OSError:  # closed
                return
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            source.settimeout(None)
            while block := source.recv(65536):
                self._open.wait()
                sink.sendall(block)
        except OSError:  # the other end is gone
            pass
        finally:
            for each in (source, sink):
                each.close()


def test_two_access_services_with_different_views_both_answer(scene: Scene, fleet: Fleet) -> None:
    line = Line(fleet.ensemble.servers[0].address)
    try:
        second = Scene(fleet, scene.endpoints, fleet.access("second", line.address))
        line.cut()
        wait_until(lambda: not second.source()["ok"], "the cut is noticed", 30)
        added = fleet.endpoint()
        scene.registry.announce(added.address)
        scene.registry.leave(scene.endpoints[0].address)
        wait_until(lambda: added.address in routed(scene.access), "one follows")
        assert added.address not in routed(second.access)
        scene.endpoints[0].kill()
        for each in (scene, second):
            each.pass_calls(2 * STEP)
        line.mend()
        wait_until(lambda: routed(second.access) == routed(scene.access), "both see the same again", 60)
        for each in (scene, second):
            each.pass_calls()
            each.end(scene.endpoints[0])
    finally:
        line.close()
