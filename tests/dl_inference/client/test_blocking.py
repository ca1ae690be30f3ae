"""The client beside a real grpcio server: what goes over, what comes back, and every way in which a call fails."""

from __future__ import annotations

import inspect
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
from echo_server import FEEDBACK, Echo, start
from fixtures.contract import METHODS
from fixtures.processes import ROOT

import dl_inference
from dl_inference import (
    AsyncClient,
    BadAnswer,
    Cancelled,
    Client,
    DeadlineExceeded,
    InputError,
    NotFound,
    ResourceExhausted,
    Retries,
    Signature,
    TensorSpec,
    Unavailable,
    Unimplemented,
    messages,
)
from dl_inference.client import calls, errors, retries
from dl_inference.codec import oip, seldon, tfs

X = np.arange(6, dtype=np.float32).reshape(2, 3)
# Far beyond what an answer takes on a busy machine, far below what would hide a hang.
LONG_MS = 30_000


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Echo, str]]:
    handler = Echo()
    running, address = start(handler)
    yield handler, address
    handler.cancelled.set()
    running.stop(0).wait()


@pytest.fixture
def echo(server: tuple[Echo, str]) -> Echo:
    server[0].waiting.clear()
    server[0].cancelled.clear()
    return server[0]


@pytest.fixture
def client(server: tuple[Echo, str]) -> Iterator[Client]:
    with Client(server[1], timeout_ms=LONG_MS) as made:
        yield made


# --- what goes over and comes back


def test_tfs_takes_named_arrays_and_gives_them_back(client: Client, echo: Echo):
    found = client.predict_tfs("m", {"x": X, "t": ["a"]}, signature="serve")
    assert list(found.outputs) == ["t", "x"]
    np.testing.assert_array_equal(found.outputs["x"], X)
    assert found.outputs["x"].dtype == np.float32
    assert found.value is None
    assert (found.model, found.version, found.meta) == ("m", "7", {"signature_name": "serve"})
    only = client.predict_tfs("m", {"x": X, "y": X + 1}, version=3, outputs=["y"])
    np.testing.assert_array_equal(only.value, X + 1)
    assert only.version == "3"


def test_a_version_label_goes_over(client: Client, echo: Echo):
    request = tfs.request("m", {"x": X}, label="stable")
    assert request.model_spec.version_label == "stable"
    client.predict_tfs("m", {"x": X}, label="stable")


def test_oip_takes_named_arrays_and_gives_them_back(client: Client):
    found = client.predict_oip("m", {"x": X, "t": ["a"]}, version=3, parameters={"a": 1, "b": "c", "d": 0.5, "e": True})
    assert list(found.outputs) == ["x", "t"]
    np.testing.assert_array_equal(found.outputs["x"], X)
    assert (found.model, found.version, found.meta) == ("m", "3", {"a": 1, "b": "c", "d": 0.5, "e": True})
    np.testing.assert_array_equal(client.predict_oip("m", {"x": X, "y": X + 1}, outputs=["y"]).value, X + 1)


def test_seldon_takes_anything_and_gives_it_back(client: Client, echo: Echo):
    found = client.predict_seldon("m", X, names=["a", "b", "c"], tags={"scale": 2, "who": "me"})
    np.testing.assert_array_equal(found.value, X)
    assert found.outputs["data"] is found.value
    assert (found.names, found.tags) == (("a", "b", "c"), {"scale": 2.0, "who": "me"})
    assert echo.metadata["x-model"] == "m"
    for value in (b"bytes", "text", {"a": [1.0, None]}, [1.0], None):
        found = client.predict_seldon("m", value)
        assert (found.value, found.outputs, found.model) == (value, {}, "m")
    np.testing.assert_array_equal(client.predict_seldon("m", X, kind="tensor").value, X.astype(np.float64))


