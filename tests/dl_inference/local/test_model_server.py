"""One way to start a model server: what `predict` asks for, and what a process of `serve` is told."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.serve_process import START_S, write_model
from typer.testing import CliRunner

import tf_predict.server
import torch_predict.server
from dl_inference import cli
from dl_inference.local import model_server
from dl_inference.registry.announcing import registration
from dl_inference.serving.options import ServeOptions


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, ServeOptions]]:
    """Start nothing; return which server was asked for, and what it was told."""
    calls: list[tuple[str, ServeOptions]] = []
    for kind, server in (("PyTorch", torch_predict.server), ("TensorFlow", tf_predict.server)):
        monkeypatch.setattr(server, "serve", lambda options, kind=kind: calls.append((kind, options)) or 0)
    return calls


@pytest.mark.parametrize(("file", "kind"), [("1/saved_model.pb", "TensorFlow"), ("model.pt2", "PyTorch")])
def test_the_folder_says_which_server_it_is(asked, tmp_path: Path, file, kind):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    options = ServeOptions(model_dir=tmp_path, version=1, name="m", allow_pickle=True)
    assert model_server.main(options.model_dump_json()) == 0
    assert asked == [(kind, options)]


def test_a_process_that_is_not_forked_gets_the_same_document(tmp_path: Path):
    document = ServeOptions(model_dir=tmp_path, listen=(f"unix:{tmp_path}/s",)).model_dump_json()
    done = subprocess.run([*model_server.PROGRAM, document], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"cannot serve {tmp_path}" in done.stderr
    assert "holds no model" in done.stderr


def test_options_as_text_hold_no_password():
    login = {"DL_INFERENCE_REGISTRY_USERNAME": "u", "DL_INFERENCE_REGISTRY_PASSWORD": "secret"}
    place = registration.read(login, register="zk://h")
    assert place is not None
    assert "registration" not in ServeOptions(model_dir=Path("m"), registration=place).model_dump_json()


def test_a_framework_that_is_missing_is_named_with_its_extra(monkeypatch, capsys, tmp_path: Path):
    def serve(options: ServeOptions) -> int:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(torch_predict.server, "serve", serve)
    assert model_server.main(ServeOptions(model_dir=tmp_path).model_dump_json()) == 1
    assert capsys.readouterr().err == "torch is not installed: pip install 'dl-inference[torch]'\n"
    monkeypatch.setattr(torch_predict.server, "serve", lambda options: __import__("of_nobody"))
    with pytest.raises(ModuleNotFoundError):
        model_server.run(ServeOptions(model_dir=tmp_path))


# The server is the model's code here; `input` waits for whoever sits at the terminal.
ASKS = """
import sys
from pathlib import Path
from dl_inference.local import model_server
from dl_inference.serving.options import ServeOptions
from torch_predict import server

def serve(options):
    try:
        input("yes or no? ")
    except EOFError:
        return 7

server.serve = serve
sys.exit(model_server.run(ServeOptions(model_dir=Path(sys.argv[1]))))
"""


def test_a_models_code_cannot_wait_for_an_answer_from_the_terminal(tmp_path):
    master, slave = pty.openpty()
    command = [sys.executable, "-c", ASKS, write_model(tmp_path / "m", "A")]
    with subprocess.Popen(command, stdin=slave, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        os.close(slave)
        try:
            assert process.wait(START_S) == 7
        finally:
            process.kill()
            os.close(master)


# --- predict


@pytest.mark.parametrize(
    ("flags", "variables", "expected"),
    [
        ([], {}, (("127.0.0.1:5000",), None)),
        ([], {"LISTEN": "[::1]:1", "ADMIN": "a:2"}, (("[::1]:1",), "a:2")),
        ([], {"LISTEN": "[a:1, unix:/b]", "ADMIN": "null"}, (("a:1", "unix:/b"), None)),
        (["--listen", "b:1"], {"LISTEN": "a:1", "ADMIN": "a:2"}, (("b:1",), "a:2")),
        (["--admin", "b:2"], {"ADMIN": "a:2"}, (("127.0.0.1:5000",), "b:2")),
        (["--admin", ""], {"ADMIN": "a:2", "LISTEN": ""}, (("127.0.0.1:5000",), None)),
    ],
)
def test_of_the_addresses_a_flag_wins_over_a_variable(asked, monkeypatch, flags, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(f"DL_INFERENCE_{name}", value)
    result = CliRunner().invoke(cli.app, ["predict", "m", *flags])
    assert result.exit_code == 0, result.output
    ((_, options),) = asked
    assert (options.listen, options.admin) == expected


def test_the_options_of_predict_reach_the_server(asked, tmp_path: Path):
    flags = ["--model-version", "3", "--model-name", "n", "--allow-pickle", "--register", "zk://h"]
    assert CliRunner().invoke(cli.app, ["predict", str(tmp_path), *flags]).exit_code == 0
    ((_, options),) = asked
    assert (options.version, options.name, options.allow_pickle) == (3, "n", True)
    assert options.registration is not None


def test_the_command_line_is_not_needed_to_start_a_model_process():
    code = "import sys, dl_inference.local.fork; print('dl_inference.cli' in sys.modules, 'typer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
