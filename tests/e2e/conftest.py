"""Fixtures of the end-to-end tests: access services and grpc channels that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from fixtures.access_process import Access
from fixtures.http2_peer import Endpoint as ScriptedEndpoint
from fixtures.http2_peer import Stream, echo
from fixtures.processes import Process

StartAccess = Callable[[Mapping[str, Any]], Access]
StartScripted = Callable[..., ScriptedEndpoint]

# One connection for each channel, and nothing repeated by the client: what is seen is what the proxy did.
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


@pytest.fixture
def start_access(run: Callable[..., Process], tmp_path: Path) -> StartAccess:
    """Start access services: ``start_access(cluster([endpoint.address]))``."""
    count = 0

    def start(config: Mapping[str, Any]) -> Access:
        nonlocal count
        count += 1
        folder = tmp_path / f"access-{count}"
        folder.mkdir()
        return Access(run, folder, config)

    return start


@pytest.fixture
def connect() -> Iterator[Callable[[str], grpc.Channel]]:
    """Open channels that the test's end closes: ``connect(access.address)``."""
    channels: list[grpc.Channel] = []

    def open_channel(address: str, *options: tuple[str, Any]) -> grpc.Channel:
        channel = grpc.insecure_channel(address, options=[*OPTIONS, *options])
        channels.append(channel)
        return channel

    yield open_channel
    for channel in channels:
        channel.close()


@pytest.fixture
def start_scripted() -> Iterator[StartScripted]:
    """Start endpoints that serve each call as told: ``start_scripted(serve)``."""
    endpoints: list[ScriptedEndpoint] = []

    def start(serve: Callable[[Stream], None] = echo) -> ScriptedEndpoint:
        endpoints.append(ScriptedEndpoint(serve))
        return endpoints[-1]

    yield start
    for endpoint in endpoints:
        endpoint.close()
