"""What the tests of the commands share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from fixtures.command_line import Echo


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """Take away what a command logs to: its stream is gone when the command ends."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def echo() -> Iterator[tuple[str, Echo]]:
    handler = Echo()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", handler
    handler.go_on.set()
    server.stop(0).wait()


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").write_bytes(b"\x12\x09\x0a\x07\x22\x05serve")
    return tmp_path / "m"
