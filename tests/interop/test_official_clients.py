"""Clients that nobody here wrote, each in its own environment, through the access service to a server of the same."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.access_process import Access
from fixtures.processes import Process

HERE = Path(__file__).parent


class Peer:
    """A server in another environment, the access service in front of it, and a client in the same environment."""

    def __init__(self, python: Path, script: str, run: Callable[..., Process]) -> None:
        self._command = [python, HERE / script]
        self._server = run([*self._command, "serve"])
        self.address = self._server.wait_line(r"^listening (\S+)", timeout_s=60)[1]

    def call(self, address: str) -> dict[str, Any]:
        """Run the client; return what it found."""
        command = [str(word) for word in [*self._command, "call", address]]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


@pytest.fixture
def start_peer(peer_python: Callable[[str], Path], run: Callable[..., Process]) -> Callable[[str], Peer]:
    return lambda name: Peer(peer_python(name), f"{name}_peer.py", run)


StartPeer = Callable[[str], Peer]
StartAccess = Callable[..., Access]


def test_tensorflow_servings_stubs_work_unchanged(start_peer: StartPeer, start_access: StartAccess) -> None:
    peer = start_peer("tfs")
    access = start_access({"models": {"m": {"endpoints": [peer.address]}}})
    assert peer.call(access.address) == {
        "same": True,
        "version": 7,
        "error": ["FAILED_PRECONDITION", 'Serving signature key "broken" not found.'],
        "unknown": "NOT_FOUND",
        "signatures": ["serving_default"],
        "states": [[7, 30]],
    }


def test_seldon_cores_stubs_and_its_client_work_unchanged(start_peer: StartPeer, start_access: StartAccess) -> None:
    peer = start_peer("seldon")
    fleet = {"endpoints": [peer.address]}
    models = {"m": {"cluster": "fleet"}, "39": {"cluster": "fleet"}}
    access = start_access({"clusters": {"fleet": fleet}, "models": models})
    assert peer.call(access.address) == {
        "model": True,
        "taskId": True,
        "number": True,
        "feedback": "reward 0.5",
        "x-model": "x",
        "client": [True, [1.0, 2.0, 3.0, 4.0], False],
    }


def test_tritons_client_works_unchanged(start_peer: StartPeer, start_access: StartAccess) -> None:
    peer = start_peer("triton")
    access = start_access({"models": {"m": {"endpoints": [peer.address]}}})
    access.wait_live_model("m")
    assert peer.call(access.address) == {
        "live": True,
        "ready": True,
        "server": "dl-inference",
        "index": [["m", "READY"]],
        "model ready": True,
        "platform": "test",
        "infer": [True, "one"],
        "gzip": True,
        "unknown": "StatusCode.NOT_FOUND",
        "stream": [str(number) for number in range(10)],
    }
