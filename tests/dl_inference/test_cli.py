"""The door: which commands there are, and what each says of itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from fixtures.command_line import command

from dl_inference import cli

COMMANDS = (
    "serve",
    "access",
    "predict",
    "call",
    "describe",
    "check",
    "new",
    "make-certificates",
    "status",
    "upgrade",
    "why",
    "simulate",
    "version",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_says_in_one_line_what_it_does(name):
    result = command(name, "--help")
    assert result.exit_code == 0
    line = next(line for line in command("--help").output.splitlines() if line.strip().startswith(name))
    assert "..." not in line


@pytest.mark.parametrize("group", [(), ("release",), ("registry",), ("models",), ("callers",)], ids=" ".join)
def test_no_line_of_the_list_of_commands_is_cut(group):
    lines = command(*group, "--help").output.partition("Commands:")[2].splitlines()
    assert [line for line in lines if "..." in line] == []


def test_the_commands_are_complete():
    assert {each.name or each.callback.__name__.replace("_", "-") for each in cli.app.registered_commands} == set(
        COMMANDS
    )


def test_version_names_the_program():
    assert command("version").output.startswith("dl-inference ")
    assert command("--version").output == command("version").output


def test_a_shell_is_told_how_to_complete_commands():
    done = subprocess.run(
        [sys.executable, "-m", "dl_inference.cli", "--show-completion", "bash"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert done.returncode == 0
    assert "COMPLETE" in done.stdout


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_stops_no_command(closed):
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m dl_inference.cli version {closed}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_has_gone_is_no_traceback():
    command_line = [sys.executable, "-m", "dl_inference.cli", "check", "models/digits"]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == 1
