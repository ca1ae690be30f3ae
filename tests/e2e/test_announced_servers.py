"""Servers that announce themselves in a real ZooKeeper: there when warm, draining before they refuse, then gone."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.access_process import Access, wait_until
from fixtures.processes import ROOT, Process
from fixtures.registry_book import LIMIT_S, Book
from fixtures.serve_process import STAND_IN, START_S, Caller, Serve, Traffic, write_model
from fixtures.zookeeper_process import one_server

from dl_inference.client import Client
from dl_inference.serving.options import ServeOptions

GOODBYE_MS = 1500


@pytest.fixture(scope="module")
def hosts(tmp_path_factory) -> Iterator[str]:
    with one_server(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server.address


@pytest.fixture
def book(hosts: str) -> Iterator[Book]:
    made = Book(hosts)
    yield made
    made.close()


class Goodbye:
    """Notes when a model's document says `draining`, by ZooKeeper's own word."""

    def __init__(self, book: Book, model: str) -> None:
        self.at: float | None = None
        (address,) = book.addresses(model)
        book.kazoo.DataWatch(f"{book.root}/models/{model}/endpoints/{address}", self._see)

    def _see(self, data: bytes | None, _: Any) -> bool | None:
        if data is not None and json.loads(data)["state"] == "draining":
            self.at = time.monotonic()
            return False
        return None


def await_file(file: Path) -> None:
    wait_until(file.exists, f"{file} is there", 2 * START_S)


def test_predict_announces_a_warm_model_and_says_goodbye_before_it_refuses(book, run, tmp_path):
    folder = tmp_path / "wine"
    shutil.copytree(ROOT / "models" / "wine", folder)
    with (folder / "model.yaml").open("a") as settings:
        settings.write("aliases: [39]\nlabels: {stable: 1}\n")
    # Loading waits at processor.py, which is imported before the warm-up.
    (folder / "processor.py").write_text(
        "import pathlib, time\n"
        "pathlib.Path('loading').touch()\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.01)\n"
    )
    environment = {
        "DL_INFERENCE_LISTEN": "0.0.0.0:0",
        "DL_INFERENCE_TORCH_THREADS": "1",
        "DL_INFERENCE_GOODBYE_MS": str(GOODBYE_MS),
        "DL_INFERENCE_WEIGHT": "7",
    }
    command = [sys.executable, "-m", "dl_inference.cli", "predict", folder, "--register", book.url, "--weight", "3"]
    process = run(command, env=environment)
    await_file(folder / "loading")
    assert book.models() == []
    (folder / "go").touch()
    document = wait_until(lambda: book.document("wine"), f"it is announced\n{process.log}", 2 * START_S)
    with Client(document["address"]) as client:
        client.predict_seldon("wine", np.zeros((1, 13)))  # warm from the first moment
    port = process.wait_line(r"serving wine version 1 on 0\.0\.0\.0:(\d+)")[1]
    assert document["address"] == f"127.0.0.1:{port}"  # what leads to the registry, never 0.0.0.0
    fields = {"protocol": "seldon", "version": "1", "labels": ["stable"], "weight": 3, "state": "ready"}
    assert fields.items() <= document.items()
    assert document["program"].startswith("torch_predict ")
    assert book.wait("39") == {**document, "model": "39"}
    first_refusal, ended = end_under_calls(book, process, document["address"])
    assert ended == 0
    assert book.addresses("wine") == book.addresses("39") == []  # not only once the session has expired
    assert first_refusal > 0.9 * GOODBYE_MS / 1000


def end_under_calls(book: Book, process: Process, address: str) -> tuple[float, int]:
    """SIGTERM a server while it is called; return s from its goodbye to the first call refused, and its exit status."""
    goodbye = Goodbye(book, "wine")
    refused: list[float] = []

    def call() -> None:
        with Client(address) as client:
            while not refused:
                try:
                    client.predict_seldon("wine", np.zeros((1, 13)))
                except Exception:  # of whatever kind: the server refuses or is gone
                    refused.append(time.monotonic())

    caller = threading.Thread(target=call)
    caller.start()
    process.signal(signal.SIGTERM)
    ended = process.wait(LIMIT_S)
    caller.join(LIMIT_S)
    assert goodbye.at is not None
    assert refused
    return refused[0] - goodbye.at, ended


def test_serve_announces_what_it_serves_and_follows_its_folders(book, run, tmp_path):
    models = tmp_path / "models"
    write_model(models / "a" / "1", "A1")
    (models / "a" / "model.yaml").write_text(json.dumps({"aliases": ["39"]}))
    # By variables; model processes, which inherit the others, would not start with these on their unix sockets.
    environment = {"REGISTER": book.url, "CAPACITY": "9", "GOODBYE_MS": str(GOODBYE_MS), "ADMIN": "127.0.0.1:0"}
    serve = Serve(run, models, env={f"DL_INFERENCE_{name}": text for name, text in environment.items()})
    document = book.wait("a", version="1")
    expected = {"address": serve.address, "protocol": "seldon", "versions": [], "capacity": 9, "state": "ready"}
    assert expected.items() <= document.items()
    assert book.wait("39") == {**document, "model": "39"}
    # A version that comes; a model that comes and goes.
    write_model(models / "a" / "2", "A2")
    (models / "a" / "model.yaml").write_text(json.dumps({"versions": [1, 2], "labels": {"old": 1}, "aliases": ["39"]}))
    write_model(tmp_path / "new", "B1").rename(models / "b")
    for name in ("a", "39"):
        book.wait(name, version="2", versions=["1"], labels=["old"])
    book.wait("b", version="1")
    assert sorted(book.models()) == ["39", "a", "b"], "no model process by itself"
    goodbye = Goodbye(book, "b")
    with Traffic(serve.address, "b") as traffic:
        traffic.wait_for("B1")
        shutil.rmtree(models / "b")
        wait_until(lambda: "A2" in traffic.answers, "its calls go to the only model that is left", LIMIT_S)
        gone_at = time.monotonic()
    assert goodbye.at is not None
    assert goodbye.at < gone_at
    wait_until(lambda: not book.addresses("b"), "it is gone", LIMIT_S)
    # The end.
    goodbye = Goodbye(book, "a")
    with Traffic(serve.address, "a") as traffic:
        traffic.wait_for("A2")
        serve.process.signal(signal.SIGTERM)
        wait_until(lambda: goodbye.at, "it says goodbye", LIMIT_S)
        traffic.wait_for("A2")
        assert not traffic.failures, "served on after the goodbye"
        assert serve.process.wait(LIMIT_S) == 0
    assert book.models() == []


def start_stand_in(run, folder: Path, register: str, **environment: str) -> Process:
    options = ServeOptions(model_dir=folder, listen=("127.0.0.1:0",))
    command = [sys.executable, STAND_IN, options.model_dump_json()]
    return run(command, env={"DL_INFERENCE_REGISTER": register, **environment})


@pytest.mark.parametrize("state", ["dead", "frozen"])
def test_a_registry_that_never_answers_costs_a_server_nothing_but_its_goodbye(run, tmp_path, state):
    with socket.create_server(("127.0.0.1", 0)) as nobody:  # the kernel takes connections that nobody answers
        port = nobody.getsockname()[1] if state == "frozen" else 1
        process = start_stand_in(run, write_model(tmp_path / "m", "A"), f"zk://127.0.0.1:{port}/x")
        address = process.wait_line(r"serving m version 1 on (\S+)", timeout_s=START_S)[1]
        assert Caller(address).ask(None) == "A"
        begin = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
        assert time.monotonic() - begin < 15  # 2 s for the goodbye, 2 s for the end; this machine may be busy


def test_a_second_signal_skips_the_goodbye(book, run, tmp_path):
    folder = write_model(tmp_path / "m", "A")
    process = start_stand_in(run, folder, book.url, DL_INFERENCE_GOODBYE_MS="600000")
    book.wait("m", state="ready")
    process.signal(signal.SIGTERM)
    book.wait("m", state="draining")
    process.signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 128 + signal.SIGTERM


def live(access: Access) -> list[str]:
    endpoints = [each for cluster in access.status()["clusters"] for each in cluster["endpoints"]]
    return [each["address"] for each in endpoints if each["live"]]


def test_a_server_that_ends_costs_the_callers_of_the_access_service_nothing(book, run, tmp_path, start_access):
    folder = write_model(tmp_path / "m", "A")
    old = start_stand_in(run, folder, book.url)
    book.wait("m", state="ready")
    hosts, path = book.url.removeprefix("zk://").split("/")
    access = start_access({"discovery": [{"kind": "zookeeper", "hosts": hosts, "path": f"/{path}"}]})
    with Traffic(access.address, "m") as traffic:
        traffic.wait_for("A")
        new = start_stand_in(run, folder, book.url)
        wait_until(lambda: len(book.addresses("m")) == 2, "the second one is announced", START_S)
        new_address = new.wait_line(r"serving m version 1 on (\S+)", timeout_s=START_S)[1]
        wait_until(lambda: new_address in live(access), "it is routed to", LIMIT_S)
        traffic.wait_for("A")
        old.signal(signal.SIGTERM)
        assert old.wait(LIMIT_S) == 0
        traffic.wait_for("A")
    assert traffic.failures == {}
    assert len(book.addresses("m")) == 1
