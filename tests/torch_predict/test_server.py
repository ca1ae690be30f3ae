"""The server around a stand-in for the native front; test_server_native.py has the real one."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import threading

import numpy as np
import pytest
import torch
from fixtures.torch_fakes import FakeBatch, FakeItem

from dl_inference.serving.options import ServeOptions
from torch_predict import server
from torch_predict.config import ServerSettings

MODEL_PY = "import torch\nclass Model(torch.nn.Linear):\n    def __init__(self): super().__init__(2, 1)\n"


class FakeWorker:
    """Hands over the batches that were put in; drains when they are answered."""

    def __init__(self, document, on_ready=lambda worker: None):
        self.document = json.loads(document)
        self.on_ready = on_ready
        self.batches = queue.Queue()
        self.calls = []
        self.stages = []
        self.clean = True
        self.may_drain = threading.Event()
        self.may_drain.set()

    def start(self):
        self.calls.append("start")
        return self.document["listen"]

    def set_ready(self, ready):
        self.calls.append(f"set_ready({ready})")
        self.on_ready(self)

    def next_batch(self, timeout_ms):
        try:
            return self.batches.get(timeout=timeout_ms / 1000)
        except queue.Empty:
            return None

    def drain(self, timeout_ms):
        self.calls.append(f"drain({timeout_ms})")
        self.may_drain.wait(10)
        return self.clean

    def stop(self):
        self.calls.append("stop")

    def measured(self, calls, rows, preprocess_s, model_s, postprocess_s):
        self.stages.append((calls, rows))

    def left_out(self, calls):
        self.stages.append("left")

    def show_metrics(self, text):
        pass

    def notices(self):
        return []


@pytest.fixture
def folder(write):
    folder = write({"model.py": MODEL_PY})
    torch.save({"weight": torch.tensor([[1.0, 10.0]]), "bias": torch.zeros(1)}, folder / "model.pt")
    return folder


def options_of(folder, **options):
    return ServeOptions(**{"model_dir": folder, "listen": ["127.0.0.1:0"], **options})


def serve(folder, on_ready, settings=None, **options):
    """Serve until `on_ready` has sent the signal; return the exit status and the front."""
    workers = []

    def make_worker(document, descriptors):
        workers.append(FakeWorker(document, on_ready))
        return workers[0]

    status = server.serve(options_of(folder, **options), settings=settings, make_worker=make_worker)
    return status, workers[0] if workers else None


def terminate(worker=None):
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_drains_and_then_stops(folder):
    status, worker = serve(folder, terminate)
    assert status == 0
    assert worker.calls == ["start", "set_ready(True)", "drain(30000)", "stop"]


def test_interrupt_is_a_stop_signal_too(folder):
    status, worker = serve(folder, lambda worker: os.kill(os.getpid(), signal.SIGINT))
    assert (status, worker.calls[-1]) == (0, "stop")


def test_what_is_queued_is_still_answered_while_draining(folder):
    batch = FakeBatch(FakeItem("tensor", np.array([[1.0, 2.0]])))
    answered = threading.Event()
    batch.reply = lambda *args: (FakeBatch.reply(batch, *args), answered.set())

    def on_ready(worker):
        worker.may_drain = answered
        worker.batches.put(batch)
        terminate()

    status, _ = serve(folder, on_ready)
    assert status == 0
    assert batch.answers[0][1].tolist() == [[21.0]]


def test_a_drain_that_ran_out_is_told_in_the_status(folder, caplog):
    def on_ready(worker):
        worker.clean = False
        terminate()

    assert serve(folder, on_ready)[0] == 1
    assert "stopped with calls unanswered" in caplog.text


def test_signals_are_given_back(folder):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    serve(folder, terminate)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_the_front_gets_every_setting(folder, monkeypatch):
    (folder / "model.yaml").write_text("timeout_ms: 700\nlimits: {max_streams: 7}")
    monkeypatch.setenv("DL_INFERENCE_LIMITS__MAX_MESSAGE_BYTES", "2048")
    settings = ServerSettings(torch_threads=1)
    flags = {"max_queue": "5", "frame_credit": "9"}
    _, worker = serve(folder, terminate, admin="127.0.0.1:1", limits=flags, settings=settings)
    assert worker.document["listen"] == ["127.0.0.1:0"]
    assert worker.document["admin"] == "127.0.0.1:1"
    assert worker.document["model"] == "m"
    assert worker.document["version"] == "1"
    assert worker.document["max_queue"] == 5
    assert worker.document["timeout_ms"] == 700
    limits = worker.document["limits"]
    assert (limits["max_streams"], limits["max_message_bytes"], limits["frame_credit"]) == (7, 2048, 9)
    assert torch.get_num_threads() == 1


def test_a_version_can_be_chosen(write):
    folder = write({"1/model.py": MODEL_PY, "2/model.py": MODEL_PY})
    for version in "12":
        torch.save({"weight": torch.zeros(1, 2), "bias": torch.zeros(1)}, folder / version / "model.pt")
    assert serve(folder, terminate)[1].document["version"] == "2"
    assert serve(folder, terminate, version=1)[1].document["version"] == "1"


@pytest.mark.parametrize(
    ("breakage", "words"),
    [
        (lambda folder: (folder / "model.pt").unlink(), "holds no model"),
        (lambda folder: (folder / "model.py").write_text("x ="), "model.py:1: SyntaxError"),
        (lambda folder: (folder / "processor.py").write_text("def preprocess(): pass"), "cannot be called as a hook"),
        (lambda folder: torch.save(torch.nn.ReLU(), folder / "model.pt"), "--allow-pickle"),
    ],
)
def test_a_model_that_cannot_be_served_is_told_before_anything_listens(folder, caplog, breakage, words):
    breakage(folder)
    status, worker = serve(folder, terminate)
    assert (status, worker) == (1, None)
    assert words in caplog.text


def test_a_version_that_is_not_there_is_told(folder, caplog):
    assert serve(folder, terminate, version=9)[0] == 1
    assert "there is no version 9; found: 1" in caplog.text


def test_a_setting_that_does_not_fit_is_told(folder, caplog, monkeypatch):
    monkeypatch.setenv("DL_INFERENCE_TORCH_THREADS", "many")
    assert serve(folder, terminate)[0] == 1
    assert "DL_INFERENCE_TORCH_THREADS=many" in caplog.text


def test_a_device_that_is_not_there_is_told(folder, caplog, monkeypatch):
    monkeypatch.setenv("DL_INFERENCE_TORCH_DEVICE", "cuda:99")
    assert serve(folder, terminate)[0] == 1
    assert "device cuda:99: is not on this machine: " in caplog.text
    assert "here is cpu" in caplog.text
    assert "correct device in model.yaml, or DL_INFERENCE_TORCH_DEVICE" in caplog.text


def test_a_process_gets_its_device_and_threads_from_model_yaml_and_its_supervisor(folder, caplog):
    (folder / "model.yaml").write_text("device: [cuda:98, cuda:99]")
    assert serve(folder, terminate, instance=3, threads=1)[0] == 1
    assert "device cuda:99: is not on this machine: " in caplog.text
    assert torch.get_num_threads() == 1


def test_threads_of_model_yaml_win_over_the_share_and_a_variable_over_both(folder, monkeypatch):
    (folder / "model.yaml").write_text("threads: 2")
    serve(folder, terminate, threads=3)
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("DL_INFERENCE_TORCH_THREADS", "1")
    serve(folder, terminate, threads=3)
    assert torch.get_num_threads() == 1


def test_samples_warm_the_model_up_before_it_is_ready(folder, caplog):
    caplog.set_level("INFO")
    (folder / "samples").mkdir()
    (folder / "samples" / "x.bin").write_bytes(b"1")
    cases = [
        {"request": {"data": {"tensor": {"shape": [1, 2], "values": [1, 2]}}}},
        {"request": {"data": {"ndarray": [[1, 2]]}}},
        {"request": {"data": {"ndarray": [[1, 2, 3]]}}},
        {"request": {"binData": {"file": "x.bin"}}},
        {"request": {"binData": "MQ==", "meta": {"tags": {"a": 1}}}},
        {"request": {"strData": "a"}},
    ]
    (folder / "samples" / "expected.json").write_text(json.dumps(cases))
    assert serve(folder, terminate)[0] == 0
    assert "warmed up with 6 samples" in caplog.text
    assert "case 2 of samples/expected.json failed" in caplog.text


def test_samples_that_expect_no_answer_keep_nobody_from_being_served(folder, caplog):
    (folder / "samples").mkdir()
    (folder / "samples" / "expected.json").write_text('[{"request": 1}]')
    assert serve(folder, terminate)[0] == 0
    assert "case 0 cannot be read" in caplog.text


def test_an_address_in_use_is_told_before_the_model_loads(folder, caplog):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert server.serve(options_of(folder, listen=[address])) == 1
        assert server.serve(options_of(folder, admin=address)) == 1
    assert f"cannot listen on {address}: Address already in use" in caplog.text
    assert "loading" not in caplog.text
