"""The log of a program, in a process of its own."""

import os
import subprocess
import sys

import pytest

SAYS = """
import logging
from dl_inference.serving import log
log.begin()
for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
    logging.getLogger("program").log(level, "said")
"""
RAISES = """
import logging
from dl_inference.serving import log
log.begin()
try:
    raise ValueError("no\\nway")
except ValueError:
    logging.getLogger("program").exception("it failed")
"""


def log_of(code: str, level: str | None = None) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DL_INFERENCE_LOG_LEVEL"}
    if level is not None:
        environment["DL_INFERENCE_LOG_LEVEL"] = level
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


@pytest.mark.parametrize(("level", "count"), [(None, 3), ("debug", 4), ("info", 3), ("WARNING", 2), ("error", 1)])
def test_the_log_begins_at_the_level_of_the_environment(level, count):
    assert [line.rpartition(": ")[2] for line in log_of(SAYS, level)] == ["said"] * count


def test_a_level_that_is_none_is_said_and_info_holds():
    first, *others = log_of(SAYS, "loud")
    assert "WARNING" in first
    assert "DL_INFERENCE_LOG_LEVEL=loud: loud is no level" in first
    assert first.endswith("use one of debug, info, warning, error; info holds")
    assert len(others) == 3


def test_a_traceback_is_a_part_of_its_record():
    first, *others = log_of(RAISES)
    assert first.endswith("ERROR program: it failed")
    assert others[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in others)
