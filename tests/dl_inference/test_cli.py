import json
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from dl_inference import cli, messages
from dl_inference.commands.status_view import render

COMMANDS = ("serve", "access", "predict", "call", "check", "status", "version")
EXAMPLE = """\
listen: 127.0.0.1:8500
models:
  digits: {endpoints: [10.0.0.3:5000], protocol: seldon}
discovery: [{kind: nodefile, path: nodefile.txt}]
"""


def command(*arguments: object):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """Take away what a command logs to: its stream is gone when the command ends."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Echo(grpc.GenericRpcHandler):
    """An endpoint of all three protocols that sends the input back; a text `CODE: words` becomes that error."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self.go_on = threading.Event()

    def service(self, details):
        answer = self.seldon if "seldon" in details.method else self.tfs if "tensorflow" in details.method else self.oip
        return grpc.unary_unary_rpc_method_handler(answer)

    def seldon(self, data, context):
        message = messages.SeldonMessage.FromString(data)
        if message.strData == "wait":
            self.waiting.set()
            self.go_on.wait(20)
        elif ": " in message.strData:
            code, words = message.strData.split(": ")
            context.set_trailing_metadata((("access-error", "hook"),) if code == "INTERNAL" else ())
            context.abort(grpc.StatusCode[code], words)
        if message.data.tensor.shape:
            message.data.names.extend(["left", "[right]"])
        return message.SerializeToString()

    def tfs(self, data, context):
        request = messages.PredictRequest.FromString(data)
        response = messages.PredictResponse()
        for name, tensor in request.inputs.items():
            response.outputs[name].CopyFrom(tensor)
        return response.SerializeToString()

    def oip(self, data, context):
        request = messages.ModelInferRequest.FromString(data)
        response = messages.ModelInferResponse(model_name=request.model_name)
        for tensor in request.inputs:
            response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        response.raw_output_contents.extend(request.raw_input_contents)
        return response.SerializeToString()


@pytest.fixture
def echo() -> Iterator[tuple[str, Echo]]:
    handler = Echo()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", handler
    handler.go_on.set()
    server.stop(0).wait()


# --- help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_says_in_one_line_what_it_does(name):
    result = command(name, "--help")
    assert result.exit_code == 0
    line = next(line for line in command("--help").output.splitlines() if line.strip().startswith(name))
    assert "..." not in line


def test_the_commands_are_complete():
    assert {each.name or each.callback.__name__ for each in cli.app.registered_commands} == set(COMMANDS)


# --- check


def test_check_names_every_problem_with_place_and_remedy(tmp_path: Path):
    path = tmp_path / "access.yaml"
    path.write_text("listn: a:1\nmodels: {m: {cluster: x}}\n")
    result = command("check", path)
    assert result.exit_code == 1
    assert "access.yaml:1 listn: unknown key 'listn'\n    did you mean listen?" in result.output
    assert "access.yaml:2 models.m.cluster: there is no cluster 'x'" in result.output


def test_check_shows_what_is_in_force_and_where_it_came_from(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DL_INFERENCE_DRAIN_TIMEOUT_MS", "77")
    (tmp_path / "nodefile.txt").write_text("69=800,10.0.0.1:8500*2,garbage\n")
    path = tmp_path / "access.yaml"
    path.write_text(EXAMPLE)
    result = command("check", path)
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines()]
    assert ["listen", '["127.0.0.1:8500"]', "access.yaml:1"] in rows
    assert ["drain_timeout_ms", "77", "environment", "DL_INFERENCE_DRAIN_TIMEOUT_MS"] in rows
    assert ["limits.max_streams", "1024", "default"] in rows
    assert ["69", "69", "100%", "10.0.0.1:8500*2", "800"] in rows
    assert "'garbage' is skipped" in result.output


def test_check_reads_the_sources_too(tmp_path: Path):
    path = tmp_path / "access.yaml"
    path.write_text(EXAMPLE)
    result = command("check", path)
    assert result.exit_code == 1
    assert "nodefile.txt: cannot be read: No such file" in result.output


def test_check_of_a_missing_file_says_so(tmp_path: Path):
    result = command("check", tmp_path / "missing.yaml")
    assert result.exit_code == 1
    assert "No such file" in result.output


def test_check_of_a_model_file_asks_for_its_folder(tmp_path: Path):
    result = command("check", tmp_path / "model.pt2")
    assert result.exit_code == 1
    assert f"name its folder: {tmp_path}" in result.output


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").write_bytes(b"")
    return tmp_path / "m"


def test_check_looks_at_a_tensorflow_folder(saved_model: Path):
    assert command("check", saved_model).exit_code == 0
    (saved_model / "model.yaml").write_text("versions: [2]")
    result = command("check", saved_model)
    assert result.exit_code == 1
    assert "there is no version 2" in result.output


def test_without_tensorflow_predict_says_what_to_install(saved_model: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.delitem(sys.modules, "tf_predict.saved_model", raising=False)
    result = command("predict", saved_model, "--listen", "127.0.0.1:0")
    assert result.exit_code == 1
    assert "tensorflow is not installed: pip install 'dl-inference[tensorflow]'" in result.stderr


def test_without_torch_predict_says_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("torch_predict")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "model.py").write_text("class Model: ...\n")
    result = command("predict", tmp_path)
    assert result.exit_code == 1
    assert "torch is not installed: pip install 'dl-inference[torch]'" in result.stderr


