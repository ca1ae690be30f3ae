"""`load --http1 yes` calls a server of HTTP/1.1 and tells what became of each call."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fixtures.lacking import built

Answer = Callable[[BaseHTTPRequestHandler, bytes], tuple[int, bytes]]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, set[int]]]:
    """Serve POST /predict; yield the address and the ports of the connections that were made."""
    connections: set[int] = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # http.server looks for this name
            connections.add(self.client_address[1])
            status, body = answer(self, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """A caller that has left is no error here."""

    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{running.server_address[1]}", connections
        finally:
            running.shutdown()
            thread.join(10)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(address: str, *options: str) -> dict[str, Any]:
        body = tmp_path / "body"
        body.write_bytes(b'{"input": [1]}')
        command: list[str | Path] = [built("load"), address, "--path", "/predict", "--body", body, "--http1", "yes"]
        command += ["--header", "content-type=application/json", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return report

    return run


def test_a_call_is_a_post_of_the_message_and_its_answer_is_read(load: Callable[..., dict[str, Any]]) -> None:
    seen = set()

    def echo(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        seen.add((request.path, request.headers["content-type"], request.headers["host"], body))
        return 200, body

    with server(echo) as (address, connections):
        options = ("--rate", "100", "--seconds", "0.5", "--deadline-ms", "20000", "--echo", "yes")
        report = load(address, *options, "--connections", "2")
    assert (report["calls"], report["ok"], report["corrupt"]) == (50, 50, 0)
    assert seen == {("/predict", "application/json", address, b'{"input": [1]}')}
    assert len(connections) <= 2


def test_errors_late_answers_and_wrong_ones_are_told_apart(load: Callable[..., dict[str, Any]]) -> None:
    release = threading.Event()
    answers = iter([lambda: (500, b""), lambda: (200, b"no echo"), lambda: (release.wait(30) and 200, b"")])

    with server(lambda request, body: next(answers)()) as (address, connections):
        # One connection at most: the calls come one after another, and the third never ends by itself.
        options = ("--rate", "200", "--seconds", "0.014", "--deadline-ms", "3000", "--echo", "yes")
        report = load(address, *options, "--connections", "1")
        release.set()
    assert report["codes"] == {"DEADLINE_EXCEEDED": 1, "OK": 1, "UNKNOWN": 1}
    assert (report["failed"], report["corrupt"]) == (3, 1)
    assert "HTTP 500" in str(report["failures"])
    assert len(connections) == 1


def test_nobody_there_is_a_failed_call(load: Callable[..., dict[str, Any]], free_port: Callable[[], int]) -> None:
    report = load(f"127.0.0.1:{free_port()}", "--rate", "20", "--seconds", "0.1")
    assert report["codes"] == {"UNAVAILABLE": 2}
