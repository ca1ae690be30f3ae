"""Hooks beside the model in a real server: the order in which it works under load, and what a lone caller sees."""

from __future__ import annotations

import re
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
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
# Sleeping lets go of the GIL as decoding a picture does.
PROCESSOR = """
import time
log = open("events", "a", buffering=1)
def preprocess(x):
    print("pre", int(x[0, 0]), file=log)
    time.sleep(0.003)
    if x[0, 0] == 13: raise ValueError("thirteen")
    return x
def postprocess(x):
    print("post", int(x[0, 0]), file=log)
    return x.numpy()
"""
# One row a batch, so that a batch is a request.
YAML = "batching: {mode: always, max_rows: 1}\n"


class Slow(torch.nn.Module):
    """Some milliseconds outside of the GIL; gives back what it got."""

    def forward(self, x):
        product = torch.eye(384)
        for _ in range(4):
            product = product @ product
        return x + product[0, 1]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "m"
    folder.mkdir()
    torch.export.save(torch.export.export(Slow(), (torch.ones(1, 1),)), folder / "model.pt2")
    (folder / "processor.py").write_text(PROCESSOR)
    (folder / "model.yaml").write_text(YAML)
    process = Process([sys.executable, "-c", SERVE, folder], env={"DL_INFERENCE_TORCH_THREADS": "1"})
    line = process.wait_line(r"serving m version 1 on (\S+), (\S+)", timeout_s=60)
    with grpc.insecure_channel(line[1]) as channel:
        predict = channel.unary_unary(
            "/seldon.protos.Model/Predict",
            request_serializer=SeldonMessage.SerializeToString,
            response_deserializer=SeldonMessage.FromString,
        )
        yield folder / "events", predict, line[2]
    process.kill()


def sent(predict, number):
    request = SeldonMessage()
    request.data.tensor.shape.extend([1, 1])
    request.data.tensor.values.append(number)
    return predict(request, timeout=60).data.tensor.values[0]


def events_of(file, work):
    """Return what the hooks noted while something is done."""
    before = file.read_text().splitlines() if file.exists() else []
    work()
    return file.read_text().splitlines()[len(before) :]


def test_requests_one_at_a_time_are_answered_one_after_the_other(served):
    file, predict, _ = served
    events = events_of(file, lambda: [sent(predict, number) for number in range(20, 30)])
    assert events == [f"{hook} {number}" for number in range(20, 30) for hook in ("pre", "post")]


def test_under_load_the_next_request_is_prepared_before_the_model_has_ended(served):
    file, predict, admin = served
    before = metric(admin, "dl_model_calls_total")
    with ThreadPoolExecutor(8) as pool:
        numbers = list(range(100, 180))
        events = events_of(file, lambda: numbers == list(pool.map(lambda each: sent(predict, each), numbers)))
    assert sorted(events) == sorted(f"{hook} {number}" for number in numbers for hook in ("pre", "post"))
    open_ones = ahead = 0
    for event in events:
        is_preprocess = event.startswith("pre")
        ahead += is_preprocess and open_ones > 0
        open_ones += 1 if is_preprocess else -1
    assert ahead > len(numbers) / 2, events
    # The last call is counted when its answer has gone.
    is_counted = lambda: metric(admin, "dl_model_calls_total") - before == len(numbers)  # noqa: E731
    wait_until(is_counted, "each request was a call of the model's")


def test_under_load_an_error_of_a_hook_fails_its_request_alone(served):
    _, predict, _ = served

    def code(number):
        try:
            return sent(predict, number)
        except grpc.RpcError as error:
            return error.code()

    numbers = [13 if index % 5 == 0 else 200 + index for index in range(40)]
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(code, numbers))
    assert given == [grpc.StatusCode.INTERNAL if number == 13 else number for number in numbers]


def metric(admin, name):
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=10) as page:
        return sum(float(each) for each in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page.read().decode(), re.M))
