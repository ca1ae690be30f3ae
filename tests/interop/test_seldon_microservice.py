"""The same model folder under seldon-core's own wrapper and under our server: the same answers, message by message.

Both run behind one access service. `DIFFERENT` lists every request whose answers differ, with the reason; where the
wrapper fails with UNKNOWN, ours fails with the code of design's error table.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from component.processor import ERRORS, RESULTS
from fixtures.access_process import SELDON, Access
from fixtures.processes import ROOT, Process
from google.protobuf.json_format import MessageToDict
from safetensors.numpy import save_file
from seldon_requests import DESCRIBED, ECHOED, KINDS, payload, tensor

from dl_inference.messages import Feedback, SeldonMessage

# The wrapper imports TensorFlow and torch, which takes long on a busy machine.
START_S = 200
pytestmark = pytest.mark.timeout(START_S + 60)
SERVING = r"serving .* on (\S+)$"

INVALID, INTERNAL, UNKNOWN = "INVALID_ARGUMENT", "INTERNAL", "UNKNOWN"

# Requests that both refuse, and the code of ours.
REFUSED = dict.fromkeys(
    [
        "tensor []",
        "tensor [] without a value",
        "tensor, too few values",
        "tensor -1",
        "tensor -1 among others",
        "ndarray ragged",
        "ndarray ragged by depth",
        "tftensor, more values",
        "tftensor, short content",
        "tftensor, odd content",
        "tftensor, no dtype",
        "tftensor, unknown dtype",
        "tftensor, resource",
        "tftensor -1",
        "no payload",
    ],
    INVALID,
)
# Payloads that a hook gets, but that cannot be an answer.
NO_ANSWERS = dict.fromkeys(
    [
        "tftensor DT_STRING",  # byte strings
        "tftensor DT_STRING, one value repeated",
        "tftensor DT_STRING, scalar",
        "tftensor, strings, fewer",
        "tftensor DT_BOOL, scalar",  # not a number, so an ndarray, which needs a rank
        "jsonData, ragged list",
        "jsonData, number",
        "jsonData, true",
        "jsonData, null",
    ],
    INTERNAL,
)
NEVER_SENT = {"ragged list", "int keys", "bytes values", "lone surrogate", "tuple", "int", "float"}
NEVER_SENT |= {"numpy float", "bool", "none", "tensor", "set", "bytes array", "datetime array"}
# Results that can be sent to some kinds of requests only.
SENT_TO = {"complex64": {"tftensor"}, "complex128": {"tftensor"}}
NOT_SENT_TO = {"scalar array": {"ndarray", "data"}, "scalar int array": {"ndarray", "data"}}

BFLOAT16 = "ours hands out float32: torch and numpy cannot use the wrapper's array; a result of float32 is a tftensor"
EMPTY_STRINGS = "the wrapper makes text of a string tensor without values, bytes of any other; ours always bytes"
DIFFERENT = {
    **{
        f"tftensor DT_BFLOAT16{case}": BFLOAT16
        for case in ("", ", one value repeated", ", no value", ", empty", ", scalar", ", content")
    },
    "tftensor DT_STRING, no value": EMPTY_STRINGS,
    "tftensor, quantized": "ours refuses what no hook can compute with; the wrapper hands it out, and cannot send it",
    "big-endian to tftensor": "the wrapper sends the bytes in the wrong order: 1.5 arrives as 3e-319",
    **{f"bytearray to {kind}": "its protobuf takes bytes only; ours takes both" for kind in KINDS},
}


class Failure(NamedTuple):
    code: str
    text: str


class Stage:
    """Both servers, by name, behind one access service."""

    def __init__(self, access: Access, channel: grpc.Channel, addresses: Mapping[str, str]) -> None:
        self.access = access
        self.addresses = addresses
        self.channel = channel

    def call(self, name: str, message: Any, path: str = SELDON) -> Any:
        """Return the answer, or how it failed."""
        body = message if isinstance(message, bytes) else message.SerializeToString()
        try:
            answer = self.channel.unary_unary(path)(body, timeout=60, metadata=[("x-model", name)])
        except grpc.RpcError as error:
            return Failure(error.code().name, error.details())
        return SeldonMessage.FromString(answer)

    def both(self, message: Any) -> tuple[Any, Any]:
        return self.call("wrapped", message), self.call("ours", message)


@pytest.fixture(scope="module")
def stage(
    peer_python: Callable[[str], Path],
    run_shared: Callable[..., Process],
    shared_access: Callable[[Mapping[str, Any]], Access],
    open_channel: Callable[[str], grpc.Channel],
    tmp_path_factory: pytest.TempPathFactory,
) -> Stage:
    folders = {"hooks": tmp_path_factory.mktemp("hooks"), "plain": tmp_path_factory.mktemp("plain")}
    for folder in folders.values():
        (folder / "model.py").write_text((Path(__file__).parent / "component" / "model.py").read_text())
        weights = {"weight": np.float32([[1, 10], [2, 20]]), "bias": np.zeros(2, np.float32)}
        save_file(weights, folder / "model.safetensors")
    hooks = (Path(__file__).parent / "component" / "processor.py").read_text()
    (folders["hooks"] / "processor.py").write_text(hooks)
    (folders["hooks"] / "model.yaml").write_text("settings: {words: [a, b]}")
    (folders["plain"] / "model.yaml").write_text("class_names: [a, b, c]")
    command = [peer_python("component"), Path(__file__).parent / "component" / "wrappers.py", *folders.values()]
    # Only the repository is on the path: the wrapper's environment holds nothing of ours.
    wrappers = run_shared(command, env={"PYTHONPATH": str(ROOT)})
    program = Path(sys.executable).with_name("dl-inference")
    ours = [run_shared([program, "predict", folder, "--listen", "127.0.0.1:0"]) for folder in folders.values()]
    ports = wrappers.wait_line(r"^ports (\d+) (\d+)$", timeout_s=START_S)
    addresses = {
        "wrapped": f"127.0.0.1:{ports[1]}",
        "wrapped-plain": f"127.0.0.1:{ports[2]}",
        "ours": ours[0].wait_line(SERVING, timeout_s=START_S)[1],
        "ours-plain": ours[1].wait_line(SERVING, timeout_s=START_S)[1],
    }
    for address in addresses.values():
        grpc.channel_ready_future(open_channel(address)).result(START_S)
    models = {name: {"endpoints": [address], "protocol": "seldon"} for name, address in addresses.items()}
    access = shared_access({"models": models})
    for name in models:
        access.wait_live_model(name)
    return Stage(access, open_channel(access.address), addresses)


def written(answer: Any) -> Any:
    """Return an answer in a form that compares by bits: NaN equals itself."""
    return answer if isinstance(answer, Failure) else answer.SerializeToString(deterministic=True)


def differences(stage: Stage, requests: Mapping[str, Any], failing: Mapping[str, str]) -> dict[str, Any]:
    """Return the requests that are not answered as the tables say.

    Args:
        stage: the servers.
        requests: by name.
        failing: names of those that fail under both, and the code of ours.
    """
    found: dict[str, Any] = {}
    for name, request in requests.items():
        wrapped, ours = stage.both(request)
        if name in failing:
            is_right = isinstance(wrapped, Failure) and wrapped.code == UNKNOWN
            is_right = is_right and isinstance(ours, Failure) and ours.code == failing[name]
        else:
            is_right = (written(wrapped) == written(ours) and not isinstance(ours, Failure)) != (name in DIFFERENT)
        if not is_right:
            found[name] = (wrapped, ours)
    return found


def test_every_payload_comes_back_the_same(stage: Stage) -> None:
    assert differences(stage, ECHOED, REFUSED | NO_ANSWERS) == {}


def test_hooks_get_the_same_values_types_shapes_and_meta(stage: Stage) -> None:
    assert differences(stage, DESCRIBED, REFUSED) == {}


def test_hooks_can_ask_for_the_same(stage: Stage) -> None:
    asked = payload("tensor", ask="all", more=2.0)
    assert differences(stage, {"asked": asked, "method": payload("tensor", method="double")}, {}) == {}
    found = MessageToDict(stage.call("wrapped", asked).jsonData)
    assert found == {
        "parameters": {"ask": "all", "more": 2.0},
        "inputs": {},
        "loaded": ["Linear", 1.0],
        "words": ["a", "b"],
    }
    doubled = [
        stage.call("wrapped", payload("tensor", **tags)).data.tensor.values for tags in ({}, {"method": "double"})
    ]
    assert list(doubled[1]) == [2 * each for each in doubled[0]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_result_becomes_the_same_message(stage: Stage, kind: str) -> None:
    requests = {f"{result} to {kind}": payload(kind, **{"return": result}) for result in RESULTS}
    unsent = {
        result
        for result in RESULTS
        if result in NEVER_SENT or kind not in SENT_TO.get(result, {kind}) or kind in NOT_SENT_TO.get(result, set())
    }
    failing = {f"{result} to {kind}": INTERNAL for result in unsent}
    if kind == "none":
        failing = dict.fromkeys(requests, INVALID)
    assert differences(stage, requests, failing) == {}


@pytest.mark.parametrize("name", ERRORS)
def test_an_exception_of_a_hook_is_an_error_in_both_and_its_text_a_secret(stage: Stage, name: str) -> None:
    before = stage.access.weight(stage.addresses["wrapped"], "wrapped")
    wrapped, ours = stage.both(payload("tensor", **{"raise": name}))
    assert wrapped.code == UNKNOWN
    if name == "invalid":
        assert ours == (INVALID, "send numbers")
        assert wrapped.text == "Exception calling application: send numbers"
    elif name == "coded":
        assert ours == ("RESOURCE_EXHAUSTED", "come back later")
        assert wrapped.text == "Exception calling application: come back later"
    else:
        assert ours.code == INTERNAL
        assert ours.text.startswith("the model failed on this request; request id ")
        assert wrapped.text.startswith("Exception calling application: the model failed on this request")
    # seldon-core answers UNKNOWN to whatever user code raises: that must not count against the endpoint.
    assert stage.access.weight(stage.addresses["wrapped"], "wrapped") == before == 1


def test_hooks_may_write_into_what_they_get(stage: Stage) -> None:
    wrapped, ours = stage.both(payload("tensor", write=5))
    assert wrapped == ours
    assert list(ours.data.tensor.values) == [5, 2]


def test_bytes_that_are_no_message_are_an_error_in_both(stage: Stage) -> None:
    wrapped, ours = stage.both(b"\x1a\x7fgarbage")
    assert wrapped == (INTERNAL, "Exception deserializing request!")
    assert ours.code == INVALID


PLAIN = {
    "tensor": tensor([2, 2], [1.0, 2.0, 3.0, 4.0]),
    "rank 1": tensor([2], [1.0, 2.0]),
    "rank 3": tensor([1, 1, 2], [1.0, 2.0]),
    "no rows": tensor([0, 2], []),
    "NaN": tensor([1, 2], [float("nan"), float("inf")]),
}


def test_without_hooks_the_answers_and_the_folders_class_names_are_the_same(stage: Stage) -> None:
    for name, request in PLAIN.items():
        wrapped, ours = stage.call("wrapped-plain", request), stage.call("ours-plain", request)
        assert written(wrapped) == written(ours), name
    assert list(ours.data.names) == ["a", "b", "c"]


def test_without_hooks_only_numbers_are_taken_and_both_say_so(stage: Stage) -> None:
    for kind in ("strData", "binData", "jsonData"):
        wrapped, ours = stage.call("wrapped-plain", payload(kind)), stage.call("ours-plain", payload(kind))
        assert ours.code == INVALID
        assert ours.text.startswith("this model takes arrays of numbers")
        assert wrapped.code == UNKNOWN
        assert "this model takes arrays of numbers" in wrapped.text


@pytest.mark.parametrize(
    "path",
    [
        "/seldon.protos.Seldon/Predict",
        "/com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService/PytorchPredict",
        "/com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService/CaffePredict",
    ],
)
def test_the_wrapper_is_reached_by_every_seldon_method(stage: Stage, path: str) -> None:
    request = tensor([1, 2], [1.5, 2.5])
    assert stage.call("wrapped", request, path) == stage.call("ours", request, path)
    assert list(stage.call("wrapped", request, path).data.tensor.values) == [1.5, 2.5]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *(
            (SELDON, ECHOED[name].SerializeToString())
            for name in ("meta, every field", "tftensor DT_HALF", "tensor -1")
        ),
        ("/seldon.protos.Model/SendFeedback", Feedback(reward=0.5).SerializeToString()),
        ("/seldon.protos.Model/Metadata", b""),
        ("/seldon.protos.Seldon/ModelMetadata", b""),
    ],
)
def test_what_the_access_service_passes_on_is_what_the_wrapper_says(
    stage: Stage, open_channel: Callable[[str], grpc.Channel], path: str, body: bytes
) -> None:
    direct = Stage(stage.access, open_channel(stage.addresses["wrapped"]), {})
    assert direct.call("wrapped", body, path) == stage.call("wrapped", body, path)


def test_where_the_answers_differ_ours_is_the_useful_one(stage: Stage) -> None:
    halves = stage.call("ours", ECHOED["tftensor DT_BFLOAT16"]).data.tftensor
    assert (halves.dtype, halves.tensor_content) == (1, struct.pack("<2f", 1, -2))
    swapped = stage.call("ours", payload("tftensor", **{"return": "big-endian"})).data.tftensor
    assert swapped.tensor_content == struct.pack("<2d", 1.5, 2.5)
    pair = stage.call("ours", payload("strData", **{"return": "tuple values"})).jsonData.struct_value.fields["a"]
    assert [each.number_value for each in pair.list_value.values] == [1, 2]
    assert stage.call("ours", payload("strData", **{"return": "bytearray"})).binData == b"ab"
    assert stage.call("ours", ECHOED["tftensor, quantized"]).code == INVALID
    assert "b''" in stage.call("ours", DESCRIBED["tftensor DT_STRING, no value"]).strData


def test_the_tables_name_requests_that_there_are() -> None:
    sent = ECHOED.keys() | {f"{result} to {kind}" for result in RESULTS for kind in KINDS}
    assert (REFUSED.keys() | NO_ANSWERS.keys() | DIFFERENT.keys()) <= sent
    assert (NEVER_SENT | SENT_TO.keys() | NOT_SENT_TO.keys()) <= RESULTS.keys()
