"""`dl-inference call`: what is sent, what is shown, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.command_line import command


@pytest.mark.parametrize(
    ("protocol", "value", "expected"),
    [
        ("seldon", "[[1, 2.5]]", ["tensor float64 (1, 2)", "left", "[right]", "2.5"]),
        ("seldon", '["a", 1]', ["ndarray", '"a"']),
        ("seldon", '"[bold]text"', ["strData [bold]text"]),
        ("seldon", '{"a": 1}', ["jsonData", '"a": 1']),
        ("tfs", '{"x": [[1, 2]], "t": ["é"]}', ["x int64 (1, 2)", "t text (1,)", "é"]),
        ("oip", '{"x": [[1.5, 2]], "t": ["é"]}', ["x float32 (1, 2)", "1.5", "t text (1,)", "é"]),
    ],
)
def test_call_shows_the_answer(echo, protocol, value, expected):
    result = command("call", "m", value, "--to", echo[0], "--protocol", protocol)
    assert result.exit_code == 0, result.output + result.stderr
    for text in [*expected, " ms"]:
        assert text in result.output


def test_call_sends_arrays_and_bytes_from_files(echo, tmp_path: Path):
    np.save(tmp_path / "a.npy", np.float32([[1, 2]]))
    (tmp_path / "b.png").write_bytes(b"\x89PNG")
    assert "tensor float64 (1, 2)" in command("call", "m", tmp_path / "a.npy", "--to", echo[0]).output
    assert "binData 4 bytes: b'\\x89PNG'" in command("call", "m", tmp_path / "b.png", "--to", echo[0]).output


def test_call_sends_model_and_tags(echo):
    result = command("call", "m", "1", "--tag", "a=2", "--tag", "b=text", "--to", echo[0], "--json")
    assert json.loads(result.output)["answer"]["meta"]["tags"] == {"model": "m", "a": 2.0, "b": "text"}


def test_a_failed_call_shows_code_kind_and_remedy_and_exits_with_1(echo):
    result = command("call", "m", '"INTERNAL: broken [bold]here"', "--to", echo[0])
    assert result.exit_code == 1
    assert f"INTERNAL (hook) from {echo[0]}: broken [bold]here" in result.stderr
    assert "the model server's log has the traceback" in result.stderr
    result = command("call", "m", '"INTERNAL: broken"', "--to", echo[0], "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["error"]["kind"] == "hook"


def test_a_call_to_nobody_asks_whether_the_server_runs(free_port):
    result = command("call", "m", "1", "--to", f"127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "UNAVAILABLE" in result.stderr
    assert "is the server running" in result.stderr


def test_a_call_does_not_go_through_a_web_proxy(echo, free_port, monkeypatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert command("call", "m", "1", "--to", echo[0]).exit_code == 0


def test_the_keys_of_an_answer_are_sorted(echo):
    value = {name: 1 for name in "hgfedcba"}
    shown = command("call", "m", json.dumps(value), "--to", echo[0]).output
    assert [line.split('"')[1] for line in shown.splitlines() if '": 1' in line] == sorted(value)
    found = json.loads(command("call", "m", json.dumps(value), "--to", echo[0], "--json").output)
    assert list(found["answer"]["jsonData"]) == sorted(value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nofile"],
        ["[1]", "--protocol", "tfs"],
        ["1", "--protocol", "x"],
        ["1", "--tag", "novalue"],
        ["1", "--to", "http://127.0.0.1:8500"],
        ["1", "--to", "8500"],
    ],
)
def test_an_input_that_cannot_be_sent_exits_with_2(arguments):
    result = command("call", "m", *arguments)
    assert result.exit_code == 2
    assert result.stderr
