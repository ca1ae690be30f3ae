"""What following a large registry costs: ``PYTHONPATH=tests .venv/bin/python -m bench.registry``.

A real ZooKeeper, one server, holds 10,000 endpoints in 1,000 models; a process of its own follows it as the access
service does. Measured there: time to the first state, memory, time until a change can be read, CPU for it; and the
same after a lost connection. Writes tests/bench/results/registry.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from bench.machine import describe
from fixtures import zookeeper_process
from fixtures.processes import ROOT, Process
from kazoo.client import KazooClient

from access.discovery.zookeeper import ZookeeperConfig, ZookeeperResolver
from dl_inference.registry import schema

RESULT = ROOT / "tests" / "bench" / "results" / "registry.json"
CHROOT = "/dl-inference"
LIMIT_S = 120.0
# Endpoints that join at once.
BURST = 100


# --- the process that follows


def _rss_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


def _say(**facts: Any) -> None:
    print(json.dumps({**facts, "at": time.monotonic(), "cpu": time.process_time(), "rss": _rss_mib()}), flush=True)


def follow(hosts: str) -> None:
    """Follow, and print a line for every state; until the standard input ends."""
    config = ZookeeperConfig(kind="zookeeper", hosts=hosts, start_timeout_ms=round(LIMIT_S * 1000))
    resolver = ZookeeperResolver.create(config, ROOT)
    changed = threading.Semaphore(0)
    from dl_inference.registry.following import follower as _  # noqa: F401  (loaded before the clock runs)

    _say(event="begin")
    resolver.start(changed.release)
    resolver.read()

    def report() -> None:
        while changed.acquire():
            try:
                snapshot = resolver.read()
            except Exception as error:  # whatever it is, the other side decides
                _say(event="lost", error=str(error))
                continue
            read = time.monotonic()
            endpoints = sum(len(entry.endpoints) for entry in snapshot.entries.values())
            probe = snapshot.entries.get("model0")
            weight = probe.endpoints[0].weight if probe and probe.endpoints else None
            _say(event="state", models=len(snapshot.entries), endpoints=endpoints, weight=weight, read=read)

    threading.Thread(target=report, daemon=True).start()
    for _line in sys.stdin:
        gc.collect()
        _say(event="rest", threads=threading.active_count())
    resolver.stop()


# --- the process that measures


class Observer:
    """The following process, and its lines."""

    def __init__(self, hosts: str) -> None:
        self.process = Process([sys.executable, "-m", "bench.registry", "--follow", hosts])
        self._seen = 0

    def next(self, event: str, **wanted: Any) -> dict[str, Any]:
        """Wait for the next line with an event and values; return it, with the count of lines passed over."""
        passed = 0
        while True:
            match = self.process.wait_line(r"^\{.*\}$", after=self._seen, timeout_s=LIMIT_S)
            self._seen += 1
            line: dict[str, Any] = json.loads(match[0])
            if line["event"] == event and all(line.get(key) == value for key, value in wanted.items()):
                return {**line, "passed": passed}
            passed += 1


def fill(client: KazooClient, models: int, endpoints: int) -> None:
    """Write the registry: `endpoints` in each of `models`."""
    under_way: deque[Any] = deque()

    def create(path: str, data: bytes = b"") -> None:
        under_way.append(client.create_async(path, data))
        if len(under_way) > 100:
            under_way.popleft().get(timeout=LIMIT_S)

    client.ensure_path(CHROOT + schema.MODELS)
    for model in range(models):
        create(f"{CHROOT}/models/model{model}")
        create(f"{CHROOT}/models/model{model}/endpoints")
        for number in range(endpoints):
            place, document = announced(f"model{model}", model, number)
            create(place, document)
    while under_way:
        under_way.popleft().get(timeout=LIMIT_S)


def announced(name: str, model: int, number: int, weight: int = 1) -> tuple[str, bytes]:
    """Return the place and the document of one endpoint."""
    address = f"10.{number % 250}.{model // 250}.{model % 250 + 1}:{5000 + number // 250}"
    document = schema.EndpointDocument(
        address=address,
        protocol="tfs",
        model=name,
        version="3",
        versions=("2",),
        labels=("stable",),
        weight=weight,
        capacity=64,
        program="dl-inference 0.1.0",
        instance="0123456789abcdef",
        since="2026-11-21T00:00:00+00:00",
    )
    return CHROOT + schema.endpoint_path(name, address), document.dump()


def measure(models: int, endpoints: int, changes: int) -> dict[str, Any]:
    """Return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        ensemble = zookeeper_process.start_ensemble(Process, Path(folder), 1)
        try:
            return _measure(ensemble, models, endpoints, changes)
        finally:
            for server in ensemble.servers:
                server.kill()


