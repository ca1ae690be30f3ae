"""Load the versions of a model folder as `serve` would, each in a process of its own, and say what came of it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc

from dl_inference.codec.dtypes import DTYPES
from dl_inference.local.child import spawn
from dl_inference.local.launch import start_of
from dl_inference.local.layout import Layout
from dl_inference.local.locked_folders import socket_folder
from dl_inference.local.model_server import PROGRAM
from dl_inference.local.processes import ModelProcess, State
from dl_inference.messages import ModelMetadataRequest, ModelMetadataResponse
from dl_inference.problem import Problem
from dl_inference.serving.options import ServeOptions

STEP_S = 0.05
END_S = 5.0
"""How long a process may take to end once it has been asked to."""
ANSWER_S = 5.0

_NUMPY = {dtype.oip: dtype.name for dtype in DTYPES if dtype.oip} | {"BYTES": "bytes"}
_LOADED = re.compile(r"loaded on (\S+) in")
_WARMED = re.compile(r"warmed up with (\d+ samples)")
_JOINED = re.compile(r"requests (are (?:not )?joined.*)")
_FAILED = re.compile(r"warm-up: (.*)")
_FRAME = re.compile(r' +File "(.+)", line (\d+) in ')

Loaded = tuple[dict[str, str], list[Problem]]
"""What was found, for people, and what is wrong."""


def load(
    layout: Layout,
    *,
    allow_pickle: bool,
    timeout_s: float,
    program: Sequence[str] = PROGRAM,
    ask: Callable[[str, int], None] | None = None,
) -> Loaded:
    """Load every version that would be served, one after the other, with its samples.

    Args:
        layout: of the model folder.
        allow_pickle: whether the server would be started with ``--allow-pickle``.
        timeout_s: how long each may take to be ready; one that takes longer is killed.
        program: command line of a model server, up to its options.
        ask: called with the address and the version of each that is ready, while it is; it judges the answers.
    """
    found: dict[str, str] = {}
    problems: list[Problem] = []
    with socket_folder() as sockets, _heard() as log:
        for version in layout.served:
            log.lines.clear()
            socket = sockets / str(version)
            options = ServeOptions(
                model_dir=layout.path,
                listen=(f"unix:{socket}",),
                name=layout.name,
                version=version,
                allow_pickle=allow_pickle,
                is_judged=ask is None,
            )
            try:
                process = _start(start_of(layout, program, options), f"{layout.name}@{version}", socket, timeout_s)
            except OSError as error:
                problems.append(Problem(str(layout.path), f"no process can be started: {error.strerror}"))
                break
            try:
                while process.step() is State.STARTING:
                    time.sleep(STEP_S)
                if process.state is State.READY:
                    found |= _told(process, version, log.lines)
                    found |= _tensors(process.address)
                    if ask is None:
                        problems += _samples(layout, log.lines)
                    else:
                        ask(process.address, version)
                else:
                    problems.append(_failure(layout, version, process.reason, log.lines))
            finally:
                _end(process)
    return found, problems


class _Log(logging.Handler):
    """Keeps what the processes print."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextlib.contextmanager
def _heard() -> Iterator[_Log]:
    """Hear what model processes print, and keep it from the terminal."""
    logger = logging.getLogger("serve")
    before, handler = (logger.level, logger.propagate), _Log()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


def _start(start: tuple[list[str], dict[str, str]], label: str, socket: Path, ready_s: float) -> ModelProcess:
    # What native code was doing when it crashed is all that a crash leaves.
    command, variables = start[0], {**start[1], "PYTHONFAULTHANDLER": "1"}

    def launch(output: int) -> int:
        with open(os.devnull) as nothing:
            return spawn(command, variables, nothing.fileno(), output)

    return ModelProcess(label, launch, socket, ready_s)


def _end(process: ModelProcess) -> None:
    if process.state is State.READY:
        process.terminate()
        limit = time.monotonic() + END_S
        while process.step() is not State.ENDED and time.monotonic() < limit:
            time.sleep(STEP_S)
    process.kill()


def _told(process: ModelProcess, version: int, lines: list[str]) -> dict[str, str]:
    """Return how long a version took, where it is, and how much memory it needs at most."""
    parts = [f"ready after {process.ready_at - process.started_at:.1f} s"]
    for pattern, before in ((_LOADED, "on "), (_WARMED, "answered ")):
        parts += [before + match[1] for line in lines if (match := pattern.search(line))]
    with contextlib.suppress(OSError, ValueError):
        status = Path(f"/proc/{process.pid}/status").read_text()
        kib = int(re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[0])
        parts.append(f"{kib / 1024:.0f} MiB of memory")
    found = {f"version {version}": ", ".join(parts)}
    for line in lines:
        if match := _JOINED.search(line):
            found["requests"] = match[1]
    return found


def _tensors(address: str) -> dict[str, str]:
    """Return the inputs and outputs that a server tells; none where it does not speak OIP, or knows none."""
    options = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        ask = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelMetadata",
            ModelMetadataRequest.SerializeToString,
            ModelMetadataResponse.FromString,
        )
        try:
            answer = ask(ModelMetadataRequest(), timeout=ANSWER_S)
        except grpc.RpcError:
            return {}
    sides = {"inputs": answer.inputs, "outputs": answer.outputs}
    return {
        side: "; ".join(
            f"{each.name} {_NUMPY.get(each.datatype, each.datatype)} {list(each.shape)}" for each in tensors
        )
        for side, tensors in sides.items()
        if tensors
    }


def _samples(layout: Layout, lines: list[str]) -> list[Problem]:
    place = str(layout.path / "samples" / "expected.json")
    failed = [match[1] for line in lines if (match := _FAILED.search(line))]
    # What cannot be read was told without loading.
    return [Problem(place, text, "correct the sample, or what answers it") for text in failed if place not in text]


def _failure(layout: Layout, version: int, reason: str, lines: list[str]) -> Problem:
    """Return why a version did not become ready, by how its process ended."""
    place, remedy = f"{layout.path} version {version}", ""
    if reason.startswith("not ready within"):
        reason = f"is {reason}: it hangs, or needs longer"
        remedy = "give it longer by --timeout-ms, or look at what processor.py does when it is imported"
    elif match := re.match(r"killed by (\w+)", reason):
        reason = f"crashed while it was loaded: {match[0]}"
        frames = [frame for line in lines if (frame := _FRAME.match(line))]
        own = [frame for frame in frames if Path(frame[1]).is_relative_to(layout.path)] or frames
        if own:
            reason += f" at {own[0][1]}:{own[0][2]}"
        remedy = "native code did that: look at this line, and at the versions of the libraries that it calls"
        if match[1] == signal.SIGKILL.name:
            remedy = "if nobody did that, the machine ran out of memory: see dmesg"
    else:
        reason = f"cannot be loaded: {reason.strip()}"
    return Problem(place, reason, remedy)
