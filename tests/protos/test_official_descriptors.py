"""Our protos/ against the official packages: same names, numbers, types, labels, oneofs, methods.

The official side is printed by dump_descriptors.py inside environments of their own (``make peers``), because the
packages cannot be installed together, nor beside ours.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from fixtures.lacking import lacking
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parents[2]
DUMPER = Path(__file__).with_name("dump_descriptors.py")

# gRPC's own packages stand beside ours: tritonclient's protobuf is too old for the health service of today.
OWN = "grpc"

OFFICIAL = {
    "tfs": [
        "tensorflow_serving.apis.prediction_service_pb2",
        "tensorflow_serving.apis.model_service_pb2",
        "tensorflow_serving.apis.prediction_log_pb2",
    ],
    "seldon": ["seldon_core.proto.prediction_pb2", "grpc_reflection.v1alpha.reflection_pb2"],
    "triton": ["tritonclient.grpc.service_pb2", "tritonclient.grpc.model_config_pb2"],
    "mlserver": ["mlserver.grpc.model_repository_pb2"],
    "xds": ["xds.data.orca.v3.orca_load_report_pb2"],
    OWN: ["grpc_health.v1.health_pb2"],
}

# What each package is the authority for. seldon-core carries an old copy of tensorflow.TensorProto.
PREFIXES = {
    "tfs": ("tensorflow.",),
    "seldon": ("seldon.protos.", "grpc.reflection.v1alpha."),
    "triton": ("inference.",),
    "mlserver": ("inference.model_repository.",),
    "xds": ("xds.data.orca.v3.",),
    OWN: ("grpc.health.v1.",),
}

# Of these, ours holds what the methods need, not all.
PARTIAL = {"tfs"}
# Of this message ours holds what the model server can run.
PARTIAL_MESSAGE = "tensorflow.serving.PredictionLog"

# MLServer's own service is in a package below Triton's.
NOT_OF = {"triton": PREFIXES["mlserver"]}


@cache
def official(peer: str) -> dict:
    """Return the official definitions; skip, or fail where CI is set, when the environment is not there."""
    found = sys.executable if peer == OWN else str(ROOT / ".peers" / peer / "bin" / "python")
    python = os.environ.get(f"PEER_PYTHON_{peer.upper()}", found)
    if not Path(python).exists():
        lacking(f"no environment {peer}: make peers")
    # Python puts the script's folder first on the path: there is nothing of ours in it to import.
    dump = subprocess.run([python, str(DUMPER), *OFFICIAL[peer]], check=True, stdout=subprocess.PIPE)
    return json.loads(dump.stdout)


@cache
def ours() -> dict:
    """Return our definitions in the same form, read from the compiled descriptors."""
    import dump_descriptors

    from dl_inference import messages

    definitions: dict = {"messages": {}, "enums": {}, "services": {}}
    pool = messages.PredictRequest.DESCRIPTOR.file.pool
    for file in descriptor_pb2.FileDescriptorSet.FromString(messages.DESCRIPTORS).file:
        if not file.name.startswith("google/protobuf/"):
            dump_descriptors.describe_file(pool.FindFileByName(file.name), *definitions.values())
    return definitions


def of_peer(definitions: dict, peer: str) -> dict:
    return {
        name: value
        for name, value in definitions.items()
        if name.startswith(PREFIXES[peer]) and not name.startswith(NOT_OF.get(peer, ()))
    }


@pytest.mark.parametrize("peer", OFFICIAL)
def test_every_message_has_the_official_fields(peer):
    theirs, mine = official(peer)["messages"], of_peer(ours()["messages"], peer)
    assert mine
    if PARTIAL_MESSAGE in mine:
        known = mine.pop(PARTIAL_MESSAGE)
        assert known.items() <= theirs[PARTIAL_MESSAGE].items()
    assert {name: fields for name, fields in mine.items() if theirs.get(name) != fields} == {}


@pytest.mark.parametrize("peer", OFFICIAL)
def test_every_enum_has_the_official_values(peer):
    theirs, mine = official(peer)["enums"], of_peer(ours()["enums"], peer)
    assert {name: values for name, values in mine.items() if theirs.get(name) != values} == {}


@pytest.mark.parametrize("peer", OFFICIAL)
def test_every_service_has_the_official_methods(peer):
    theirs, mine = of_peer(official(peer)["services"], peer), of_peer(ours()["services"], peer)
    # SessionService takes graphs of TensorFlow 1 and is left out.
    theirs.pop("tensorflow.serving.SessionService", None)
    assert mine.keys() == theirs.keys()
    for service, methods in mine.items():
        assert methods.keys() == theirs[service].keys()
        for name, method in methods.items():
            # Old runtimes do not tell about streaming.
            known = {key: value for key, value in theirs[service][name].items() if value is not None}
            assert {key: method[key] for key in known} == known, f"{service}/{name}"


@pytest.mark.parametrize("peer", sorted(OFFICIAL.keys() - PARTIAL))
def test_no_official_message_is_missing(peer):
    missing = of_peer(official(peer)["messages"], peer).keys() - ours()["messages"].keys()
    assert missing == set()


def test_reflection_v1_has_the_messages_of_v1alpha():
    text = json.dumps({kind: of_peer(definitions, "seldon") for kind, definitions in ours().items()})
    alpha = {k: v for k, v in json.loads(text)["messages"].items() if k.startswith("grpc.")}
    v1 = {k: v for k, v in ours()["messages"].items() if k.startswith("grpc.reflection.v1.")}
    assert json.loads(json.dumps(alpha).replace("v1alpha", "v1")) == v1


def test_the_dl_inference_service_has_its_four_methods():
    service = ours()["services"]["com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService"]
    assert {name: (method["input"], method["output"]) for name, method in service.items()} == {
        "Predict": ("tensorflow.serving.PredictRequest", "tensorflow.serving.PredictResponse"),
        "PytorchPredict": ("seldon.protos.SeldonMessage", "seldon.protos.SeldonMessage"),
        "CaffePredict": ("seldon.protos.SeldonMessage", "seldon.protos.SeldonMessage"),
        "TisPredict": ("inference.ModelInferRequest", "inference.ModelInferResponse"),
    }


def test_every_rpc_of_the_protos_is_a_row_of_the_method_table_and_the_other_way_round():
    import tomllib

    rows = {row["path"] for row in tomllib.loads((ROOT / "protos" / "methods.toml").read_text())["method"]}
    rpcs = {f"/{service}/{name}" for service, methods in ours()["services"].items() for name in methods}
    assert rows == rpcs
