"""connectrpc's conformance suite runs its cases of gRPC and gRPC-Web through the access service, which stands between a
client and a server of the suite's: as the server that is tested, and as the client.

For the suite's service the native module is built with another table of methods: `make conformance`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.processes import ROOT

from dl_inference import _native

BUILT = ROOT / ".peers" / "conformance"
HERE = Path(__file__).with_name("conformance")
RUN_S = 280
# Of version 1.0.7, with and without TLS and gzip: of requests that a server gets, and of answers that a client gets.
CASES = {"server": 1270, "client": 646}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("mode", "other"),
    [
        ("server", "referenceserver"),
        ("server", "grpcserver"),
        ("client", "referenceclient"),
        ("client", "grpcclient"),
    ],
)
def test_every_case_passes_but_what_the_other_side_is_known_to_fail(mode: str, other: str) -> None:
    installed = BUILT / ".installed"
    if not installed.exists() or installed.stat().st_mtime < Path(_native.__file__).stat().st_mtime:
        pytest.skip("make conformance builds what this runs")
    command = [BUILT / "bin" / "connectconformance", "--mode", mode, "--conf", HERE / f"{mode}.yaml"]
    known = HERE / f"known_failing_{other}.txt"
    if known.exists():
        command += ["--known-failing", f"@{known}"]
    under_test = [sys.executable, HERE / f"{mode}.py", BUILT / "_native.abi3.so", BUILT / "bin" / other]
    done = subprocess.run([*command, "--", *under_test], capture_output=True, text=True, check=False, timeout=RUN_S)
    said = done.stderr + done.stdout
    assert done.returncode == 0, said[-6000:]
    assert re.findall(r"^Total cases: (\d+)$", said, re.MULTILINE) == [str(CASES[mode])], said[-6000:]
