"""The access service as a test runs it: the real program on a configuration file, watched through its admin port."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from processes import Process

TFS = "/tensorflow.serving.PredictionService/Predict"
SELDON = "/seldon.protos.Model/Predict"
OIP = "/inference.GRPCInferenceService/ModelInfer"
OIP_STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"

# One makes connections and their order plain; every test holds for more, too.
WORKERS = int(os.environ.get("TEST_WORKERS", "1"))
# A debug build of the data plane on a busy machine takes its time.
START_S = 30
# Between two looks at a page: short beside what is waited for, long beside a look.
LOOK_S = 0.01


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 10) -> Any:
    """Look again and again until a condition holds; return what it gave.

    Raises:
        AssertionError: it did not hold within the limit.
    """
    end = time.monotonic() + timeout_s
    while True:
        if value := condition():
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(LOOK_S)


def cluster(endpoints: Sequence[str | dict[str, Any]], **settings: Any) -> dict[str, Any]:
    """Return a configuration with one cluster, ``fleet``, and one model, ``m``, that is served by it."""
    return {"clusters": {"fleet": {"endpoints": list(endpoints), **settings}}, "models": {"m": {"cluster": "fleet"}}}


class Access:
    """A running access service."""

    def __init__(self, run: Callable[..., Process], folder: Path, config: Mapping[str, Any]) -> None:
        """Start it with ``dl-inference access --config``, on free ports, and wait until it is ready.

        Args:
            run: the fixture that starts programs.
            folder: where access.yaml goes.
            config: its content; ``listen``, ``admin``, ``workers`` and ``expose_endpoints`` have the tests' defaults.
        """
        self._base = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "workers": WORKERS, "expose_endpoints": True}
        self._path = folder / "access.yaml"
        self._write(config)
        self.process = run([Path(sys.executable).with_name("dl-inference"), "access", "--config", self._path])
        ready = self.process.wait_line(r"ready on (.+)$", timeout_s=START_S)[1].split(", ")
        self.addresses, self.admin = ready[:-1], ready[-1]
        self.address = self.addresses[0]

    def configure(self, config: Mapping[str, Any]) -> None:
        """Replace the configuration; its routing state (which must differ) is in force when this returns."""
        before = self.status()["states_applied"]
        self._write(config)
        wait_until(lambda: self.status()["states_applied"] > before, "the new configuration is applied")

    def status(self) -> dict[str, Any]:
        """Return /status."""
        page: dict[str, Any] = json.loads(self.get("/status"))
        return page

    def get(self, path: str) -> str:
        """Return a page of the admin port."""
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def endpoint(self, address: str, name: str = "fleet") -> dict[str, Any]:
        """Return what /status says about an endpoint of a cluster."""
        found = next(each for each in self.status()["clusters"] if each["name"] == name)
        endpoint: dict[str, Any] = next(each for each in found["endpoints"] if each["address"] == address)
        return endpoint

    def weight(self, address: str, name: str = "fleet") -> float:
        """Return an endpoint's effective weight; its configured weight when it is healthy."""
        weight: float = self.endpoint(address, name)["effective_weight"]
        return weight

    def wait_live(self, *addresses: str) -> None:
        """Wait until endpoints may be picked."""
        wait_until(lambda: all(self.endpoint(each)["live"] for each in addresses), f"{addresses} are live")

    def wait_live_model(self, name: str) -> None:
        """Wait until the endpoints of a model's own cluster may be picked."""

        def endpoints() -> list[dict[str, Any]]:
            found = next(each for each in self.status()["clusters"] if each["name"] == name)
            return list(found["endpoints"])

        wait_until(lambda: all(each["live"] for each in endpoints()), f"the endpoints of {name} are live")

    def counter(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        pattern = re.compile(rf"^{name}(?:\{{(.*)\}})? (\S+)$", re.MULTILINE)
        total = 0.0
        for given, value in pattern.findall(self.get("/metrics")):
            found = dict(re.findall(r'(\w+)="([^"]*)"', given))
            if all(found.get(key) == text for key, text in labels.items()):
                total += float(value)
        return total

    def terminate(self) -> None:
        """SIGTERM: drain, then stop."""
        self.process.signal(signal.SIGTERM)

    def _write(self, config: Mapping[str, Any]) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({**self._base, **config}))  # JSON is YAML
        os.replace(new, self._path)
