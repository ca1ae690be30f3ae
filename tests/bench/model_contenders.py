"""The model servers that are measured: one process that computes, one torch thread, each at what suits it best."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from bench.contenders import OURS, PEERS, said
from bench.model_messages import JSON, OIP, RAW, SELDON, Wire
from fixtures.access_process import wait_until
from fixtures.processes import ROOT, Process

# The wrappers import torch, and some TensorFlow; on a busy machine that takes a minute.
START_S = 180
# Answers are of float32, and joined rows are summed in another order.
TOLERANCE = 1e-4
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "DL_INFERENCE_TORCH_THREADS": "1"}


@dataclass
class Server:
    """A started model server."""

    name: str
    version: str
    address: str
    wire: Wire
    process: Process
    notes: dict[str, str] = field(default_factory=dict)
    """What is told of it in the result file: how it was started, how it batches."""

    def call(self, x: np.ndarray) -> np.ndarray:
        """Call it once with a client of grpcio's or Python's own."""
        body = self.wire.write(x)
        if self.wire.is_http1:
            host, port = self.address.split(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=60)
            try:
                connection.request("POST", self.wire.path, body, {"content-type": self.wire.content_type})
                answer = connection.getresponse()
                content = answer.read()
            finally:
                connection.close()
            if answer.status == 503:  # it listens, and its model loads
                raise ConnectionError(f"{self.name}: HTTP 503")
            if answer.status != 200:
                raise RuntimeError(f"{self.name}: HTTP {answer.status}: {content[:200]!r}")
            return self.wire.read(content)
        with grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            return self.wire.read(channel.unary_unary(self.wire.path)(body, timeout=60))

    def check(self, folder: Path) -> None:
        """See that it answers a folder's known requests rightly, alone and all at once; wait until it is up for that.

        Raises:
            RuntimeError: it ended, is not up in time, or answered something else.
        """
        known = json.loads((folder / "known.json").read_text())
        requests = [np.array(each["x"]) for each in known]
        try:
            wait_until(lambda: self._is_up(requests[0]), f"{self.name} answers", START_S)
        except AssertionError as error:
            raise RuntimeError(f"{error}:\n{self.process.log[-3000:]}") from error
        with ThreadPoolExecutor(len(requests)) as pool:
            answers = [*map(self.call, requests), *pool.map(self.call, requests)]
        for answer, each in zip(answers, [*known, *known], strict=True):
            if not np.allclose(answer.ravel(), np.ravel(each["answer"]), rtol=TOLERANCE, atol=TOLERANCE):
                raise RuntimeError(f"{self.name} answered {answer.ravel()[:4]}, not {np.ravel(each['answer'])[:4]}")

    def _is_up(self, x: np.ndarray) -> bool:
        if self.process.has_ended:
            raise RuntimeError(f"{self.name} ended as it started:\n{self.process.log[-3000:]}")
        try:
            self.call(x)
        except (OSError, http.client.HTTPException):
            return False
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                return False
            raise
        return True


def free_address() -> str:
    """Return an address that nothing listens on now: not every peer says what it got for port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _peer(environment: str, package: str, command: list[str | Path], folder: Path, **more: str) -> tuple[str, Process]:
    """Start a program of a peer's environment on a folder; return the version of its package, too."""
    python = PEERS / environment / "bin" / "python"
    version = said(python, "-c", f"from importlib.metadata import version; print(version({package!r}))")
    paths = f"{ROOT / 'tests'}:{ROOT}"
    env = {**ONE_THREAD, "PYTHONPATH": paths, "MODEL_FOLDER": str(folder), "CUDA_VISIBLE_DEVICES": "", **more}
    return f"{package} {version}", Process([python, *command], env=env)


def _program(name: str) -> Path:
    return Path(__file__).with_name("model_peers") / f"{name}.py"


def _ours(folder: Path, name: str = "ours") -> Server:
    address = free_address()
    env = {**ONE_THREAD, "CUDA_VISIBLE_DEVICES": ""}
    process = Process([OURS, "predict", folder, "--listen", address, "--log-level", "warning"], env=env)
    notes = {"batching": "its default", "processor.py": (folder / "processor.py").read_text()}
    return Server(name, said(OURS, "version"), address, SELDON, process, notes)