def test_a_model_whose_name_is_no_ascii_goes_into_the_tags(client: Client, echo: Echo):
    assert client.predict_seldon("模型", "x", tags={"a": 1}).tags == {"a": 1.0, "model": "模型"}
    assert "x-model" not in echo.metadata
    client.predict_seldon("", "x")
    assert "x-model" not in echo.metadata


def test_an_answer_says_who_gave_it_and_how(client: Client, echo: Echo):
    found = client.predict_tfs("m", {"x": X}, metadata=[("x-request-id", "my-1"), ("extra", "yes")])
    assert (found.request_id, found.endpoint, found.attempts) == ("my-1", "10.0.0.1:8500", 2)
    assert 0 < found.took_ms < LONG_MS
    assert echo.metadata["extra"] == "yes"
    made = client.predict_tfs("m", {"x": X}).request_id
    assert echo.metadata["x-request-id"] == made
    assert made != client.predict_tfs("m", {"x": X}).request_id


def test_what_servers_say_of_their_models(client: Client):
    assert client.status_tfs("m") == {6: "END", 7: "AVAILABLE"}
    x, t = TensorSpec("x", "float32", (-1, 4)), TensorSpec("t", "bytes", None)
    assert client.signatures_tfs("m", version=3) == {
        "serving_default": Signature({"x": x}, {"t": t}, "tensorflow/serving/predict")
    }
    found = client.metadata_oip("m")
    assert (found.name, found.versions, found.platform) == ("m", ("1", "3"), "test")
    assert found.inputs == {"x": TensorSpec("x", "float16", (-1, 4))}
    assert found.outputs == {"t": TensorSpec("t", "bytes", (-1,))}
    assert [client.ready_oip("m", version=version) for version in (3, "1", "")] == [True, False, False]


def test_any_method_can_be_called_with_messages_of_any_package(client: Client, echo: Echo):
    class Theirs:
        def SerializeToString(self):
            return messages.SeldonMessage(strData="x").SerializeToString()

        @staticmethod
        def FromString(data):
            return data

    answer = client.send(FEEDBACK, Theirs(), Theirs, model="m")
    assert answer.message == Theirs().SerializeToString()
    assert echo.metadata["x-model"] == "m"
    assert answer.attempts == 2


def test_the_dl_inference_service_is_called_where_that_is_asked_for(server: tuple[Echo, str]):
    echo, address = server
    service = "/com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService/"
    with Client(address, dl_inference_service=True) as client:
        before = echo.calls.copy()
        client.predict_tfs("textcnn-69", {"x": X})
        client.predict_seldon("39", X, tags={"taskId": 39})
        client.predict_oip("m-1", {"x": X})
        assert {path: echo.calls[path] - before[path] for path in echo.calls if echo.calls[path] != before[path]} == {
            service + "Predict": 1,
            service + "PytorchPredict": 1,
            service + "TisPredict": 1,
        }


def test_eight_threads_share_a_client_and_each_gets_its_own_answers(client: Client):
    def work(number: int) -> None:
        for index in range(40):
            mine = np.full((number + 1, 500), number * 100 + index, np.int64)
            np.testing.assert_array_equal(client.predict_tfs("m", {"x": mine}).value, mine)
            np.testing.assert_array_equal(client.predict_seldon("m", mine).value, mine)

    with futures.ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, number) for number in range(8)]:
            done.result(60)