# --- call


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


# --- status


def test_status_of_nobody_says_what_to_look_for(free_port):
    result = command("status", "--admin", f"127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "is the access service running" in result.stderr


def test_status_takes_an_address_only():
    result = command("status", "--admin", "http://127.0.0.1:8502/status")
    assert result.exit_code == 2
    assert "an address has no http://" in result.stderr


def test_status_of_a_model_server_shows_its_calls():
    calls = {"seldon.protos.Model/Predict": {"codes": {"OK": 3, "INTERNAL": 1}, "p50_s": 0.002, "p99_s": None}}
    document = {"ready": True, "model": "digits", "model_version": "1", "queued": 0, "calls": calls}
    out = Console(width=120)
    with out.capture() as capture:
        out.print(render(document))
    rows = [line.split() for line in capture.get().splitlines()]
    assert ["ready", "model", "digits", "model", "version", "1", "queued", "0"] in rows
    assert ["seldon.protos.Model/Predict", "4", "1", "2.0"] in rows
    with out.capture() as capture:
        out.print(render(document, {"calls": {}}, 2.0))
    assert ["seldon.protos.Model/Predict", "4", "2.0", "1", "2.0"] in [
        line.split() for line in capture.get().splitlines()
    ]


def test_status_of_something_else_says_so():
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        result = command("status", "--admin", f"127.0.0.1:{server.server_port}")
    assert result.exit_code == 1
    assert "answers HTTP 404" in result.stderr


# --- access, with the real data plane


@pytest.fixture
def start_access(run, tmp_path: Path):
    """Start `dl-inference access`; give the process, its address and its admin address."""

    def begin(text: str, *options: str):
        path = tmp_path / "access.yaml"
        path.write_text("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n" + text)
        process = run([sys.executable, "-m", "dl_inference.cli", "access", "--config", path, *options])
        address, admin = process.wait_line(r"ready on (.*)")[1].split(", ")
        return process, address, admin

    return begin


def test_access_routes_reloads_and_ends(echo, start_access, tmp_path):
    nodefile = tmp_path / "nodefile.txt"
    nodefile.write_text(f"69=1000,{echo[0]}\n")
    text = f"models: {{m: {{endpoints: ['{echo[0]}']}}}}\ndiscovery: [{{kind: nodefile, path: nodefile.txt}}]\n"
    process, address, admin = start_access(text)
    for model in ("m", "69"):
        assert command("call", model, '"hello"', "--to", address).exit_code == 0
    result = command("call", "70", "1", "--to", address)
    assert "NOT_FOUND (no_route)" in result.stderr
    assert "dl-inference status" in result.stderr

    nodefile.write_text(f"70=1000,{echo[0]}\n")
    process.wait_line("routing 2 models", after=process.line_count() - 1)
    assert command("call", "70", '"hello"', "--to", address).exit_code == 0
    assert command("call", "69", '"hello"', "--to", address).exit_code == 1

    found = json.loads(command("status", "--admin", admin, "--json").output)
    assert [model["name"] for model in found["models"]] == ["70", "m"]
    assert "watchfiles" not in process.log  # one line for every event in the folder
    assert found["control"]["sources"][0]["reloads_ok"] == 1
    shown = command("status", "--admin", admin).output
    assert f"{echo[0]}" in shown
    assert "ready  up 0:00:" in shown

    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert "every call has ended" in process.log


def test_access_lets_a_call_in_flight_end_and_a_second_signal_does_not(echo, start_access):
    address, handler = echo
    for second in (False, True):
        handler.waiting.clear()
        handler.go_on.clear()
        process, proxy, _ = start_access(f"models: {{m: {{endpoints: ['{address}']}}}}\n")
        with futures.ThreadPoolExecutor() as pool:
            call = pool.submit(command, "call", "m", '"wait"', "--to", proxy, "--timeout-ms", "20000")
            assert handler.waiting.wait(20)
            process.signal(signal.SIGTERM)
            process.wait_line("draining")
            if second:
                process.signal(signal.SIGTERM)
                assert process.wait() == 0
                assert "second signal: stopping at once" in process.log
            handler.go_on.set()
            assert call.result().exit_code == (1 if second else 0)
        assert process.wait() == 0


def test_access_with_a_mistake_says_every_problem_and_exits_with_1(tmp_path: Path):
    path = tmp_path / "access.yaml"
    path.write_text("listn: a:1\nworkers: x\n")
    result = command("access", "--config", path)
    assert result.exit_code == 1
    assert "did you mean listen?" in result.stderr
    assert "access.yaml:2 workers" in result.stderr


def test_access_on_an_address_in_use_says_so_and_exits_with_1(tmp_path: Path, echo):
    path = tmp_path / "access.yaml"
    path.write_text("models: {m: {endpoints: [a:1]}}\n")
    result = command("access", "--config", path, "--listen", echo[0], "--admin", "")
    assert result.exit_code == 1
    assert "cannot start" in result.stderr
    assert echo[0] in result.stderr


def test_version_names_the_program():
    assert command("version").output.startswith("dl-inference ")
