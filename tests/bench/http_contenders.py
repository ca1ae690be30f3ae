"""The servers that speak HTTP and JSON: ours, alone and behind the access service, FastAPI, alone and behind nginx,
and MLServer.

Each runs the same processor.py, one process that computes, at what suits it best.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from bench.contenders import OURS, PEERS, installed, said
from bench.model_contenders import ONE_THREAD, _peer, _program, free_address
from bench.proc import cpu_seconds
from fixtures.access_process import wait_until
from fixtures.processes import Process

START_S = 180
IMAGE_BYTES = 150_000
BINARY_ROWS = 16
ENVIRONMENTS = {"fastapi": "fastapi", "nginx+fastapi": "fastapi", "mlserver": "mlserver-torch"}


@dataclass(frozen=True)
class Form:
    """What one workload looks like to one server."""

    path: str
    body: bytes
    has_answer: Callable[[bytes], bool]
    content_type: str = "application/json"
    headers: tuple[str, ...] = ()


@dataclass
class Contender:
    """A started server, with all the processes that a request passes."""

    name: str
    version: str
    address: str
    forms: Mapping[str, Form]
    processes: list[Process] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        """Return what all its processes have used."""
        return sum(cpu_seconds(process.pid) for process in self.processes)

    def signal(self, number: int) -> None:
        """Send a signal to each of its processes."""
        for process in self.processes:
            os.killpg(process.pid, number)

    def check(self, workload: str) -> None:
        """See that it answers rightly; wait until it is up for that.

        Raises:
            RuntimeError: it is not up in time, or answered something else.
        """
        form = self.forms[workload]
        try:
            wait_until(lambda: self._is_right(form), f"{self.name} answers {workload}", START_S)
        except AssertionError as error:
            raise RuntimeError(f"{error}:\n{''.join(each.log[-2000:] for each in self.processes)}") from error

    def _is_right(self, form: Form) -> bool:
        fields = dict(line.split(": ", 1) for line in form.headers) | {"content-type": form.content_type}
        asked = urllib.request.Request(f"http://{self.address}{form.path}", form.body, fields)
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                content = answer.read()
        except OSError:
            return False
        if not form.has_answer(content):
            raise RuntimeError(f"{self.name} answered {content[:300]!r}")
        return True


@contextmanager
def alone(chosen: Contender, others: list[Contender]) -> Iterator[None]:
    """Stop the processes of all but one inside the block."""
    paused = [each for each in others if each is not chosen]
    try:
        for each in paused:
            each.signal(signal.SIGSTOP)
        yield
    finally:
        for each in paused:
            each.signal(signal.SIGCONT)


def _numbers(seed: int, rows: int) -> np.ndarray:
    # What prints in few digits, so that every server reads and writes the same numbers.
    return np.random.default_rng(seed).integers(-1000, 1000, (rows, 64)) / 8


def _oip(name: str, datatype: str, data: object, shape: list[int], **more: object) -> bytes:
    return json.dumps({"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data, **more}]}).encode()


def _is_echo(x: np.ndarray) -> Callable[[bytes], bool]:
    def check(content: bytes) -> bool:
        found = json.loads(content)["outputs"][0]
        return np.array_equal(np.ravel(found["data"]), x.ravel())

    return check


ROWS = _numbers(1, 1)
IMAGE = base64.b64encode(np.random.default_rng(2).bytes(IMAGE_BYTES)).decode()
RAW = _numbers(3, BINARY_ROWS).astype(np.float32)
SIZE = str(float(IMAGE_BYTES)).encode()
_ROWS_FORM = _oip("x", "FP64", ROWS.ravel().tolist(), [1, 64])


def _has_size(content: bytes) -> bool:
    return SIZE in content or str(IMAGE_BYTES).encode() in content


def _our_forms() -> dict[str, Form]:
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": [BINARY_ROWS, 64],
        "parameters": {"binary_data_size": RAW.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = (f"inference-header-content-length: {len(head)}",)
    path = "/v2/models/m/infer"
    return {
        "rows": Form(path, _ROWS_FORM, _is_echo(ROWS)),
        "image": Form("/seldon/bench/m/api/v1.0/predictions", json.dumps({"binData": IMAGE}).encode(), _has_size),
        "binary": Form(
            path, head + RAW.tobytes(), lambda it: it.endswith(RAW.tobytes()), "application/octet-stream", length
        ),
    }


def _fastapi_forms() -> dict[str, Form]:
    path = "/v2/models/m/infer"
    return {
        "rows": Form(path, _ROWS_FORM, _is_echo(ROWS)),
        "image": Form(path, _oip("x", "BYTES", [IMAGE], [1]), _has_size),
        "binary": Form("/binary", RAW.tobytes(), lambda it: it == RAW.tobytes(), "application/octet-stream"),
    }


def _mlserver_forms() -> dict[str, Form]:
    path = "/v2/models/m/infer"
    image = _oip("x", "BYTES", [IMAGE], [1], parameters={"content_type": "base64"})
    return {"rows": Form(path, _ROWS_FORM, _is_echo(ROWS)), "image": Form(path, image, _has_size)}


def ours(folder: Path) -> Contender:
    """Start `dl-inference predict` at its defaults."""
    address = free_address()
    env = {**ONE_THREAD, "CUDA_VISIBLE_DEVICES": ""}
    process = Process([OURS, "predict", folder / "m", "--listen", address, "--log-level", "warning"], env=env)
    return Contender("ours", said(OURS, "version"), address, _our_forms(), [process])


def ours_behind(server: Contender, folder: Path) -> Contender:
    """Start the access service in front of our model server, at its defaults but one worker."""
    address = free_address()
    config = {"listen": address, "admin": None, "workers": 1, "models": {"m": {"endpoints": [server.address]}}}
    path = folder / "access.yaml"
    path.write_text(json.dumps(config))
    process = Process([OURS, "access", "--config", path])
    return Contender("access+ours", server.version, address, _our_forms(), [process, *server.processes])


def fastapi(folder: Path) -> Contender:
    """Start model_peers/fastapi_server.py under uvicorn, uvloop and httptools."""
    host, port = free_address().split(":")
    command: list[str | Path] = [_program("fastapi_server"), host, port, folder / "m"]
    version, process = _peer("fastapi", "fastapi", command, folder / "m")
    uvicorn = said(PEERS / "fastapi/bin/python", "-c", "import uvicorn; print('uvicorn', uvicorn.__version__)")
    return Contender("fastapi", f"{version}, {uvicorn}", f"{host}:{port}", _fastapi_forms(), [process])


def nginx_before(server: Contender, folder: Path) -> Contender:
    """Start nginx in front of FastAPI, with kept connections."""
    address = free_address()
    temporary = " ".join(f"{name}_temp_path {folder};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    path = folder / "nginx.conf"
    path.write_text(f"""worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  {temporary}
  access_log off;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_buffer_size 1m;
  upstream fleet {{ server {server.address}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {address};
    location / {{ proxy_pass http://fleet; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
""")
    program = installed("nginx", "nginx-light")
    version = f"nginx {said(program, '-v').split('/')[1]}, {server.version}"
    process = Process([program, "-e", "stderr", "-p", folder, "-c", path])
    return Contender("nginx+fastapi", version, address, _fastapi_forms(), [process, *server.processes])


def mlserver(folder: Path) -> Contender:
    """Start MLServer with the model in its own process, without batching: one request is one call of the hooks."""
    place = folder / "mlserver"
    place.mkdir()
    settings = {"name": "m", "implementation": "bench.model_peers.mlserver_runtime.Runtime"}
    (place / "model-settings.json").write_text(json.dumps(settings))
    address = free_address()
    ports = {"HTTP_PORT": address.split(":")[1], "GRPC_PORT": free_address().split(":")[1], "HOST": "127.0.0.1"}
    ports |= {"METRICS_ENDPOINT": "", "PARALLEL_WORKERS": "0", "DEBUG": "false"}
    env = {f"MLSERVER_{key}": value for key, value in ports.items()}
    program = PEERS / "mlserver-torch" / "bin" / "mlserver"
    version, process = _peer("mlserver-torch", "mlserver", [program, "start", place], folder / "m", **env)
    return Contender("mlserver", version, address, _mlserver_forms(), [process])
