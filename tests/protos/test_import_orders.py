"""dl_inference.messages beside the official packages, in one process, in either order."""

import os
import subprocess
from pathlib import Path

import pytest
from fixtures.lacking import lacking

ROOT = Path(__file__).resolve().parents[2]
OURS = "dl_inference.messages"
THEIRS = {
    "tfs": ("tensorflow_serving.apis.predict_pb2", "PredictRequest"),
    "seldon": ("seldon_core.proto.prediction_pb2", "SeldonMessage"),
    "triton": ("tritonclient.grpc.service_pb2", "ModelInferRequest"),
}
CODE = """
import importlib, sys
modules = {name: importlib.import_module(name) for name in sys.argv[1:3]}
ours, theirs = modules[sys.argv[3]], modules[sys.argv[4]]
mine, official = getattr(ours, sys.argv[5]), getattr(theirs, sys.argv[5])
assert mine is not official
assert mine.FromString(official().SerializeToString()) == mine()
"""


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("peer", THEIRS)
def test_both_import_and_read_each_others_bytes(peer, ours_first):
    python = os.environ.get(f"PEER_PYTHON_{peer.upper()}", str(ROOT / ".peers" / peer / "bin" / "python"))
    if not Path(python).exists():
        lacking(f"no environment {peer}: make peers")
    theirs, message = THEIRS[peer]
    order = [OURS, theirs] if ours_first else [theirs, OURS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [python, "-c", CODE, *order, OURS, theirs, message]
    subprocess.run(command, env=environment, check=True)
