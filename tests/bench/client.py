"""What a call costs the caller: dl_inference's client beside the same call written by hand on grpcio.

    PYTHONPATH=tests .venv/bin/python -m bench.client

Prints µs of CPU of the calling process per call, for a Predict of 150 KB of float32 that is answered with as much;
the server is another process. The answer is tensor_content, or float_val as TensorFlow Serving sends it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import numpy as np

from dl_inference import Client, messages
from dl_inference.codec import tfs

X = np.arange(150_000 // 4, dtype=np.float32)
CALLS, RUNS = 200, 25


def answer(is_typed: bool) -> bytes:
    """Return a PredictResponse with one output."""
    message: Any = messages.PredictResponse()
    tensor = message.outputs["y"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=X.size)
    if is_typed:
        tensor.float_val.extend(X.tolist())
    else:
        tensor.tensor_content = X.tobytes()
    return bytes(message.SerializeToString())


def serve() -> None:
    """Answer every call with ready bytes: typed where the metadata says so."""
    answers = {is_typed: answer(is_typed) for is_typed in (False, True)}

    class Ready(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            is_typed = ("typed", "yes") in [tuple(each) for each in details.invocation_metadata]
            return grpc.unary_unary_rpc_method_handler(lambda data, context: answers[is_typed])

    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=(Ready(),))
    print(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    server.start()
    server.wait_for_termination()


def by_hand(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> Callable[[], Any]:
    """Return the call as one writes it with messages and a stub: arrays in, a writable array out."""
    predict = channel.unary_unary(
        tfs.PREDICT, messages.PredictRequest.SerializeToString, messages.PredictResponse.FromString
    )

    def call() -> Any:
        request: Any = messages.PredictRequest()
        request.model_spec.name = "m"
        tensor = request.inputs["x"]
        tensor.dtype = 1
        tensor.tensor_shape.dim.add(size=X.size)
        tensor.tensor_content = X.tobytes()
        output = predict(request, timeout=60, metadata=metadata).outputs["y"]
        shape = [dim.size for dim in output.tensor_shape.dim]
        if output.tensor_content:
            return np.frombuffer(output.tensor_content, np.float32).reshape(shape).copy()
        return np.array(output.float_val, np.float32).reshape(shape)

    return call


def measure(call: Callable[[], Any]) -> float:
    """Return µs of this process's CPU per call, all threads."""
    begin = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - begin) / CALLS * 1e6


def main() -> None:
    """Measure all four, in turn so that a busy machine is busy for each."""
    server = subprocess.Popen([sys.executable, "-m", "bench.client", "serve"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    try:
        with Client(address) as client, grpc.insecure_channel(address) as channel:
            ways: dict[str, Callable[[], Any]] = {}
            for name, metadata in (("tensor_content", ()), ("float_val", (("typed", "yes"),))):
                ways[f"{name}, by hand"] = by_hand(channel, metadata)
                ways[f"{name}, Client"] = lambda metadata=metadata: client.predict_tfs("m", {"x": X}, metadata=metadata)
            for call in ways.values():
                call()
            found: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(RUNS):
                for name, call in ways.items():
                    found[name].append(measure(call))
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    for name, values in found.items():
        print(f"{name:26} min {min(values):6.0f}  median {statistics.median(values):6.0f}  max {max(values):6.0f} µs")


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
