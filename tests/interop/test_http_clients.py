"""The HTTP libraries that people call with, unchanged against our port: JSON, chunked bodies, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from native.test_rest import body, echo
from native.test_worker import Served

SCRIPT = Path(__file__).with_name("http_client_peer.py")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served().answer(echo)
    yield served
    served.close()


# Which environment of the tests' has it; None: our own.
@pytest.mark.parametrize(("library", "peer"), [("requests", None), ("httpx", None), ("aiohttp", "triton")])
def test_a_client_library_works_unchanged(
    library: str, peer: str | None, served: Served, peer_python: Callable[[str], Path]
) -> None:
    python = sys.executable if peer is None else str(peer_python(peer))
    command = [python, str(SCRIPT), library, served.address, body().decode()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    whole, chunked, live, nothing = json.loads(done.stdout.splitlines()[-1])
    for status, kind, document in (whole, chunked):
        assert (status, kind, document["outputs"][0]["data"]) == (200, "application/json", [1, 2])
    assert live == [200, "application/json", {"live": True}]
    assert (nothing[0], nothing[1], nothing[2]["kind"]) == (404, "application/problem+json", "unknown_method")
