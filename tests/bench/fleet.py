"""The endpoints under the contenders: one process of the stand-in endpoint, as many addresses as wanted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from bench.contenders import Contender
from bench.payloads import PATH
from fixtures.processes import ROOT, Process

TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release"
FIRST_PORT = 18720
# What grpc needs to carry 1 MB answers and more.
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@dataclass
class Count:
    """Calls that reached the endpoints."""

    calls: int = 0


class Fleet:
    """Endpoints that answer with a fixed size, or with the request."""

    def __init__(self, endpoints: int, reply_bytes: int) -> None:
        """Choose the addresses; ``with`` starts them.

        Args:
            endpoints: how many addresses.
            reply_bytes: message size of each answer; 0 sends the request back.
        """
        self.addresses = [f"127.0.0.1:{FIRST_PORT + number}" for number in range(endpoints)]
        self._reply_bytes = reply_bytes

    def __enter__(self) -> Fleet:
        """Start the process."""
        reply = ["--body", str(self._reply_bytes)] if self._reply_bytes else ["--echo", "yes"]
        self._process = Process([TARGET / "endpoint", *self.addresses, *reply])
        self._process.wait_line("^ready")
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the process."""
        self._process.kill()

    def check(self, contender: Contender, message: bytes, timeout_s: float = 20) -> None:
        """Call through a contender with grpc until it is up.

        Raises:
            grpc.RpcError: it answered an error, or nothing in the time given.
            RuntimeError: it answered other bytes, or the call did not reach an endpoint once.
        """
        with self.counted() as count, grpc.insecure_channel(contender.address, options=OPTIONS) as channel:
            answer = channel.unary_unary(PATH)(message, timeout=timeout_s, wait_for_ready=True)
        expected = self._reply_bytes or len(message)
        if len(answer) != expected or (not self._reply_bytes and answer != message) or count.calls != 1:
            raise RuntimeError(f"{contender.name}: {len(answer)} bytes for {expected}, {count.calls} calls arrived")

    @contextmanager
    def counted(self) -> Iterator[Count]:
        """Count the calls that arrive inside the block."""
        before = self._calls()
        count = Count()
        yield count
        count.calls = self._calls() - before

    def _calls(self) -> int:
        seen = self._process.line_count()
        self._process.send_line("count")
        return int(self._process.wait_line(r"^count (\d+)", after=seen)[1])