def _measure(ensemble: zookeeper_process.Ensemble, models: int, endpoints: int, changes: int) -> dict[str, Any]:
    client = KazooClient(ensemble.hosts, timeout=30)
    client.start()
    fill(client, models, endpoints)
    observer = Observer(ensemble.hosts)
    begin = observer.next("begin")
    first = observer.next("state", models=models, endpoints=models * endpoints)
    observer.process.send_line("")
    rest = observer.next("rest")

    place = announced("model0", 0, 0)[0]
    delays = []
    for change in range(changes):
        weight = 2 + change
        sent = time.monotonic()
        client.set(place, announced("model0", 0, 0, weight)[1])
        state = observer.next("state", weight=weight)
        delays.append((state["read"] - sent) * 1000)
    observer.process.send_line("")
    after = observer.next("rest")
    cpu_ms = (after["cpu"] - rest["cpu"]) * 1000 / changes

    client.ensure_path(f"{CHROOT}/models/burst/endpoints")
    observer.next("state", models=models + 1)
    sent = time.monotonic()
    for result in [client.create_async(*announced("burst", models, number)) for number in range(BURST)]:
        result.get(timeout=LIMIT_S)
    joined = observer.next("state", endpoints=models * endpoints + BURST)

    ensemble.servers[0].kill()
    observer.next("lost")
    ensemble.servers[0].restart()
    ensemble.await_ready()
    up = time.monotonic()
    again = observer.next("state", endpoints=models * endpoints + BURST)
    observer.process.send_line("")
    last = observer.next("rest")
    observer.process.kill()
    client.stop()
    client.close()
    return {
        "models": models,
        "endpoints": models * endpoints,
        "first_state_s": round(first["read"] - begin["at"], 2),
        "first_state_cpu_s": round(first["cpu"] - begin["cpu"], 2),
        "rss_before_mib": round(begin["rss"], 1),
        "rss_after_mib": round(rest["rss"], 1),
        "rss_after_changes_and_reconnect_mib": round(last["rss"], 1),
        "threads": rest["threads"],
        "changes": changes,
        "change_ms": {
            "min": round(min(delays), 1),
            "median": round(statistics.median(delays), 1),
            "max": round(max(delays), 1),
        },
        "change_cpu_ms": round(cpu_ms, 2),
        "burst": {"endpoints": BURST, "ms": round((joined["read"] - sent) * 1000, 1), "states": joined["passed"] + 1},
        "all_again_after_restart_s": round(again["read"] - up, 2),
    }


def main() -> None:
    """Measure and write the result, or follow for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--follow", metavar="HOSTS", help=argparse.SUPPRESS)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=10, help="in each model")
    parser.add_argument("--changes", type=int, default=100)
    options = parser.parse_args()
    if options.follow:
        follow(options.follow)
        return
    machine = describe()
    figures = measure(options.models, options.endpoints, options.changes)
    print(json.dumps(figures, indent=2))
    if (options.models, options.endpoints) == (1000, 10):
        command = "PYTHONPATH=tests .venv/bin/python -m bench.registry"
        result = {"machine": machine, "command": command, "zookeeper": "3.8, one server, loopback", **figures}
        RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
