"""`dl-inference serve` that cannot start, and what it makes of its options."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.access_process import wait_until
from fixtures.serve_process import START_S, WITH_STAND_INS, write_model
from rich.console import Console
from typer.testing import CliRunner

from dl_inference import cli
from dl_inference.commands.serve_table import Table


def serve(*arguments: object):
    return CliRunner().invoke(cli.app, ["serve", *map(str, arguments)])


def test_a_folder_that_is_missing_is_named(tmp_path: Path):
    result = serve(tmp_path / "missing")
    assert result.exit_code == 1
    assert "missing is not a folder" in result.stderr


@pytest.mark.parametrize("file", ["model.pt2", "saved_model.pb"])
def test_a_model_folder_in_place_of_the_one_around_it_is_named(tmp_path: Path, file):
    (tmp_path / file).touch()
    result = serve(tmp_path)
    assert result.exit_code == 1
    assert f"is itself a model folder; name the one around it: {tmp_path.resolve().parent}" in result.stderr


def test_versions_in_place_of_the_folder_around_their_model_are_named(tmp_path: Path):
    for version in "12":
        (tmp_path / "churn" / version).mkdir(parents=True)
        (tmp_path / "churn" / version / "model.pt2").touch()
    # The start goes on, as models may be called by numbers, and fails at the address.
    said = serve(tmp_path / "churn", "--listen", "192.0.2.1:1").stderr
    assert "holds folders named by numbers only: each is served as a model of its own" in said
    assert "192.0.2.1:1" in said
    (tmp_path / "churn" / "model.yaml").touch()
    said = serve(tmp_path / "churn").stderr
    assert f"is itself a model folder; name the one around it: {tmp_path.resolve()}" in said
    assert "named by numbers" not in serve(tmp_path, "--listen", "192.0.2.1:1").stderr


def test_an_address_that_is_none_is_named(tmp_path: Path):
    result = serve(tmp_path, "--listen", "nowhere")
    assert result.exit_code == 1
    assert "the port is missing" in result.stderr


def test_an_address_in_use_is_named_before_any_model_loads(tmp_path: Path):
    write_model(tmp_path / "m", "A")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = serve(tmp_path, "--listen", address, "--admin", "127.0.0.1:0")
    assert result.exit_code == 1
    assert f"cannot listen on {address}: Address already in use" in result.stderr


def test_a_variable_that_is_no_setting_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DL_INFERENCE_LIMITS__MAX_STREAM", "5")
    result = serve(tmp_path)
    assert result.exit_code == 1
    assert "did you mean max_streams" in result.stderr


# --- the table

FOLDERS = [
    {
        "name": "digits",
        "kind": "PyTorch",
        "state": "serving the former",
        "reason": "model.pt2: holds [no] weights",
        "versions": [
            {"version": 1, "serves": True, "ready": 2, "replicas": 2, "restarts": 3, "pids": [11, 12]},
            {"version": 2, "serves": False, "ready": 0, "replicas": 2, "restarts": 0, "pids": [13]},
        ],
    },
    {"name": "empty", "kind": None, "state": "failed", "reason": "holds no model", "versions": []},
]


def test_the_table_shows_folders_and_reasons_and_log_lines_go_above_it():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=160, color_system=None)
    with Table(console) as table:
        table.show({"control": {"folders": FOLDERS, "warnings": ["an alias is left out"]}})
        logging.getLogger("serve").info("something [happened]")
    rows = [line.split() for line in text.getvalue().splitlines()]
    assert ["digits", "PyTorch", "serving", "the", "former", "1", "2", "of", "2", "3", "11,", "12"] in rows
    assert ["2", "(new)", "0", "of", "2", "0", "13"] in rows
    assert ["empty", "failed"] in rows
    for line in ("digits: model.pt2: holds [no] weights", "empty: holds no model", "an alias is left out"):
        assert line in text.getvalue()
    assert "serve: something [happened]" in text.getvalue()


def test_in_a_terminal_serve_shows_the_table(tmp_path: Path):
    write_model(tmp_path / "models" / "m", "A")
    master, slave = os.openpty()
    command = [sys.executable, "-c", WITH_STAND_INS, tmp_path / "models"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "60"}
    addresses = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    process = subprocess.Popen([*command, *addresses], stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    seen = ""

    def shows_the_model() -> bool:
        nonlocal seen
        if select.select([master], [], [], 0.1)[0]:
            seen += os.read(master, 65536).decode(errors="replace")
        return "m@1" in seen and "1 of 1" in seen and "effective" in seen

    try:
        wait_until(shows_the_model, "the table shows the model", START_S)
    finally:
        process.terminate()
        with contextlib.suppress(OSError):  # EIO: the terminal's other end is closed
            while os.read(master, 65536):
                pass
        assert process.wait(START_S) == 0
        os.close(master)
