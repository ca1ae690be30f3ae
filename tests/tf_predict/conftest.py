"""Model folders and stand-in servers for the tests of the TensorFlow server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_process import Server, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "m", 1, "10")
    return tmp_path / "m"


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def begin(*options: str, **more: Any) -> Server:
        started.append(Server(folder, *options, **more))
        return started[-1]

    yield begin
    for server in started:
        server.stop()
        print(server.process.log)
