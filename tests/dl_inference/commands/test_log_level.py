"""`--log-level` of the commands that serve: model processes get it, too."""

import os

import pytest
from typer.testing import CliRunner

from dl_inference.cli import app
from dl_inference.serving import log

COMMANDS = [["access", "--config"], ["serve"], ["predict"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_the_level_of_the_log_is_put_where_every_process_finds_it(command, tmp_path, monkeypatch):
    monkeypatch.setenv(log.VARIABLE, "info")
    result = CliRunner().invoke(app, [*command, str(tmp_path / "nothing"), "--log-level", "error"])
    assert result.exit_code == 1
    assert os.environ[log.VARIABLE] == "error"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_level_that_is_none_is_refused_with_those_that_are(command, tmp_path):
    result = CliRunner().invoke(app, [*command, str(tmp_path), "--log-level", "loud"])
    assert result.exit_code == 2
    assert all(level in result.output for level in log.LEVELS)


def test_the_level_of_a_part_goes_the_same_way(tmp_path, monkeypatch):
    monkeypatch.setenv(log.VARIABLE, "info")
    monkeypatch.setenv(log.FORMAT_VARIABLE, "text")
    options = ["--log-level", "warning,registry=debug", "--log-format", "text"]
    result = CliRunner().invoke(app, ["access", "--config", str(tmp_path / "nothing"), *options])
    assert result.exit_code == 1
    assert log.parse_levels(os.environ[log.VARIABLE]) == {"": "warning", "registry": "debug"}


def test_a_format_that_is_none_is_refused_with_those_that_are(tmp_path):
    result = CliRunner().invoke(app, ["serve", str(tmp_path), "--log-format", "xml"])
    assert result.exit_code == 2
    assert all(name in result.output for name in log.FORMATS)
