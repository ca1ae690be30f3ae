"""The benchmarks' own parts tell the truth."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from bench import payloads
from bench.goals import GOALS, Rounds, judge
from bench.proc import connections_per_worker, cpu_seconds, resident_bytes
from fixtures.processes import Endpoint

DESCRIBE = """
import sys
from tensorflow_serving.apis import predict_pb2
request = predict_pb2.PredictRequest.FromString(sys.stdin.buffer.read())
tensor = request.inputs["inputs"]
shape = [d.size for d in tensor.tensor_shape.dim]
print(request.model_spec.name, tensor.dtype, shape, len(tensor.tensor_content), request.ByteSize())
"""


@pytest.mark.parametrize("size", [pytest.param(size, id=name) for name, size in payloads.SIZES.items()])
def test_a_payload_has_its_size(size: int) -> None:
    assert len(payloads.predict(size)) == size
    assert payloads.framed(payloads.predict(size))[:5] == b"\0" + size.to_bytes(4, "big")


def test_a_size_that_no_tensor_gives_is_refused() -> None:
    with pytest.raises(ValueError, match="has 10 bytes"):
        payloads.predict(10)


def test_tensorflow_serving_reads_the_small_payload(peer_python: Callable[[str], Path]) -> None:
    message = payloads.predict(179)
    done = subprocess.run([peer_python("tfs"), "-c", DESCRIBE], input=message, capture_output=True, check=True)
    name, dtype, *_, content, size = done.stdout.decode().split()
    assert (name, dtype, size) == ("bench", "1", "179")
    assert int(content) > 0


def rounds(ours: float, others: float) -> Rounds:
    contenders = {"ours": ours, "envoy": others, "nginx": others, "haproxy": others, "grpc.aio": others}
    return {
        (who, goal.payload, goal.shape): [{"cpu_us": value, "rps": 1 / value, "p50_ms": value}] * 3
        for goal in GOALS
        for who, value in contenders.items()
    }


def test_every_goal_is_reached_by_a_proxy_a_hundred_times_cheaper() -> None:
    judged = judge(rounds(1, 100))
    assert len(judged) == len(GOALS)
    assert all(one["reached"] for one in judged)


def test_no_goal_is_reached_by_a_proxy_twice_as_dear() -> None:
    assert not any(one["reached"] for one in judge(rounds(2, 1)))


def test_a_goal_that_was_not_measured_is_left_out() -> None:
    assert judge({("ours", "small", "4 x 16"): [{"cpu_us": 1, "rps": 1}]}) == []


def test_the_kernel_tells_connections_cpu_and_memory(start_endpoint: Callable[..., Endpoint]) -> None:
    endpoint = start_endpoint()
    host, port = endpoint.address.split(":")
    with ExitStack() as open_sockets:
        for _ in range(3):
            open_sockets.enter_context(socket.create_connection((host, int(port))))
        while endpoint.counts()[1] < 3:
            pass  # each look is an answer from the endpoint; no time is waited
        assert connections_per_worker(endpoint.process.pid, int(port)) == [3]
    assert cpu_seconds(endpoint.process.pid) >= 0
    assert resident_bytes(endpoint.process.pid) > 1_000_000
