"""What the log and /status say of requests that processes died with; that a real process writes what is read here is
proven by tests/e2e/test_poison.py.
"""

from __future__ import annotations

import logging
import struct
import time
from pathlib import Path

import pytest

from dl_inference.local.hands import Hands

MAGIC = int.from_bytes(b"dlhands1", "little")
CAPACITY = 4
CLEARED = 128
KEEP_S = 600


def slot(taken_at_s: float, calls: list[int], *, is_alone: bool = False, cleared: dict[int, float] | None = None):
    """Return what a process has written whose lock nobody holds: it is dead."""
    ring = [word for call, at_s in (cleared or {}).items() for word in (call, int(at_s * 1e9))]
    head = [4711, int(taken_at_s * 1e9), len(calls), int(is_alone)]
    return [*head, *calls, *[0] * (CAPACITY - len(calls)), *ring, *[0] * (2 * CLEARED - len(ring))]


def written(path: Path, *slots: list[int]) -> Hands:
    words = [MAGIC, CAPACITY, len(slots), int(KEEP_S * 1e9), *(word for each in slots for word in each)]
    path.write_bytes(struct.pack(f"<{len(words)}Q", *words))
    return Hands(path, "m@1")


def test_requests_of_dead_processes_are_told_in_the_log_once_and_shown_for_as_long_as_they_count(tmp_path, caplog):
    now = time.time()
    hands = written(
        tmp_path / "x", slot(now - 10, [0xA, 0xB]), slot(now - 5, [0xB], is_alone=True), slot(now - 700, [0xC])
    )
    with caplog.at_level(logging.INFO, "serve"):
        first, second = hands.look(), hands.look()
    assert first == second
    assert [(each["fingerprint"], each["is_refused"]) for each in first] == [
        ("000000000000000a", False),
        ("000000000000000b", True),
    ]
    assert [each["for_s"] for each in first] == pytest.approx([590, 595], abs=2)
    suspected, refused = caplog.messages
    assert suspected == (
        "m@1: a process died with 1 requests, each of which runs alone until it is answered: 000000000000000a"
    )
    assert refused.startswith(
        "m@1: two processes died with request 000000000000000b, alone in the second: it is refused"
    )


def test_a_suspect_that_any_process_has_answered_since_is_none(tmp_path):
    now = time.time()
    answered = slot(now - 20, [], cleared={0xA: now - 5, 0xB: now - 15})
    hands = written(tmp_path / "x", slot(now - 10, [0xA, 0xB]), answered)
    assert [each["fingerprint"] for each in hands.look()] == ["000000000000000b"]


@pytest.mark.parametrize("content", [None, b"", b"odd", b"something of another program"])
def test_a_file_that_nobody_has_written_yet_says_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    assert Hands(tmp_path / "x", "m@1").look() == []


def test_a_file_of_another_version_says_nothing(tmp_path):
    hands = written(tmp_path / "x", slot(time.time(), [0xA]))
    assert len(hands.look()) == 1
    with (tmp_path / "x").open("r+b") as file:
        file.write(b"dlhands2")
    assert hands.look() == []
