"""Fixtures of the tests with other people's programs: the same as end to end, and some that a whole file shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import pytest
from e2e.conftest import OPTIONS, connect, start_access
from fixtures.access_process import Access
from fixtures.processes import Process

__all__ = ["connect", "start_access"]


@pytest.fixture(scope="module")
def shared_access(
    run_shared: Callable[..., Process], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Mapping[str, Any]], Access]:
    """Start access services for all tests of a file: as ``start_access``."""
    return lambda config: Access(run_shared, tmp_path_factory.mktemp("access"), config)


@pytest.fixture(scope="module")
def open_channel() -> Iterator[Callable[[str], grpc.Channel]]:
    """Open channels for all tests of a file: as ``connect``."""
    channels: list[grpc.Channel] = []

    def open_one(address: str) -> grpc.Channel:
        channels.append(grpc.insecure_channel(address, options=OPTIONS))
        return channels[-1]

    yield open_one
    for channel in channels:
        channel.close()
