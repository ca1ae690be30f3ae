"""Fixtures of all tests: ports, programs that end with the test, stand-in endpoints, load, other people's programs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from fixtures.lacking import built, lacking
from fixtures.processes import ROOT, Endpoint, Load, Process

Run = Callable[..., Process]

# A shell ignores SIGINT for what it starts in the background, and so would every program that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Give a TCP port of 127.0.0.1 that nothing listens on now. Prefer port 0 where the program says what it got."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find


@pytest.fixture
def run() -> Iterator[Run]:
    """Start programs; each is killed with its children when the test ends, and its log shown where the test failed."""
    yield from _running()


@pytest.fixture(scope="module")
def run_shared() -> Iterator[Run]:
    """Start programs that take seconds to start, for all tests of a file: as ``run``."""
    yield from _running()


def _running() -> Iterator[Run]:
    started: list[Process] = []

    def start(command: Sequence[str | Path], **options: object) -> Process:
        process = Process(command, **options)  # type: ignore[arg-type]  # passed through as they are
        started.append(process)
        return process

    yield start
    for process in reversed(started):
        process.kill()
        print(f"--- {process.command} (pid {process.pid})\n{process.log}")


@pytest.fixture
def wait_ready() -> Callable[..., None]:
    """Wait until something speaks HTTP/2 on an address (``host:port`` or ``unix:/path``)."""

    def wait(address: str, timeout_s: float = 20) -> None:
        # grpc backs off for 1 s after a refused connect unless told otherwise.
        options = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.min_reconnect_backoff_ms", 20)]
        options += [("grpc.max_reconnect_backoff_ms", 100), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(address, options=options) as channel:
            ready = grpc.channel_ready_future(channel)
            try:
                ready.result(timeout_s)
            except grpc.FutureTimeoutError:
                raise AssertionError(f"{address}: nobody answered in {timeout_s} s") from None
            finally:
                ready.cancel()

    return wait


@pytest.fixture
def start_endpoint(run: Run) -> Callable[..., Endpoint]:
    """Start stand-in endpoints: ``start_endpoint("--echo", "yes")``."""
    return lambda *options, **more: Endpoint(run, built("endpoint"), options, **more)


@pytest.fixture
def start_load(run: Run, tmp_path: Path) -> Callable[..., Load]:
    """Start load: ``start_load(address, path, message, "--rate", "200", ...)``; message without gRPC prefix."""

    def start(address: str, path: str, message: bytes, *options: str) -> Load:
        body = tmp_path / f"body-{len(message)}"
        body.write_bytes(message)
        return Load(run([built("load"), address, "--path", path, "--body", body, *options]))

    return start


@pytest.fixture(scope="session")
def peer_python() -> Callable[[str], Path]:
    """Give the interpreter of an environment in .peers: ``peer_python("tfs")``."""

    def find(name: str) -> Path:
        if not (ROOT / ".peers" / name / ".installed").exists():
            lacking(f"no environment {name}: make peers")
        return ROOT / ".peers" / name / "bin" / "python"

    return find


@pytest.fixture(scope="session")
def system_program() -> Callable[[str], str]:
    """Give the path of a program of the system's: ``system_program("nginx")``."""

    def find(name: str) -> str:
        # Debian keeps servers where a user's PATH does not look.
        path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
        return path if path is not None else lacking(f"{name} is not installed")

    return find
