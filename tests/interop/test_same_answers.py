"""One processor.py under seldon-core's own wrapper and under our server: the same answers, alone and many at once.

Every request has numbers of its own, so an answer that went to another request, or rows that got mixed, would differ.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from fixtures.access_process import SELDON
from fixtures.processes import ROOT, Process
from google.protobuf import json_format
from safetensors.numpy import save_file
from seldon_requests import json_data, ndarray, tensor

from dl_inference.messages import SeldonMessage

# The wrapper imports TensorFlow and torch, which takes long on a busy machine.
START_S = 200
pytestmark = pytest.mark.timeout(START_S + 100)
TOLERANCE = 1e-6
# Each request this often at once, in an order that puts different ones beside one another.
REPEATS = 8
# A run_model takes one request; what we call ourselves is joined with others.
JOINED = "batching: {mode: always}\n"

PROCESSOR = """
import json

import numpy as np
import torch

import torch_predict


def preprocess(x, **kwargs):
    tags = kwargs["meta"].get("tags", {})
    if tags.get("raise") == "before":
        raise ValueError("a secret")
    if isinstance(x, str):
        x = [[float(word) for word in x.split()]]
    elif isinstance(x, bytes):
        x = np.frombuffer(x, np.float32).reshape(-1, 2)
    elif isinstance(x, dict):
        x = x["rows"]
    x = np.asarray(x, float)
    if x.ndim != 2 or x.shape[1] != 2:
        raise torch_predict.InvalidInput(f"send rows of 2 numbers, not {list(x.shape)}")
    return x * tags.get("scale", 1.0)


def postprocess(x, **kwargs):
    x = x.numpy()
    tags = kwargs["meta"].get("tags", {})
    if tags.get("raise") == "after":
        raise torch_predict.Error("OUT_OF_RANGE", f"row 0 gave {x[0, 0]:.3f}")
    kinds = {
        "dict": lambda: {"rows": x.tolist(), "best": x.argmax(axis=1)},
        "text": lambda: " ".join(f"{value:.3f}" for value in x.ravel()),
        "bytes": lambda: json.dumps(x.round(3).tolist()).encode(),
        "list": lambda: [["yes" if value > 0 else "no" for value in row] for row in x],
    }
    return kinds.get(tags.get("as"), lambda: x)()
"""
RUN_MODEL = """

def run_model(model, x, **kwargs):
    if kwargs["meta"].get("tags", {}).get("raise") == "inside":
        raise ValueError("a secret")
    return model(torch.as_tensor(x, dtype=torch.float32)) + 1
"""
FOLDERS = {"all hooks": PROCESSOR + RUN_MODEL, "the model called by us": PROCESSOR}


def _requests() -> dict[str, Any]:
    """Return requests by name; at most one tag each, for two become arguments of a model that no hook calls."""
    numbers = iter(np.random.default_rng(1).uniform(-9, 9, 10_000).round(3).tolist())

    def rows(count: int) -> list[list[float]]:
        return [[next(numbers), next(numbers)] for _ in range(count)]

    def flat(count: int) -> list[float]:
        return [next(numbers) for _ in range(2 * count)]

    requests: dict[str, Any] = {}
    for count in (1, 2, 3, 7, 70):
        requests[f"tensor of {count}"] = tensor([count, 2], flat(count))
        requests[f"ndarray of {count}"] = ndarray(rows(count))
        requests[f"jsonData of {count}"] = json_data({"rows": rows(count)})
        requests[f"binData of {count}"] = SeldonMessage(binData=np.float32(flat(count)).tobytes())
    for number in range(4):
        requests[f"strData {number}"] = SeldonMessage(strData=f"{next(numbers)} {next(numbers)}")
        requests[f"scaled {number}"] = tensor([1, 2], flat(1), scale=float(number + 2))
        requests[f"wrong shape {number}"] = tensor([1, 3 + number], [1.0] * (3 + number))
        for kind in ("dict", "text", "bytes", "list"):
            requests[f"{kind} {number}"] = tensor([number + 1, 2], flat(number + 1), **{"as": kind})
            requests[f"{kind} of ndarray {number}"] = ndarray(rows(number + 1), **{"as": kind})
        for where in ("before", "after"):
            requests[f"raises {where} {number}"] = tensor([1, 2], flat(1), **{"raise": where})
    requests["with meta"] = tensor([1, 2], flat(1), user="x")
    requests["with meta"].meta.puid = "p-1"
    requests["no number"] = SeldonMessage(strData="one two")
    requests["odd bytes"] = SeldonMessage(binData=b"12345")
    return requests


REQUESTS = _requests()
# Failures of both: our code, and whether its words are the hook's own, which the wrapper says, too.
OWN_WORDS = {"INVALID_ARGUMENT", "OUT_OF_RANGE"}
PREFIX = "Exception calling application: "


class Pair:
    """The same folder served by both."""

    def __init__(self, wrapper: grpc.Channel, ours: grpc.Channel) -> None:
        self._wrapper = wrapper.unary_unary(SELDON)
        self._ours = ours.unary_unary(SELDON)
        # The wrapper is asked once; it computes one request at a time in any case.
        self.wanted: dict[str, Any] = {}

    def ask_wrapper(self, requests: Mapping[str, Any]) -> None:
        self.wanted |= {name: outcome(self._wrapper.future(body(each), timeout=60)) for name, each in requests.items()}

    def alone(self, requests: Mapping[str, Any]) -> dict[str, Any]:
        return {name: outcome(self._ours.future(body(each), timeout=60)) for name, each in requests.items()}

    def at_once(self, requests: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Send all requests, each several times, before an answer is read."""
        calls = [
            (name, self._ours.future(body(request), timeout=60))
            for _ in range(REPEATS)
            for name, request in requests.items()
        ]
        return [(name, outcome(call)) for name, call in calls]


