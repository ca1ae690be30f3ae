"""Our codecs beside the official ones, each in its own environment: protobuf 3.20, 6 and 7, numpy 1.26 and 2."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.processes import ROOT

SCRIPT = Path(__file__).parent / "codec_peer.py"


@pytest.mark.parametrize("name", ["tfs", "triton", "seldon"])
def test_official_codecs_read_what_we_write_and_we_read_what_they_write(peer_python: Callable[[str], Path], name: str):
    done = subprocess.run(
        [peer_python(name), SCRIPT, name],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["compared"] > 30
