"""Whatever a model's own code raises, forks or leaves: one call fails at most, and the server ends when told."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from fixtures.access_process import wait_until
from fixtures.processes import Process
from fixtures.serve_process import is_running
from google.protobuf.json_format import MessageToDict, ParseDict

from dl_inference.messages import SeldonMessage

PREDICT = [sys.executable, "-m", "dl_inference.cli", "predict"]
PROCESSOR = """
import argparse, asyncio, atexit, concurrent.futures, multiprocessing, os, signal, threading, time
import torch_predict

arguments = argparse.ArgumentParser().parse_args()  # of a module that is a program as well
executor = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork"))

class Mute(Exception):
    def __str__(self): raise KeyError("no words")

class Careless(torch_predict.InvalidInput):
    def __init__(self, text): self.code = text

def raise_later(number, frame): raise TimeoutError("too slow")

def preprocess(x, **kwargs):
    if x == "surrogate": raise torch_predict.InvalidInput("no label \\ud800")
    if x == "exception as text": raise torch_predict.InvalidInput(ValueError("bad"))
    if x == "mute as text": raise torch_predict.InvalidInput(Mute())
    if x == "careless": raise Careless(7)
    if x == "ok": raise Careless(0)
    if x == "mute": raise Mute()
    if x == "keyboard": raise KeyboardInterrupt
    if x == "generator": raise GeneratorExit
    if x == "cancelled": raise asyncio.CancelledError
    if x == "base": raise BaseException("panicked")
    if x == "surrogate answer": return "\\ud800"
    if x == "surrogate key": return {"\\ud800": 1}
    if x == "alarm":  # fires when the hook is over
        signal.signal(signal.SIGALRM, raise_later)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    if x == "pool":
        with multiprocessing.get_context("fork").Pool(2) as pool: return {"sum": sum(pool.map(abs, [-1, -2]))}
    if x == "executor": return {"child": executor.submit(os.getpid).result(20)}
    if x == "sleeping child":
        child = os.fork()
        if child == 0: time.sleep(1000)
        return {"child": child}
    if x == "thread": threading.Thread(target=time.sleep, args=(1000,), name="forgotten").start()
    if x == "threads":
        pool = concurrent.futures.ThreadPoolExecutor(1)
        for _ in range(2): pool.submit(time.sleep, 1000)
    return x

def run_model(model, x, **kwargs): return x
"""


class Server:
    def __init__(self, folder: Path) -> None:
        self.process = Process([*PREDICT, folder, "--listen", "127.0.0.1:0"])

    def __enter__(self) -> Server:
        self.address = self.process.wait_line(r"serving m version 1 on (\S+)", timeout_s=110)[1]
        self.channel = grpc.insecure_channel(self.address)
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.process.kill()

    def ask(self, text: str) -> Any:
        call = self.channel.unary_unary(
            "/seldon.protos.Model/Predict", SeldonMessage.SerializeToString, SeldonMessage.FromString
        )
        answer = MessageToDict(call(ParseDict({"strData": text}, SeldonMessage()), timeout=20))
        return answer.get("strData") or answer["jsonData"]


class Starter:
    def __init__(self, model: Path, servers: list[Server]) -> None:
        self.model, self.servers = model, servers

    def __call__(self) -> Server:
        return self.servers.pop()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start servers of one folder side by side: each test has one, and importing torch takes seconds."""
    import torch

    folder = tmp_path_factory.mktemp("unruly") / "m"
    folder.mkdir()
    (folder / "processor.py").write_text(PROCESSOR)
    model = torch.nn.Linear(1, 1)
    torch.export.save(torch.export.export(model, (torch.zeros(1, 1),)), folder / "model.pt2")
    starter = Starter(folder / "model.pt2", [Server(folder) for _ in range(4)])
    yield starter
    for server in starter.servers:
        server.process.kill()


def test_whatever_a_hook_raises_only_its_call_fails(start):
    failed = r"the model failed on this request; request id "
    unsendable = r"the model's answer cannot be sent: "
    expected = {
        "surrogate": ("INVALID_ARGUMENT", r"no label \ud800"),
        "exception as text": ("INVALID_ARGUMENT", "bad"),
        "mute as text": ("INVALID_ARGUMENT", "Mute without a text"),
        "careless": ("PERMISSION_DENIED", ""),
        "ok": ("INTERNAL", failed),
        "mute": ("INTERNAL", failed),
        "keyboard": ("INTERNAL", failed),
        "generator": ("INTERNAL", failed),
        "cancelled": ("INTERNAL", failed),
        "base": ("INTERNAL", failed),
        "surrogate answer": ("INTERNAL", unsendable),
        "surrogate key": ("INTERNAL", unsendable),
    }
    with start() as server:
        for text, (code, words) in expected.items():
            with pytest.raises(grpc.RpcError) as caught:
                server.ask(text)
            assert (caught.value.code().name, text) == (code, text)
            assert caught.value.details().startswith(words), caught.value.details()
        server.ask("alarm")
        server.process.wait_line("raised outside of its hooks: going on", timeout_s=5)
        assert server.ask("hello") == "hello"
        server.process.signal(signal.SIGTERM)
        assert server.process.wait() == 0


def test_what_a_hook_forks_neither_stops_the_server_nor_holds_its_end_or_its_port(start):
    with start() as server:
        assert server.ask("pool") == {"sum": 3.0}
        children = [int(server.ask(kind)["child"]) for kind in ("executor", "sleeping child")]
        assert server.ask("hello") == "hello"
        server.process.signal(signal.SIGTERM)
        assert server.process.wait() == 0
        wait_until(lambda: not any(map(is_running, children)), "no child is left")
        host, port = server.address.split(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=5)


def test_a_second_signal_leaves_no_orphan(start):
    with start() as server:
        child = int(server.ask("sleeping child")["child"])
        server.ask("thread")
        server.process.signal(signal.SIGTERM)
        server.process.wait_line("draining")
        server.process.signal(signal.SIGTERM)
        assert server.process.wait() in (0, 143)  # the drain may have ended before
        wait_until(lambda: not is_running(child), "no child is left")


def test_threads_that_never_end_are_named_and_left(start):
    with start() as server:
        server.ask("thread")
        server.ask("threads")
        server.process.signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert "stopping without it" in server.process.log
        assert "thread forgotten" in server.process.log


def test_a_signal_while_a_model_loads_ends_the_process(write, run, start):
    folder = write({"processor.py": "import time; print('loading for long', flush=True); time.sleep(1000)"})
    shutil.copy(start.model, folder)
    process = run([*PREDICT, folder, "--listen", "127.0.0.1:0"])
    process.wait_line("loading for long", timeout_s=60)
    process.signal(signal.SIGTERM)
    assert process.wait(5) == 128 + signal.SIGTERM  # by a handler: process 1 of a container has no default one
    assert "SIGTERM while starting: stopped" in process.log
