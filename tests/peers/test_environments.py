"""The environments of the programs tested against hold those programs, each with its own messages."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.processes import ROOT

INTEROP_PINS = [f"tests/peers/{name}.txt" for name in ("component", "mlserver", "seldon", "tfs", "triton")]
INTEROP_PINS += [f"tests/interop/{path}" for path in ("go/go.mod", "java/pom.xml", "grpc_js_package.json")]
INTEROP_PINS += ["tests/interop/conformance/go.mod", "tests/interop/tonic/Cargo.lock"]
BENCH_MODELS = {"aio-torch", "litserve", "mlserver-torch", "mosec", "seldon-torch"}
# For benchmarks and releases.
NOT_TESTED_WITH = {"aio", "bench", "envoy", "fastapi", "release"}
PROOFS = {
    "tfs": "from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc",
    "seldon": "from seldon_core.proto import prediction_pb2, prediction_pb2_grpc; import seldon_core.microservice",
    "triton": "import tritonclient.grpc",
    "sonora": "import sonora.client",
    "xds": "from xds.data.orca.v3 import orca_load_report_pb2",
    "openai": "import openai, cohere",
    "kubernetes": "import kubernetes_validate",
    "schemathesis": "import schemathesis, openapi_spec_validator",
    "sslyze": "import sslyze",
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
    assert set(PROOFS) == listed - NOT_TESTED_WITH - BENCH_MODELS


@pytest.mark.parametrize("name", ["component", *sorted(BENCH_MODELS)])
def test_an_environment_with_torch_has_the_one_that_our_server_is_tested_with(name: str) -> None:
    here = Path(__file__).parent
    pins = [
        re.findall(r"^torch==\S+$", file.read_text(), re.MULTILINE)
        for file in (here / f"{name}.txt", here.parents[1] / "constraints.txt")
    ]
    assert pins[0] == pins[1] != []


def test_the_page_on_interoperation_names_the_versions_that_are_tested() -> None:
    text = " ".join((ROOT / path).read_text() for path in ("Makefile", *INTEROP_PINS))
    packages = "seldon-core|tensorflow-serving-api|mlserver|tritonclient"
    names = f"{packages}|grpcurl/cmd/grpcurl|h2spec|connectrpc.com/conformance|golang.org/(?:grpc|protobuf)"
    pins = re.findall(rf"(?:{names})(?:\[[\w,]+\])?(?:==|@v| v)([\d.]+)", text)
    pins += re.findall(r"<(?:grpc|protobuf)>([\d.]+)<", text)
    pins += re.findall(r'(?:"@grpc/grpc-js": |^name = "tonic"\nversion = )"([\d.]+)"', text, re.MULTILINE)
    assert len(pins) == 16  # seldon-core, grpc-go and its protobuf stand in two files each
    page = (ROOT / "docs" / "interop.md").read_text()
    assert [pin for pin in pins if pin not in page] == []