def test_a_client_without_a_call_opens_nothing_and_works_after_a_fork(server: tuple[Echo, str]):
    code = f"""
import os, sys
from dl_inference import Client
fresh, used = Client({server[1]!r}), Client({server[1]!r})
if sys.argv[1] == "used":
    used.predict_seldon("m", "x")
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
client = used if sys.argv[1] == "used" else fresh
try:
    print(client.predict_seldon("m", "x").value, flush=True)
except RuntimeError as error:
    print(error, flush=True)
os._exit(0)
"""
    for which, words in (("fresh", "x"), ("used", "make one in each process")):
        done = subprocess.run(
            [sys.executable, "-c", code, which], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert words in done.stdout


# --- errors


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_has_its_class_with_all_that_is_known(
    client: Client, server: tuple[Echo, str], code: grpc.StatusCode
):
    expected = errors.BY_CODE[code.name]
    for call in (
        lambda: client.predict_tfs(code.name, {"x": X}),
        lambda: client.predict_seldon(code.name, X),
        lambda: client.predict_oip(code.name, {"x": X}),
    ):
        with pytest.raises(expected) as caught:
            call()
        error = caught.value
        assert type(error) is expected
        assert (error.code, error.message, error.kind) == (code.name, f"broken: {code.name}", "hook")
        assert (error.attempts, error.endpoint, error.request_id) == (3, None, "theirs")
        assert error.address.startswith("127.0.0.1:")
        assert "traceback under the request id" in str(error)
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.trailers) == (str(error), error.trailers)


def test_each_code_has_one_class_and_each_class_is_exported():
    assert set(errors.BY_CODE) == {code.name for code in grpc.StatusCode} - {"OK"}
    made = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert made <= set(dl_inference.__all__)
    assert all(getattr(dl_inference, name).__doc__ for name in dl_inference.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        _ = dl_inference.Server


def test_a_hanging_server_is_left_at_the_deadline(client: Client, echo: Echo, server: tuple[Echo, str]):
    with Client(server[1], timeout_ms=400) as short:
        for call in (
            lambda: client.predict_tfs("slow", {"x": X}, timeout_ms=400),
            lambda: short.predict_tfs("slow", {"x": X}),
        ):
            begin = time.monotonic()
            with pytest.raises(DeadlineExceeded, match="no answer within 400 ms") as caught:
                call()
            assert 0.3 < time.monotonic() - begin < 10
            assert len(caught.value.request_id) == 32  # ours: nobody answered
            assert echo.cancelled.wait(20)  # the server knows
            echo.cancelled.clear()


def test_a_server_killed_during_a_call_is_unavailable(run):
    process = run([sys.executable, Path(__file__).with_name("echo_server.py")], env={"PYTHONPATH": str(ROOT)})
    with Client(process.wait_line(r"^listening (\S+)", timeout_s=60)[1], timeout_ms=LONG_MS) as client:
        np.testing.assert_array_equal(client.predict_tfs("m", {"x": X}).value, X)
        with futures.ThreadPoolExecutor() as pool:
            call = pool.submit(client.predict_tfs, "slow", {"x": X})
            process.wait_line("^waiting")
            process.signal(signal.SIGKILL)
            with pytest.raises(Unavailable):
                call.result(30)
        with pytest.raises(Unavailable, match="is the server running"):
            client.predict_tfs("m", {"x": X})


def test_what_is_no_answer_is_named(client: Client):
    for call in (
        lambda model: client.predict_tfs(model, {"x": X}),
        lambda model: client.predict_seldon(model, X),
        lambda model: client.predict_oip(model, {"x": X}),
    ):
        with pytest.raises(BadAnswer, match="3 bytes that are not a valid answer") as caught:
            call("garbage")
        assert (caught.value.code, caught.value.attempts) == ("INTERNAL", 2)
        with pytest.raises(BadAnswer, match="the answer is empty"):
            call("empty")


def test_a_message_beyond_the_limit_is_refused_both_ways(server: tuple[Echo, str]):
    big = np.zeros(30_000, np.uint8)
    with (
        Client(server[1], max_message_bytes=20_000) as client,
        pytest.raises(ResourceExhausted, match="larger than max"),
    ):
        client.predict_tfs("m", {"x": big})
    with Client(server[1], max_message_bytes=40_000) as client:
        assert client.predict_tfs("m", {"x": big}).value.nbytes == 30_000
        # The answer is longer than the request: the server says the model's version, too.
        request = len(tfs.request("m", {"x": big}).SerializeToString())
    words = "larger than max"
    with Client(server[1], max_message_bytes=request) as client, pytest.raises(ResourceExhausted, match=words):
        client.predict_tfs("m", {"x": big})


def test_a_method_that_the_server_does_not_have_is_unimplemented(client: Client):
    with pytest.raises(Unimplemented, match="does not speak this protocol"):
        client.is_serving()


def test_a_closed_client_says_so_and_ends_its_calls(client: Client, echo: Echo):
    with futures.ThreadPoolExecutor() as pool:
        call = pool.submit(client.predict_tfs, "slow", {"x": X})
        assert echo.waiting.wait(20)
        client.close()
        with pytest.raises(Cancelled):
            call.result(20)
    client.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        client.predict_tfs("m", {"x": X})


def test_a_call_that_meets_a_closing_client_is_cancelled(client: Client, monkeypatch: pytest.MonkeyPatch):
    find = client._method

    def closed_meanwhile(path: str):
        method = find(path)
        client.close()
        return method

    monkeypatch.setattr(client, "_method", closed_meanwhile)
    with pytest.raises(Cancelled):
        client.predict_tfs("m", {"x": X})


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://a:1", "an address has no http://"),
        ("localhost", "the port is missing"),
        ("localhost:", r"port '' is not in 1\.\.65535"),
        (":8500", "the host is missing"),
        ("a:99999", r"port '99999' is not in 1\.\.65535"),
        ("unix:relative", "unix:/absolute/path"),
        ("::1:8500", "an IPv6 address is written"),
    ],
)
def test_an_address_that_grpc_would_misunderstand_is_refused(address: str, words: str):
    with pytest.raises(InputError, match=words):
        Client(address)
    with pytest.raises(InputError, match=words):
        AsyncClient(address)


