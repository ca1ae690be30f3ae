"""`dl-inference serve` that cannot start, and what it makes of its options."""

from __future__ import annotations

import socket
from pathlib import Path

from fixtures.serve_process import write_model
from typer.testing import CliRunner

from dl_inference import cli


def serve(*arguments: object):
    return CliRunner().invoke(cli.app, ["serve", *map(str, arguments)])


def test_a_folder_that_is_missing_is_named(tmp_path: Path):
    result = serve(tmp_path / "missing")
    assert result.exit_code == 1
    assert "missing is not a folder" in result.stderr


def test_versions_in_place_of_the_folder_around_their_model_are_named(tmp_path: Path):
    for version in "12":
        (tmp_path / "churn" / version).mkdir(parents=True)
        (tmp_path / "churn" / version / "model.pt2").touch()
    # The start goes on, as models may be called by numbers, and fails at the address.
    said = serve(tmp_path / "churn", "--listen", "192.0.2.1:1").stderr
    assert "holds folders named by numbers only: each is served as a model of its own" in said
    assert "192.0.2.1:1" in said
    assert "named by numbers" not in serve(tmp_path, "--listen", "192.0.2.1:1").stderr
    (tmp_path / "churn" / "model.yaml").touch()
    assert "named by numbers" not in serve(tmp_path / "churn", "--listen", "192.0.2.1:1").stderr


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
