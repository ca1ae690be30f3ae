"""The client through the real access service: to our PyTorch server, to grpcio servers, and to nobody."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from echo_server import Echo, start
from fixtures.access_process import Access
from fixtures.lacking import lacking
from fixtures.processes import ROOT, Process

from dl_inference import (
    BadAnswer,
    Client,
    DeadlineExceeded,
    InputError,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)

X = np.arange(6, dtype=np.float32).reshape(3, 2)
MODEL_PY = "import torch\nclass Model(torch.nn.Linear):\n    def __init__(self): super().__init__(1, 1, bias=False)\n"
# As safetensors writes one weight; torch itself would take seconds to import here.
HEADER = b'{"weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)
# Doubles numbers and says what else it got; the model is not asked.
PROCESSOR_PY = """
import numpy as np, torch_predict

def preprocess(x, **kwargs):
    if isinstance(x, str) and x == "raise":
        raise KeyError("secret")
    if isinstance(x, str) and x == "invalid":
        raise torch_predict.InvalidInput("send numbers")
    return x

def run_model(model, x, **kwargs):
    if isinstance(x, dict):
        return {"got": x, "meta": kwargs["meta"]}
    return np.asarray(x * 2) if isinstance(x, np.ndarray) and x.dtype.kind in "fiu" else x