@pytest.mark.parametrize("timeout_ms", [0, -1, float("nan"), float("inf"), True, "5", 86_400_001])
def test_a_timeout_is_a_number_of_ms(client: Client, timeout_ms):
    with pytest.raises(InputError, match="timeout_ms"):
        Client("a:1", timeout_ms=timeout_ms)
    with pytest.raises(InputError, match="timeout_ms"):
        client.predict_seldon("m", "x", timeout_ms=timeout_ms)


# --- retries


def test_without_retries_a_call_is_made_once(client: Client, echo: Echo):
    with pytest.raises(Unavailable, match="attempt 1"):
        client.predict_tfs("fails 1", {"x": X}, metadata=[("x-request-id", "once")])
    assert echo.attempts["once"] == 1


def test_retries_are_made_until_an_answer_or_the_most_attempts(server: tuple[Echo, str]):
    echo, address = server
    with Client(address, retries=Retries(backoff_ms=10, budget=1_000), timeout_ms=LONG_MS) as client:
        big = np.zeros(1_000_000, np.float32)  # beyond what gRPC would keep by itself
        for number, call in enumerate(
            [
                lambda model, **options: client.predict_tfs(model, {"x": big}, **options),
                lambda model, **options: client.predict_seldon(model, X, **options),
                lambda model, **options: client.predict_oip(model, {"x": X}, **options),
            ]
        ):
            call("fails 2", metadata=[("x-request-id", f"third-{number}")])
            assert echo.attempts[f"third-{number}"] == 3
            with pytest.raises(Unavailable, match="attempt 3"):
                call("fails 9", metadata=[("x-request-id", f"never-{number}")])
            assert echo.attempts[f"never-{number}"] == 3
            with pytest.raises(NotFound):
                call("NOT_FOUND", metadata=[("x-request-id", f"other-{number}")])
            assert echo.attempts[f"other-{number}"] == 1
        with pytest.raises(Unavailable):  # may not be sent twice
            client.send(
                FEEDBACK,
                messages.SeldonMessage(),
                messages.SeldonMessage,
                model="fails 1",
                metadata=[("x-request-id", "feedback")],
            )
        assert echo.attempts["feedback"] == 1


