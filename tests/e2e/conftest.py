"""Fixtures of the end-to-end tests: access services and grpc channels that end with the test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from fixtures.access_process import Access
from fixtures.http2_peer import Endpoint as ScriptedEndpoint
from fixtures.http2_peer import Stream, echo
from fixtures.processes import ROOT, Process
from fixtures.tracing import Collector

StartAccess = Callable[[Mapping[str, Any]], Access]
StartScripted = Callable[..., ScriptedEndpoint]
StartModel = Callable[..., str]

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


@pytest.fixture(scope="module")
def start_model(run_shared: Callable[..., Process]) -> StartModel:
    """Start real model servers of folders: ``start_model(folder, "--tls-key", key)``; give their addresses."""

    def start(folder: Path, *options: str | Path, **environment: str) -> str:
        command = [Path(sys.executable).with_name("dl-inference"), "predict", folder, "--listen", "127.0.0.1:0"]
        process = run_shared([*command, *options], env=environment)
        return process.wait_line(r"serving \S+ .*on (127\.0\.0\.1:\d+)", timeout_s=60)[1]

    return start


@pytest.fixture(scope="module")
def collector(run_shared: Callable[..., Process], peer_python: Callable[[str], Path]) -> Collector:
    """Start a collector of OTLP with OpenTelemetry's own messages."""
    program = ROOT / "tests" / "fixtures" / "otlp_collector.py"
    return Collector(run_shared([peer_python("mlserver"), program, "0"]))


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