def ours(folder: Path) -> Server:
    """Start `dl-inference predict` at its defaults; hooks get requests one by one."""
    return _ours(folder)


def ours_batch(folder: Path) -> Server:
    """The same, where processor.py says that its hooks take batches."""
    return _ours(folder.parent / "batch" / folder.name, "ours-batch")


def seldon(folder: Path) -> Server:
    """Start seldon-core's own wrapper, gRPC only: REST workers would load the model once more."""
    address = free_address()
    port = address.split(":")[1]
    program = PEERS / "seldon-torch" / "bin" / "seldon-core-microservice"
    options = ["--service-type", "MODEL", "--grpc-port", port, "--http-port", "0", "--metrics-port", "0"]
    command: list[str | Path] = [program, "bench.model_peers.seldon.Component", *options, "--workers", "0"]
    version, process = _peer("seldon-torch", "seldon-core", command, folder)
    return Server("seldon", version, address, SELDON, process, {"batching": "none", "workers": "1"})


def aio(folder: Path) -> Server:
    """Start model_peers/aio.py."""
    address = free_address()
    version, process = _peer("aio-torch", "grpcio", [_program("aio"), address], folder)
    return Server("grpc.aio", f"{version}, uvloop", address, SELDON, process, {"batching": "none"})


def mosec(folder: Path) -> Server:
    """Start model_peers/mosec_server.py."""
    address = free_address()
    host, port = address.split(":")
    command: list[str | Path] = [_program("mosec_server"), "--address", host, "--port", port, "--log-level", "error"]
    version, process = _peer("mosec", "mosec", command, folder)
    return Server("mosec", version, address, RAW, process, {"batching": "64 rows, 1 ms"})


def litserve(folder: Path) -> Server:
    """Start model_peers/litserve_server.py."""
    address = free_address()
    command: list[str | Path] = [_program("litserve_server"), address.split(":")[1]]
    version, process = _peer("litserve", "litserve", command, folder)
    return Server("litserve", version, address, JSON, process, {"batching": "64 rows, 1 ms", "fast_queue": "on"})


def mlserver(folder: Path) -> Server:
    """Start MLServer on a folder of its own with one model; it runs in the server's process."""
    place = folder / "mlserver"
    place.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"name": "m", "implementation": "bench.model_peers.mlserver_runtime.Runtime"}
    settings |= {"max_batch_size": 64, "max_batch_time": 0.001}  # s
    (place / "model-settings.json").write_text(json.dumps(settings))
    address = free_address()
    ports = {"GRPC_PORT": address.split(":")[1], "HTTP_PORT": free_address().split(":")[1], "HOST": "127.0.0.1"}
    ports |= {"METRICS_ENDPOINT": "", "PARALLEL_WORKERS": "0", "DEBUG": "false"}
    env = {f"MLSERVER_{key}": value for key, value in ports.items()}
    program = PEERS / "mlserver-torch" / "bin" / "mlserver"
    version, process = _peer("mlserver-torch", "mlserver", [program, "start", place], folder, **env)
    notes = {"batching": "64 rows, 1 ms, hooks on the joined rows", "workers": "0: in the server's process"}
    return Server("mlserver", version, address, OIP, process, notes)


CONTENDERS: dict[str, Callable[[Path], Server]] = {
    "ours": ours,
    "ours-batch": ours_batch,
    "seldon": seldon,
    "grpc.aio": aio,
    "mosec": mosec,
    "litserve": litserve,
    "mlserver": mlserver,
}
ENVIRONMENTS = {
    "seldon": "seldon-torch",
    "grpc.aio": "aio-torch",
    "mosec": "mosec",
    "litserve": "litserve",
    "mlserver": "mlserver-torch",
}


def lacking(name: str) -> str | None:
    """Return why a contender cannot be started here: its environment is not there."""
    environment = ENVIRONMENTS.get(name)
    if environment is None or (PEERS / environment / ".installed").exists():
        return None
    return f"{name}: no environment .peers/{environment}: make model-peers"