"""


class Fleet(NamedTuple):
    access: Access
    echo: Echo
    client: Client
    address: str
    torch: str


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if importlib.util.find_spec("torch") is None:
        lacking("torch is not installed")
    base = tmp_path_factory.mktemp("fleet")
    folder = base / "double"
    folder.mkdir()
    (folder / "model.py").write_text(MODEL_PY)
    (folder / "processor.py").write_text(PROCESSOR_PY)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    with contextlib.ExitStack() as ends:

        def run(command, **options) -> Process:
            process = Process(command, **options)
            ends.callback(lambda: print(f"--- {process.command}\n{process.log}"))
            ends.callback(process.kill)
            return process

        environment = {"DL_INFERENCE_TORCH_THREADS": "1", "PYTHONPATH": str(ROOT)}
        program = [sys.executable, "-m", "dl_inference.cli", "predict", folder, "--listen", f"unix:{base}/torch"]
        server = run(program, env=environment)
        echo = Echo()
        running, address = start(echo)
        ends.callback(lambda: running.stop(0).wait())
        ends.callback(echo.cancelled.set)
        server.wait_line("serving double version 1", timeout_s=90)
        models = {name: {"endpoints": [address]} for name in ("m", "slow", "garbage", "empty", "NOT_FOUND")}
        models |= {"double": {"endpoints": [f"unix:{base}/torch"]}, "nobody": {"endpoints": [f"unix:{base}/nobody"]}}
        listen = ["127.0.0.1:0", f"unix:{base}/access"]
        access = Access(run, base, {"models": models, "listen": listen})
        access.wait_live_model("double")
        access.wait_live_model("m")
        client = ends.enter_context(Client(access.address, timeout_ms=30_000))
        yield Fleet(access, echo, client, address, f"unix:{base}/torch")


@pytest.fixture
def client(fleet: Fleet) -> Client:
    fleet.echo.cancelled.clear()
    fleet.echo.waiting.clear()
    return fleet.client


# --- our PyTorch server


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8"])
def test_the_pytorch_server_keeps_the_type_of_a_tftensor(client: Client, dtype: str):
    for shape in ((), (0,), (3,), (2, 2, 2, 2)):
        array = np.ones(shape, dtype)
        found = client.predict_seldon("double", array)
        assert found.value.dtype == array.dtype
        np.testing.assert_array_equal(found.value, array * 2)
    assert found.names[:2] == ("t:0", "t:1")


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool"])
def test_the_pytorch_server_answers_oip_with_what_the_client_sent(client: Client, dtype: str):
    for shape in ((1,), (3, 2), (2, 2, 2, 2)):
        array = np.ones(shape, dtype)
        found = client.predict_oip("double", {"x": array})
        np.testing.assert_array_equal(found.value, array if dtype == "bool" else array * 2)
    assert client.ready_oip("double")
    assert client.metadata_oip("double").name == "double"


def test_the_pytorch_server_takes_every_other_kind(client: Client):
    np.testing.assert_array_equal(client.predict_seldon("double", X, kind="tensor").value, X.astype(float) * 2)
    np.testing.assert_array_equal(client.predict_seldon("double", X, kind="ndarray").value, X.astype(float) * 2)
    np.testing.assert_array_equal(client.predict_seldon("double", np.array(["a", "b"])).value, ["a", "b"])
    np.testing.assert_array_equal(client.predict_seldon("double", np.array([True, False])).value, [True, False])
    assert client.predict_seldon("double", b"\x89PNG").value == b"\x89PNG"
    assert client.predict_seldon("double", "text").value == "text"
    found = client.predict_seldon("double", {"a": [1]}, tags={"who": "me"})
    assert found.value == {"got": {"a": [1.0]}, "meta": {"tags": {"who": "me"}}}
    assert found.tags == {"who": "me"}


def test_a_stream_goes_through_the_access_service_and_directly(fleet: Fleet, client: Client):
    inputs = [
        {"x": X},
        {"x": np.array([b"text"], object)},
        {"x": X.astype(np.int64)},
        {"strData": np.array([b"raise"], object)},
    ]
    with Client(fleet.torch) as direct:
        for each in (client, direct):
            first, second, third, fourth = each.stream_oip("double", inputs, version="1")
            np.testing.assert_array_equal(first.value, X * 2)
            assert first.value.dtype == np.float32
            assert second.value.tolist() == [b"text"]
            assert third.value.dtype == np.int64
            assert isinstance(fourth, Internal), fourth
            assert fourth.request_id in fourth.message
    with pytest.raises(NotFound) as caught:
        list(client.stream_oip("doubel", inputs))
    assert caught.value.kind == "no_route"


def test_a_version_of_a_seldon_call_is_answered_or_not_found(client: Client):
    assert client.predict_seldon("double", "text", version=1).value == "text"
    own = [("x-model-version", "1")]  # what the caller's own metadata say wins, as with x-model
    assert client.predict_seldon("double", "text", version=7, metadata=own).value == "text"
    for version in (7, "stable"):
        with pytest.raises(NotFound, match=f'no version "{version}"'):
            client.predict_seldon("double", "text", version=version)
    with pytest.raises(InputError, match="printable ASCII"):
        client.predict_seldon("double", "text", version="\u00e9")


def test_an_answer_through_the_access_service_says_by_whom(fleet: Fleet, client: Client):
    found = client.predict_seldon("double", X, metadata=[("x-request-id", "mine-1")])
    assert (found.attempts, found.endpoint, found.request_id) == (1, fleet.torch, "mine-1")


def test_what_a_hook_raises_is_typed_and_names_the_request(client: Client):
    with pytest.raises(InvalidArgument, match="send numbers") as refused:
        client.predict_seldon("double", "invalid")
    assert refused.value.kind == "bad_request"
    with pytest.raises(Internal) as failed:
        client.predict_seldon("double", "raise")
    assert failed.value.kind == "hook"
    assert failed.value.request_id in failed.value.message
    assert "secret" not in str(failed.value)


def test_unix_sockets_are_called_as_other_addresses_are(fleet: Fleet):
    for address in (fleet.access.addresses[1], fleet.torch):
        assert address.startswith("unix:/")
        with Client(address, timeout_ms=30_000) as direct:
            np.testing.assert_array_equal(direct.predict_seldon("double", X).value, X * 2)
            assert direct.is_serving()


# --- all protocols through the access service


def test_every_protocol_passes(client: Client):
    x = np.arange(300_000, dtype=np.float32)
    for found in (client.predict_tfs("m", {"x": x}), client.predict_oip("m", {"x": x}), client.predict_seldon("m", x)):
        np.testing.assert_array_equal(found.value, x)
        assert found.endpoint is not None
    assert client.status_tfs("m")[7] == "AVAILABLE"
    assert list(client.signatures_tfs("m")) == ["serving_default"]
    assert client.metadata_oip("m").platform == "test"
    assert client.ready_oip("m", version=3)


def test_the_dl_inference_service_passes_by_task_id(fleet: Fleet):
    with Client(fleet.access.address, timeout_ms=30_000, dl_inference_service=True) as client:
        np.testing.assert_array_equal(client.predict_tfs("m", {"x": X}).value, X)
        np.testing.assert_array_equal(client.predict_oip("m", {"x": X}).value, X)
        found = client.predict_seldon("", X, tags={"model": "double"})
        np.testing.assert_array_equal(found.value, X * 2)


def test_health_knows_models_by_name(client: Client):
    assert client.is_serving()
    assert client.is_serving("double")
    assert not client.is_serving("nobody")
    with pytest.raises(NotFound):
        client.is_serving("stranger")


# --- errors


def test_an_unknown_model_is_not_found_and_the_nearest_is_named(client: Client):
    for call in (
        lambda: client.predict_seldon("doubel", X),
        lambda: client.predict_tfs("doubel", {"x": X}),
        lambda: client.predict_oip("doubel", {"x": X}),
    ):
        with pytest.raises(NotFound, match="double") as caught:
            call()
        assert (caught.value.kind, caught.value.attempts) == ("no_route", 0)
        assert "dl-inference status" in str(caught.value)


def test_an_endpoints_own_error_keeps_its_code_and_text(client: Client):
    with pytest.raises(NotFound, match="broken: NOT_FOUND") as caught:
        client.predict_tfs("NOT_FOUND", {"x": X})
    assert caught.value.kind == "hook"  # as the endpoint said


def test_a_model_without_a_live_endpoint_is_unavailable(client: Client):
    with pytest.raises(Unavailable) as caught:
        client.predict_seldon("nobody", X)
    assert caught.value.kind in ("no_endpoints", "connect_failed")


def test_a_call_that_names_no_model_is_refused_with_the_remedy(client: Client):
    with pytest.raises(InvalidArgument, match="x-model") as caught:
        client.predict_seldon("", X)
    assert caught.value.kind == "bad_route_key"


def test_a_hanging_endpoint_is_left_at_the_deadline_and_told(fleet: Fleet, client: Client):
    with pytest.raises(DeadlineExceeded) as caught:
        client.predict_tfs("slow", {"x": X}, timeout_ms=500)
    assert caught.value.took_ms < 10_000
    assert fleet.echo.cancelled.wait(20)


def test_what_is_no_answer_is_named_with_the_endpoint(client: Client):
    with pytest.raises(BadAnswer, match="not a valid answer") as caught:
        client.predict_tfs("garbage", {"x": X})
    assert caught.value.endpoint is not None
    with pytest.raises(BadAnswer, match="the answer is empty"):
        client.predict_oip("empty", {"x": X})


def test_a_message_beyond_the_services_limit_is_refused_by_it(client: Client):
    with pytest.raises(ResourceExhausted) as caught:
        client.predict_tfs("m", {"x": np.zeros(20 << 20, np.uint8)})  # its limit is 16 MiB
    assert caught.value.kind == "message_too_large"


def test_eight_threads_call_models_of_all_protocols_at_once(client: Client):
    def work(number: int) -> None:
        for index in range(20):
            x = np.full((number + 1, 50), index, np.float32)
            np.testing.assert_array_equal(client.predict_seldon("double", x).value, x * 2)
            np.testing.assert_array_equal(client.predict_tfs("m", {"x": x}).value, x)
            np.testing.assert_array_equal(client.predict_oip("m", {"x": x}).value, x)

    with futures.ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, number) for number in range(8)]:
            done.result(60)


def test_an_access_service_killed_during_a_call_is_unavailable(
    run: Callable[..., Process], tmp_path: Path, fleet: Fleet, client: Client
):
    access = Access(run, tmp_path, {"models": {"slow": {"endpoints": [fleet.address]}}})
    access.wait_live_model("slow")
    with Client(access.address, timeout_ms=30_000) as other, futures.ThreadPoolExecutor() as pool:
        call = pool.submit(other.predict_tfs, "slow", {"x": X})
        assert fleet.echo.waiting.wait(20)
        access.process.signal(signal.SIGKILL)
        with pytest.raises(Unavailable):
            call.result(30)
    assert fleet.echo.cancelled.wait(20)
