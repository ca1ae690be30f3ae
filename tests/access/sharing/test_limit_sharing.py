"""What is allowed while a Redis cannot be used from the start on, and what is said of it."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fixtures.access_process import wait_until
from pydantic import SecretStr

from access.sharing import sharing
from access.sharing.config import SharedLimits
from access.sharing.sharing import Sharing

Rows = Sequence[tuple[str, str, str, float]]
LIFE_S = 0.5


class Plane:
    """A data plane of which a part of one limit is wanted."""

    def __init__(self) -> None:
        self.said: list[tuple[float | None, Rows]] = []

    def wanted_limits(self, over_s: float, least: float) -> list[tuple[str, str, str, float]]:
        assert over_s >= 0
        return [("", "m", "requests_per_s", 0.5)]

    def share_limits(self, rest: float | None, parts: Rows) -> None:
        self.said.append((rest, parts))


class Listener:
    """A server that answers each connection with some bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer, self.connections = answer, 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                connection.recv(4096)
                connection.sendall(self._answer)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "LIFE_S", LIFE_S)
    monkeypatch.setattr(sharing, "EVERY_S", 0.1)


@pytest.fixture
def share(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[int], tuple[Sharing, Plane]]]:
    """Begin to share by what listens at a port."""
    caplog.set_level(logging.INFO)
    begun: list[Sharing] = []

    def begin(port: int) -> tuple[Sharing, Plane]:
        plane = Plane()
        config = SharedLimits(redis=SecretStr(f"redis://:secret@127.0.0.1:{port}"))
        begun.append(Sharing(config, Path(), plane, lambda: 4))
        begun[-1].start()
        return begun[-1], plane

    yield begin
    for each in begun:
        each.stop()


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def _lost(shared: Sharing) -> bool:
    shared.look()
    return bool(shared.warnings())


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n" * 9, b":1\r\n" * 9, b"$99999999999\r\nx", b"*-7\r\n\xff\r\n"],
    ids=range(6),
)
def test_whatever_answers_in_its_place_limits_are_divided_and_it_is_said_once(
    share: Callable[[int], tuple[Sharing, Plane]], caplog: pytest.LogCaptureFixture, answer: bytes
) -> None:
    listener = Listener(answer)
    shared, plane = share(listener.port)
    shared.look()
    assert shared.warnings() == [], "it may answer yet"
    wait_until(lambda: _lost(shared), "it is lost")
    wait_until(lambda: listener.connections > 1, "it is tried again")
    shared.look()
    assert plane.said == [(None, [])]
    name = f"redis://127.0.0.1:{listener.port}/0"
    (said,) = _warnings(caplog)
    assert said.startswith(f"{name} is lost (")
    assert "each access service allows 1/4 of every limit" in said
    assert "secret" not in caplog.text
    status = shared.status()
    assert (status["redis"], status["ok"], status["instances"]) == (name, False, None)
    assert status["error"]
    assert status["lost_since_unix_s"] == pytest.approx(time.time(), abs=20)
    listener.close()


def test_without_its_package_the_reason_says_what_to_install(
    share: Callable[[int], tuple[Sharing, Plane]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    shared, _ = share(1)
    wait_until(lambda: _lost(shared), "it is lost")
    assert "pip install 'dl-inference[redis]'" in shared.warnings()[0]


def test_an_exchange_that_takes_longer_than_its_record_lives_is_none(
    share: Callable[[int], tuple[Sharing, Plane]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_s = [2 * LIFE_S]

    def swap(self: object, record: bytes) -> Mapping[str, Any]:
        threading.Event().wait(wait_s[0])
        return {}

    monkeypatch.setattr(sharing.Exchange, "swap", swap)
    shared, plane = share(1)
    wait_until(lambda: _lost(shared), "it is lost")
    wait_until(lambda: "took more than" in shared.status()["error"], "it came too late")
    assert plane.said == [(None, [])]
    wait_s[0] = 0.0
    wait_until(lambda: not _lost(shared), "it is back")
    assert plane.said[-1] == (0.25, [("", "m", "requests_per_s", 0.25)]), "it rises one exchange later"
    wait_until(lambda: plane.said[-1] == (1.0, [("", "m", "requests_per_s", 1.0)]), "it is alone")
    shared.stop()
    assert plane.said[-1] == (None, [])


def test_a_fault_of_one_exchange_is_not_the_end_of_them(
    share: Callable[[int], tuple[Sharing, Plane]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [TypeError("what it answered was no number")] * 3

    def swap(self: object, record: bytes) -> Mapping[str, Any]:
        if faults:
            raise faults.pop()
        return {}

    monkeypatch.setattr(sharing.Exchange, "swap", swap)
    shared, _ = share(1)
    wait_until(lambda: not _lost(shared) and shared.status()["ok"], "it shares")
    assert caplog.text.count("sharing limits failed; it is tried again") == 1
