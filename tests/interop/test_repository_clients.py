"""Triton's and MLServer's own clients load and unload models of `serve`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.processes import Process
from fixtures.serve_process import Serve, write_model

SCRIPT = Path(__file__).with_name("repository_client.py")
START_S = 120


@pytest.fixture(scope="module")
def address(run_shared: Callable[..., Process], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where a `serve` of two models answers."""
    models = tmp_path_factory.mktemp("repository")
    write_model(models / "one", "A")
    write_model(models / "two", "B")
    return Serve(run_shared, models, env={"DL_INFERENCE_ADMIN_METHODS": "true"}).address


@pytest.mark.parametrize("client", ["triton", "mlserver", "triton over HTTP"])
def test_a_client_of_another_server_unloads_and_loads_a_model(
    client: str, address: str, peer_python: Callable[[str], Path]
) -> None:
    command = [str(peer_python(client.partition(" ")[0])), str(SCRIPT), address, client]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_S)
    assert done.returncode == 0, done.stderr
    ready, neighbour = ["1", "READY", ""], {"two": ["1", "READY", ""]}
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "before": {"one": ready, **neighbour},
        "unloaded": {"one": ["1", "UNAVAILABLE", "not loaded: somebody unloaded it"], **neighbour},
        "loaded": {"one": ready, **neighbour},
        "failures": ["404" if client.endswith("HTTP") else "StatusCode.NOT_FOUND"] * 2,
    }
