"""The door: which commands there are, and what each says of itself."""

from __future__ import annotations

import pytest
from fixtures.command_line import command

from dl_inference import cli

COMMANDS = ("serve", "access", "predict", "call", "check", "status", "version")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_says_in_one_line_what_it_does(name):
    result = command(name, "--help")
    assert result.exit_code == 0
    line = next(line for line in command("--help").output.splitlines() if line.strip().startswith(name))
    assert "..." not in line


def test_the_commands_are_complete():
    assert {each.name or each.callback.__name__ for each in cli.app.registered_commands} == set(COMMANDS)


def test_version_names_the_program():
    assert command("version").output.startswith("dl-inference ")
