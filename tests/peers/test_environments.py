"""The environments of the programs tested against hold those programs, each with its own messages."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROOFS = {
    "tfs": "from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc",
    "seldon": "from seldon_core.proto import prediction_pb2, prediction_pb2_grpc; import seldon_core.microservice",
    "triton": "import tritonclient.grpc",
    # These take many seconds to import, and are run in tests/interop.
    "component": "from importlib.metadata import version as v; v('seldon-core'), v('torch'), v('safetensors')",
    "mlserver": "from importlib.metadata import version; version('mlserver')",
}


@pytest.mark.parametrize("name", PROOFS)
def test_a_peer_imports_in_its_own_environment(peer_python: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [peer_python(name), "-c", PROOFS[name]], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr


def test_every_peer_that_tests_use_has_a_proof(request: pytest.FixtureRequest) -> None:
    listed = {path.stem for path in Path(__file__).parent.glob("*.txt")}
    assert set(PROOFS) == listed - {"aio", "bench", "envoy"}  # those are for benchmarks only