def body(request: Any) -> bytes:
    return bytes(request.SerializeToString())


def outcome(call: Any) -> Any:
    """Return an answer as JSON-like data, or how the call failed."""
    try:
        return json_format.MessageToDict(SeldonMessage.FromString(call.result()))
    except grpc.RpcError as error:
        return error.code().name, error.details()


def is_same(wanted: Any, found: Any) -> bool:
    """Compare: floats within the tolerance; a failure of the wrapper's with ours of the right code and words."""
    if isinstance(wanted, tuple):
        if not isinstance(found, tuple) or wanted[0] != "UNKNOWN":
            return False
        code, text = found
        return bool(wanted[1] == PREFIX + text if code in OWN_WORDS else code == "INTERNAL")
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(is_same(wanted[key], found[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(is_same, wanted, found))
    if isinstance(wanted, float) and isinstance(found, float):
        return math.isclose(wanted, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(wanted == found)


@pytest.fixture(scope="module")
def pairs(
    peer_python: Callable[[str], Path],
    run_shared: Callable[..., Process],
    open_channel: Callable[[str], grpc.Channel],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Pair]:
    folders = [tmp_path_factory.mktemp("folder") for _ in FOLDERS]
    for folder, processor in zip(folders, FOLDERS.values(), strict=True):
        (folder / "model.py").write_text((Path(__file__).parent / "component" / "model.py").read_text())
        weights = {"weight": np.float32([[1, 10], [2, 20]]), "bias": np.float32([0.5, -0.5])}
        save_file(weights, folder / "model.safetensors")
        (folder / "processor.py").write_text(processor)
        if RUN_MODEL not in processor:
            (folder / "model.yaml").write_text(JOINED)
    command = [peer_python("component"), Path(__file__).parent / "component" / "wrappers.py", *folders]
    wrappers = run_shared(command, env={"PYTHONPATH": str(ROOT)})
    program = Path(sys.executable).with_name("dl-inference")
    servers = [run_shared([program, "predict", folder, "--listen", "127.0.0.1:0"]) for folder in folders]
    ports = wrappers.wait_line(r"^ports (\d+) (\d+)$", timeout_s=START_S)
    found = {}
    for name, port, server in zip(FOLDERS, ports.groups(), servers, strict=True):
        ours = server.wait_line(r"serving .* on (\S+)$", timeout_s=START_S)[1]
        channels = [open_channel(f"127.0.0.1:{port}"), open_channel(ours)]
        for channel in channels:
            grpc.channel_ready_future(channel).result(START_S)
        found[name] = Pair(*channels)
        found[name].ask_wrapper(REQUESTS)
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_our_server_answers_as_the_wrapper_does_alone_and_many_at_once(pairs: dict[str, Pair], folder: str) -> None:
    pair = pairs[folder]
    answers = [*pair.alone(REQUESTS).items(), *pair.at_once(REQUESTS)]
    assert len(answers) == (1 + REPEATS) * len(REQUESTS)
    assert [(name, pair.wanted[name], each) for name, each in answers if not is_same(pair.wanted[name], each)] == []


def test_requests_are_of_all_outcomes_so_that_the_comparison_says_something(pairs: dict[str, Pair]) -> None:
    for pair in pairs.values():
        failures = [name for name, each in pair.wanted.items() if isinstance(each, tuple)]
        answers = [each for each in pair.wanted.values() if not isinstance(each, tuple)]
        assert len(failures) >= 14
        for kind in ("jsonData", "strData", "binData"):
            assert sum(kind in each for each in answers) >= 8, (kind, pair.wanted)
        for kind in ("tensor", "ndarray"):
            assert sum(kind in each.get("data", {}) for each in answers) >= 8
        # No two requests have the same answer, but for yes and no: one in another's place is seen.
        numbers = [repr(each) for each in answers if "yes" not in repr(each) and "no" not in repr(each)]
        assert len(set(numbers)) == len(numbers)
