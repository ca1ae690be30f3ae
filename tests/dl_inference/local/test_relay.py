"""The log of a model process in that of `serve`, through a real pipe."""

from __future__ import annotations

import logging
import os
import threading

import pytest
from fixtures.access_process import wait_until

from dl_inference.local.relay import relay

AT = "2026-11-21 15:51:37,976"


@pytest.fixture
def pipe(caplog):
    """Relay a pipe; give what writes to it, and the lines that were taken."""
    caplog.set_level(logging.DEBUG)
    ours, theirs = os.pipe()
    lines: list[str] = []
    thread = threading.Thread(target=relay, args=(ours, logging.getLogger("serve.m"), lines.append))
    thread.start()
    yield lambda text: os.write(theirs, text.encode()), lines
    os.close(theirs)
    thread.join(5)
    assert not thread.is_alive()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ours)


def wait_for(caplog, *records: tuple[str, str]) -> None:
    seen = lambda: [(each.levelname, each.getMessage()) for each in caplog.records]  # noqa: E731
    wait_until(lambda: len(seen()) >= len(records), f"{len(records)} records are there")
    assert seen() == [*records]


def test_a_traceback_is_one_record_with_the_line_before_it(pipe, caplog):
    write, lines = pipe
    write(f"{AT} ERROR hook: failed\n    Traceback (most recent call last):\n      File\n{AT} INFO next: one\n")
    wait_for(caplog, ("ERROR", "hook: failed\nTraceback (most recent call last):\n  File"), ("INFO", "next: one"))
    assert len(lines) == 4


def test_a_record_is_there_without_waiting_for_the_next_one_or_the_end_of_a_line(pipe, caplog):
    write, _ = pipe
    write(f"{AT} WARNING m: slow\nhalf a li")
    wait_for(caplog, ("WARNING", "m: slow"))
    write("ne\n")
    wait_for(caplog, ("WARNING", "m: slow"), ("INFO", "half a line"))


def test_a_line_and_a_record_without_an_end_are_cut(pipe, caplog):
    write, _ = pipe
    for _ in range(3):
        write("x" * 64 * 1024)
    wait_until(lambda: caplog.records, "the line is cut")
    write("\n" + "    again\n" * 1200)
    wait_until(lambda: sum(each.getMessage().count("again") for each in caplog.records) >= 1000, "it is cut, too")
    assert max(each.getMessage().count("again") for each in caplog.records) <= 501


def test_the_last_words_need_no_end_of_line(caplog):
    caplog.set_level(logging.DEBUG)
    ours, theirs = os.pipe()
    os.write(theirs, b"last \xff words")
    os.close(theirs)
    relay(ours, logging.getLogger("serve.m"), lambda line: None)
    wait_for(caplog, ("INFO", "last \ufffd words"))
