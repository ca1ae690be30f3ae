import shutil
import subprocess
from pathlib import Path

import pytest
from fixtures.lacking import lacking
from google.protobuf import descriptor_pb2, descriptor_pool, json_format

from dl_inference import messages

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"


def our_files(serialized: bytes) -> dict:
    """Files by name, without protobuf's own, which every protoc brings in its own version."""
    files = descriptor_pb2.FileDescriptorSet.FromString(serialized).file
    return {file.name: file for file in files if not file.name.startswith("google/protobuf/")}


def test_every_proto_file_is_in_the_compiled_set():
    expected = {path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto")}
    assert set(our_files(messages.DESCRIPTORS)) == expected


def test_the_compiled_set_is_not_stale(tmp_path):
    out = tmp_path / "wire.binpb"
    names = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    command = [protoc(), "-I", str(PROTOS), "--include_imports", f"--descriptor_set_out={out}", *names]
    subprocess.run(command, check=True)
    fresh, committed = our_files(out.read_bytes()), our_files(messages.DESCRIPTORS)
    assert [name for name in fresh if fresh[name] != committed.get(name)] == [], "run: make protos"


def test_each_file_comes_after_what_it_imports():
    seen = set()
    for file in descriptor_pb2.FileDescriptorSet.FromString(messages.DESCRIPTORS).file:
        assert set(file.dependency) <= seen
        seen.add(file.name)


def test_a_message_of_each_protocol_survives_a_round_trip():
    request = messages.PredictRequest()
    request.model_spec.name = "m"
    request.model_spec.version.value = 3
    request.inputs["x"].dtype = messages.DataType.Value("DT_FLOAT")
    request.inputs["x"].float_val.extend([1.5, 2.5])
    assert messages.PredictRequest.FromString(request.SerializeToString()) == request

    seldon = messages.SeldonMessage()
    seldon.meta.tags["taskId"].number_value = 39
    seldon.data.tensor.shape.extend([1, 2])
    seldon.data.tensor.values.extend([1, 2])
    assert json_format.MessageToDict(seldon.meta) == {"tags": {"taskId": 39.0}}
    assert messages.SeldonMessage.FromString(seldon.SerializeToString()) == seldon

    infer = messages.ModelInferRequest(model_name="m", raw_input_contents=[b"abc"])
    infer.inputs.add(name="x", datatype="FP32", shape=[1])
    assert messages.ModelInferRequest.FromString(infer.SerializeToString()) == infer


def test_well_known_types_behave_as_elsewhere():
    struct = messages.Struct()
    struct.update({"a": [1, "b", None]})
    assert json_format.MessageToDict(struct) == {"a": [1.0, "b", None]}
    packed = messages.AnyMessage()
    packed.Pack(messages.Tensor(values=[1]))
    tensor = messages.Tensor()
    assert packed.Unpack(tensor)
    assert list(tensor.values) == [1]


def test_an_unknown_message_is_a_key_error():
    with pytest.raises(KeyError):
        messages.message_class("seldon.protos.Nothing")


def test_every_public_class_has_its_messages_name_and_lives_in_the_private_pool():
    private = messages.PredictRequest.DESCRIPTOR.file.pool
    assert private is not descriptor_pool.Default()
    classes = {name: value for name, value in vars(messages).items() if name not in {"Any", "Classes", "Message"}}
    classes = {name: value for name, value in classes.items() if isinstance(value, type)}
    assert len(classes) > 50
    for name, value in classes.items():
        assert value.DESCRIPTOR.name == {"AnyMessage": "Any"}.get(name, name)
        assert value.DESCRIPTOR.file.pool is private


def test_an_enum_gives_numbers_and_names():
    assert messages.DataType.Value("DT_BFLOAT16") == 14
    assert messages.DataType.Name(1) == "DT_FLOAT"


def protoc() -> str:
    return shutil.which("protoc") or lacking("protoc is not installed")
