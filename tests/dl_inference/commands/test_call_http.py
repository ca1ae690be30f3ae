"""`dl-inference call --http`: the same answers and the same errors as over gRPC."""

from __future__ import annotations

import json
import math
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.command_line import command
from native.test_worker import Served

from dl_inference._native import Batch

FLOATS = {"name": "x", "dtype": "float32", "shape": [-1, 2]}


def echo(batch: Batch) -> None:
    for index, item in enumerate(batch):
        if item.kind == "strData" and item.value == "fail":
            batch.fail(index, 3, "send something else", "bad_request")
        else:
            batch.reply(index, item.kind, item.value, [])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    socket_path = tmp_path_factory.mktemp("served") / "socket"
    listen = ["127.0.0.1:0", f"unix:{socket_path}"]
    outputs = [{"name": "x", "dtype": "float32", "shape": [-1, 2]}]
    platform = "pytorch_test"
    served = Served(listen=listen, model="m", inputs=[FLOATS], outputs=outputs, platform=platform).answer(echo)
    yield served
    served.close()


def answered(*arguments: object) -> Any:
    result = command("call", "m", *arguments, "--json")
    assert result.exit_code == 0, result.output + result.stderr
    return json.loads(result.output)["answer"]


@pytest.mark.parametrize(
    ("protocol", "value"),
    [
        ("oip", '{"x": [[1.5, 2], [3, -0.1]]}'),
        ("oip", '{"x": [[NaN, Infinity, -Infinity]]}'),
        ("oip", '{"x": {"dtype": "int64", "values": [9007199254740993, -9223372036854775808]}}'),
        ("oip", '{"x": {"dtype": "uint8", "values": [[255]]}}'),
        ("oip", '{"x": {"dtype": "bool", "values": [true, false]}}'),
        ("oip", '{"x": {"dtype": "float16", "values": [0.5, 65504]}}'),
        ("oip", '{"x": ["text", "é"]}'),
        ("seldon", "[[1.5, 2], [3, NaN]]"),
        ("seldon", '["a", 1]'),
        ("seldon", '"text"'),
        ("seldon", '{"a": {"b": [1, null]}}'),
    ],
)
def test_an_answer_is_the_same_as_over_grpc(served: Served, protocol: str, value: str) -> None:
    arguments = [value, "--to", served.address, "--protocol", protocol]
    expected, found = answered(*arguments), answered(*arguments, "--http")
    for each in (expected, found):
        each.pop("id", None)
    assert found == expected


def test_arrays_and_bytes_from_files_arrive_as_they_are(served: Served, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.float16([[0.1, math.inf]]), b=np.array([b"\xff\x00a", b"text"]))
    (tmp_path / "b.png").write_bytes(b"\x89PNG\xff")
    for name, options in (("a.npz", ["--protocol", "oip"]), ("b.png", ["--protocol", "seldon"])):
        arguments = [tmp_path / name, "--to", served.address, *options]
        assert answered(*arguments, "--http") == answered(*arguments)


def test_without_a_protocol_the_model_is_asked_what_it_takes(served: Served) -> None:
    found = answered("[[1, 2]]", "--to", served.address, "--http")
    assert found["outputs"][0]["datatype"] == "FP32"
    # A Seldon message, and what has a tag, is sent as it is.
    assert answered('{"strData": "a"}', "--to", served.address, "--http")["strData"] == "a"
    assert answered('"a"', "--tag", "b=1", "--to", served.address, "--http")["meta"]["tags"]["b"] == 1


def test_an_answer_in_tf_servings_form_has_the_names_and_types_of_the_model(served: Served) -> None:
    arguments = ['{"x": [[0.5, 2]]}', "--protocol", "tfs", "--to", served.address, "--http"]
    shown = command("call", "m", *arguments)
    assert shown.exit_code == 0, shown.stderr
    assert "x float32 (1, 2)" in shown.output


def test_a_unix_socket_is_called_as_well(served: Served) -> None:
    result = command("call", "m", "[[1, 2]]", "--to", served.addresses[1], "--http")
    assert result.exit_code == 0, result.stderr
    assert "x float32 (1, 2)" in result.output
    assert " · request " in result.output


def test_a_problem_is_shown_with_its_kind_and_remedy(served: Served) -> None:
    arguments = ["--protocol", "seldon", "--to", served.address, "--http"]
    result = command("call", "m", '"fail"', *arguments)
    assert result.exit_code == 1
    assert f"INVALID_ARGUMENT (bad_request) from {served.address}: send something else" in result.stderr
    assert "x-request-id: " in result.stderr
    assert "correct the caller" in result.stderr
    failed = command("call", "m", '"fail"', *arguments, "--json")
    assert json.loads(failed.output)["error"]["kind"] == "bad_request"
    unknown = command("call", "nobody", "[[1, 2]]", "--to", served.address, "--http")
    assert (unknown.exit_code, "NOT_FOUND" in unknown.stderr) == (1, True)


def test_nobody_a_web_server_and_silence_are_told_apart(free_port: Any) -> None:
    def failed(address: str, *options: str) -> str:
        result = command("call", "m", "[1]", "--http", "--to", address, *options)
        assert result.exit_code == 1
        text: str = result.stderr
        return text

    text = failed(f"127.0.0.1:{free_port()}")
    assert "UNAVAILABLE" in text
    assert "is the server running" in text

    class Pages(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            text = failed(f"127.0.0.1:{server.server_port}", "--protocol", "seldon")
        finally:
            server.shutdown()
            thread.join()
        assert "the answer cannot be read" in text
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = failed(f"127.0.0.1:{silent.getsockname()[1]}", "--timeout-ms", "100")
        assert "DEADLINE_EXCEEDED" in text
        assert "100 ms" in text