def test_retries_stay_within_the_deadline(server: tuple[Echo, str]):
    echo, address = server
    retries = Retries(max_attempts=5, backoff_ms=60_000, max_backoff_ms=60_000)
    with Client(address, retries=retries) as client:
        begin = time.monotonic()
        with pytest.raises((DeadlineExceeded, Unavailable)):
            client.predict_tfs("fails 9", {"x": X}, timeout_ms=500, metadata=[("x-request-id", "short")])
        assert time.monotonic() - begin < 10
        assert echo.attempts["short"] == 1


def test_retries_pause_when_their_budget_is_spent():
    echo = Echo()  # an address of its own: the budget is one for all clients of an address
    running, address = start(echo)
    with Client(address, retries=Retries(max_attempts=2, backoff_ms=10, budget=6)) as client:
        for _ in range(10):
            with pytest.raises(Unavailable):
                client.predict_tfs("fails 9", {"x": X})
    running.stop(0).wait()
    # Three failures halve the budget: two calls of up to two attempts, then one attempt each.
    assert 10 < echo.calls[tfs.PREDICT] <= 12


@pytest.mark.parametrize(
    "settings",
    [
        {"max_attempts": 1},
        {"max_attempts": 6},
        {"backoff_ms": 9},
        {"max_backoff_ms": 60_001},
        {"budget": 0},
        {"budget": 1.5},
    ],
)
def test_a_number_of_retries_has_its_range(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        Retries(**settings)


# --- the public face


def test_both_clients_have_the_same_methods_and_parameters():
    def methods(kind: type) -> dict[str, inspect.Signature]:
        public = {name: value for name, value in vars(kind).items() if not name.startswith("_") or name == "__init__"}
        return {name: inspect.signature(value).replace(return_annotation=None) for name, value in public.items()}

    # A stream's inputs alone differ: they may come asynchronously, too.
    asynchronous = methods(AsyncClient)
    streamed = asynchronous["stream_oip"].parameters.values()
    inputs = inspect.signature(Client.stream_oip).parameters["inputs"]
    parameters = [inputs if each.name == "inputs" else each for each in streamed]
    asynchronous["stream_oip"] = asynchronous["stream_oip"].replace(parameters=parameters)
    assert methods(Client) == asynchronous


def loaded(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path("/"), timeout=60
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_the_client_loads_no_server_and_the_package_alone_nothing():
    alone = loaded("import dl_inference")
    assert not alone & {"grpc", "numpy", "google"}
    whole = loaded("from dl_inference import Client, AsyncClient, NotFound")
    assert {"grpc", "numpy"} <= whole
    assert not whole & {"torch", "tensorflow", "access", "torch_predict", "pydantic", "rich", "typer", "ml_dtypes"}


def test_paths_are_those_of_the_contract():
    known = {row["path"]: row for row in METHODS}
    assert {tfs.STATUS, tfs.METADATA, oip.STREAM, oip.METADATA, oip.READY, calls.HEALTH} <= known.keys()
    for ours, theirs in calls.DL_INFERENCE.items():
        assert known[ours]["protocol"] == known[theirs]["protocol"]
        assert known[ours]["kind"] == known[theirs]["kind"] == "predict"


def test_only_what_may_be_sent_twice_is_retried():
    idempotent = {row["path"] for row in METHODS if row.get("idempotent", row["kind"] in ("predict", "metadata"))}
    assert set(retries._IDEMPOTENT) <= idempotent | {calls.HEALTH}


def test_every_method_that_the_client_calls_and_that_may_be_sent_twice_is_retried():
    named = [text for module in (calls, oip, seldon, tfs) for text in vars(module).values() if isinstance(text, str)]
    called = {*named, *calls.DL_INFERENCE, *calls.DL_INFERENCE.values()}
    idempotent = {row["path"] for row in METHODS if row.get("idempotent", row["kind"] in ("predict", "metadata"))}
    assert {tfs.PREDICT, seldon.PREDICT, oip.INFER} <= called & idempotent
    assert set(retries._IDEMPOTENT) == called & idempotent | {calls.HEALTH}
