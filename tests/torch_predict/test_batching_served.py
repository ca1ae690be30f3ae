"""Joined requests over real sockets: many callers at once, errors, callers that go, priorities."""

from __future__ import annotations

import random
import re
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import torch
from fixtures.access_process import wait_until
from fixtures.processes import Process

from dl_inference.messages import SeldonMessage

SERVE = """
import sys
from pathlib import Path
from dl_inference.serving.options import ServeOptions
from torch_predict.server import serve
sys.exit(serve(ServeOptions(model_dir=Path(sys.argv[1]), listen=("127.0.0.1:0",), admin="127.0.0.1:0")))
"""
MODEL = """
import time, torch
class Model(torch.nn.Module):
    def forward(self, x):
        time.sleep(0.002)
        if (x == 14).any():
            time.sleep(1)
        if (x == 13).any():
            raise ValueError("thirteen")
        return x * 2
"""


class Served:
    def __init__(self, folder):
        (folder / "model.py").write_text(MODEL)
        (folder / "model.yaml").write_text("batching: {mode: always, max_rows: 16}\nmax_queue: 4096\n")
        torch.save({}, folder / "model.pt")
        self.process = Process([sys.executable, "-c", SERVE, folder], env={"DL_INFERENCE_TORCH_THREADS": "1"})
        line = self.process.wait_line(r"serving m version 1 on (\S+), (\S+)", timeout_s=60)
        self.channel, self.admin = grpc.insecure_channel(line[1]), line[2]
        self.predict = self.channel.unary_unary(
            "/seldon.protos.Model/Predict",
            request_serializer=SeldonMessage.SerializeToString,
            response_deserializer=SeldonMessage.FromString,
        )

    def metric(self, name):
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10) as page:
            return sum(float(each) for each in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page.read().decode(), re.M))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "m"
    folder.mkdir()
    served = Served(folder)
    yield served
    served.channel.close()
    served.process.kill()


def message(array):
    request = SeldonMessage()
    request.data.tensor.shape.extend(array.shape)
    request.data.tensor.values.extend(array.ravel().tolist())
    return request


def test_each_of_many_callers_gets_the_answer_to_its_own_request(served):
    """Mixed sizes and shapes, some that fail in the model, some whose callers go at a random moment."""
    calls, rows = served.metric("dl_model_calls_total"), served.metric("dl_model_rows_total")
    timers = []

    def ask(seed):
        rng = random.Random(seed)
        wrong = []
        for turn in range(60):
            value = np.full((rng.randrange(1, 40 if turn == 7 else 6), rng.choice([1, 3])), seed * 1000.0 + 1000 + turn)
            value[:, 0] += np.arange(len(value)) / 64
            is_poison = rng.random() < 0.03
            if is_poison:
                value[-1, 0] = 13
            call = served.predict.future(message(value), timeout=30)
            if rng.random() < 0.1:
                timers.append(threading.Timer(rng.random() * 0.01, call.cancel))
                timers[-1].start()
            try:
                answer = call.result().data.tensor
                got = np.array(answer.values).reshape(answer.shape)
                if is_poison or not np.array_equal(got, value * 2):
                    wrong.append((value, got))
            except grpc.FutureCancelledError:
                pass
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.CANCELLED and not (
                    is_poison and error.code() is grpc.StatusCode.INTERNAL
                ):
                    wrong.append((value, error))
        return wrong

    with ThreadPoolExecutor(24) as pool:
        assert [wrong for each in pool.map(ask, range(24)) for wrong in each] == []
    for timer in timers:
        timer.join()
    calls, rows = served.metric("dl_model_calls_total") - calls, served.metric("dl_model_rows_total") - rows
    assert rows > 2.5 * calls


def test_a_request_whose_caller_goes_leaves_the_queue_before_the_model(served):
    left = served.metric("dl_calls_left_total")
    slow = [served.predict.future(message(np.ones((1, 1, index + 1))), timeout=30) for index in range(200)]
    for call in slow[100:]:
        call.cancel()
    for call in slow[:100]:
        call.result()
    assert served.metric("dl_calls_left_total") - left > 50


def test_calls_of_high_priority_overtake_those_that_wait(served):
    order = []
    busy = served.predict.future(message(np.full((1, 1), 14.0)), timeout=30)
    waited = served.metric("dl_model_calls_total")
    calls = []
    for index in range(120):  # each of a shape of its own: none is joined with another
        name = "high" if index >= 110 else "low"
        call = served.predict.future(message(np.ones((1, index + 2))), timeout=30, metadata=[("x-priority", name)])
        call.add_done_callback(lambda done, name=name: order.append(name))
        calls.append(call)
    for call in [busy, *calls]:
        call.result()
    assert served.metric("dl_model_calls_total") - waited >= 120
    # Some may have been in the batch that was taken before they came.
    assert max(position for position, name in enumerate(order) if name == "high") < 60


def test_requests_of_two_shapes_are_two_calls_of_the_model(served):
    """However they came; as many as fit of each."""
    for width in (2, 3):  # so that the server knows that a call takes longer than a moment
        served.predict(message(np.ones((1, width))), timeout=30)
    busy = served.predict.future(message(np.full((1, 1), 14.0)), timeout=30)
    before = served.metric("dl_model_calls_total")
    values = [np.full((1, 2 + index % 2), float(100 + index)) for index in range(32)]
    calls = [served.predict.future(message(value), timeout=30) for value in values]
    for value, call in zip(values, calls, strict=True):
        assert call.result().data.tensor.values == (value * 2).ravel().tolist()
    busy.result()
    wait_until(lambda: served.metric("dl_model_calls_total") - before == 1 + 2, "all three calls are counted")
