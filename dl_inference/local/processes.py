"""One model process of `serve`: started, watched until it is ready, ended; `replica` restarts it after a crash.

Everything here is driven by the main thread's steps (a process dies with the thread that started it); a thread for
each process reads what it prints. Nothing waits but the one that ends what is left.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import logging
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from dl_inference.local.relay import LOG_LINE, relay
from dl_inference.messages import HealthCheckRequest, HealthCheckResponse
from dl_inference.serving.report import Report, new_file, read

READY_S = 600.0
"""A process that is not ready after so long is killed and started again; loading big models takes minutes."""

WELL_S = 60.0
"""A process that was ready for so long has run well: its next crash is its first."""

UNKNOWN_STATUS = 256
"""Of a process that somebody else has reaped; no process can end with it."""

_HEALTH_S = 5.0
_HEALTH_EVERY_S = 0.1
_TAIL_LINES = 60
_REASON_LINES = 8


class State(enum.Enum):
    """Where a process stands."""

    STARTING = "starting"
    READY = "ready"
    ENDED = "ended"


class ModelProcess:
    """One process that serves one version of a model on a unix socket. Constructing starts it.

    Args:
        label: for the log: ``digits@1/0``.
        launch: starts the program, as the leader of a process group and a child of this process, with a descriptor as
            its standard output and error; returns its id.
        socket: where it will listen.
        ready_s: how long it may take to be ready.
        load_bytes: most resident memory that it may have until then; None: what there is.
    """

    def __init__(
        self,
        label: str,
        launch: Callable[[int], int],
        socket: Path,
        ready_s: float = READY_S,
        load_bytes: int | None = None,
    ) -> None:
        self.label = label
        self.address = f"unix:{socket}"
        self.state = State.STARTING
        self.reason = ""
        """Why it ended, once it has."""
        self.report = Report()
        """What it has told (serving/report.py), once it is ready or has ended."""
        self.started_at = time.monotonic()
        self.ready_at = 0.0
        self._socket = socket
        self._ready_s = ready_s
        self._load_bytes = load_bytes
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._health: _Health | None = None
        self._is_leaving = self._is_reaped = False
        output, theirs = os.pipe()
        try:
            # First, so that no process is left behind where there is no room for a thread; it ends with the pipe.
            self._reader = threading.Thread(target=self._read, args=(output,), name=f"log-{label}", daemon=True)
            try:
                self._reader.start()
            except RuntimeError as error:
                os.close(output)
                raise OSError(errno.EAGAIN, str(error)) from error
            self.pid = launch(theirs)
        finally:
            os.close(theirs)

    def step(self) -> State:
        """Look at it once, without waiting; return where it stands."""
        if self.state is State.ENDED:
            return self.state
        status = self._poll()
        if status is not None:
            self._ended(status)
        elif self.state is State.STARTING and not self._is_leaving:
            if self._is_serving():
                self.state = State.READY
                self.ready_at = time.monotonic()
                self.report = read(report_file(self._socket))
            elif time.monotonic() - self.started_at > self._ready_s:
                self._give_up(f"not ready within {self._ready_s:g} s")
            elif self._load_bytes is not None and resident_bytes(self.pid) > self._load_bytes:
                self._give_up(f"needs more than {self._load_bytes} bytes of memory to load")
        return self.state

    def ran_well(self) -> bool:
        """Tell whether it was ready for long enough to forgive it a crash."""
        return self.ready_at > 0 and time.monotonic() - self.ready_at >= WELL_S

    def terminate(self) -> None:
        """SIGTERM: answer what is in flight, then end."""
        self._is_leaving = True
        self._close_health()
        if self.state is not State.ENDED:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL it and whatever it has started, and wait until it is gone."""
        self._close_health()
        if not self._is_reaped:
            self._kill_group()
            self._ended(self._reap())

    def _poll(self) -> int | None:
        """Return its exit status once it has ended; what it has started ends with it."""
        # Not reaped yet, so that its id, which is its group's, cannot be anybody else's.
        with contextlib.suppress(ChildProcessError):  # somebody has reaped it
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self._kill_group()
        return self._reap()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left, or one has other rights
            os.killpg(self.pid, signal.SIGKILL)

    def _give_up(self, reason: str) -> None:
        self._kill_group()
        self._reap()
        self._ended(None, reason)

    def _reap(self) -> int:
        self._is_reaped = True
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            return UNKNOWN_STATUS

    def _ended(self, status: int | None, reason: str = "") -> None:
        self.state = State.ENDED
        self._close_health()
        self._reader.join(0.2)  # its last words; a grandchild may hold the pipe open
        self.report = read(report_file(self._socket))
        for file in (self._socket, report_file(self._socket), new_file(report_file(self._socket))):
            file.unlink(missing_ok=True)
        shutil.rmtree(private_folder(self._socket), ignore_errors=True)
        self.reason = reason if status is None else self._why(status)

    def _why(self, status: int) -> str:
        """Say why it ended: what it said after "cannot serve", else its last line, and how it ended."""
        lines = [LOG_LINE.sub(r"\2", line) for line in self._tail if line.strip()]
        starts = [index for index, line in enumerate(lines) if "cannot serve" in line]
        words = lines[starts[-1] + 1 :] if starts and starts[-1] + 1 < len(lines) else lines[-1:]
        if status == -signal.SIGKILL:  # that leaves no time for last words
            return "killed by SIGKILL"
        if status == UNKNOWN_STATUS:
            return "it has ended, and its exit status is not known"
        how = f"killed by {_signal_name(-status)}" if status < 0 else f"ended with exit status {status}"
        # The reason alone where it gave one itself and ended as agreed.
        return "\n".join(words[:_REASON_LINES]) if starts and status == 1 else "\n".join([how, *words])

    def _is_serving(self) -> bool:
        if self._health is None:
            if not self._socket.exists():
                return False
            self._health = _Health(self.address)
        if not self._health.is_serving():
            return False
        self._close_health()
        return True

    def _close_health(self) -> None:
        if self._health is not None:
            self._health.close()
            self._health = None

    def _read(self, output: int) -> None:
        relay(output, logging.getLogger(f"serve.{self.label}"), self._tail.append)


def report_file(socket: Path) -> Path:
    """Return where a process with this socket tells how far it has come."""
    return socket.with_name(f"{socket.name}.report")


def private_folder(socket: Path) -> Path:
    """Return where a process with this socket may keep files of its own; they go with it."""
    return socket.with_name(f"{socket.name}.files")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 when it has ended. Pages that it shares with a template count."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


class _Health:
    """Asks grpc.health.v1 whether a process is warm, without waiting for the answer."""

    def __init__(self, address: str) -> None:
        # For a unix socket grpc makes an authority of the path, "%2Ftmp%2F...", which the h2 crate refuses.
        self._channel = grpc.insecure_channel(
            address, options=[("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        )
        self._check = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        self._call: Any = None
        self._asked_at = 0.0

    def is_serving(self) -> bool:
        """Tell what the last question was answered with; ask the next one now and then."""
        if self._call is not None and self._call.done():
            call, self._call = self._call, None
            if call.code() is grpc.StatusCode.OK and call.result().status == HealthCheckResponse.SERVING:
                return True
        if self._call is None and time.monotonic() - self._asked_at >= _HEALTH_EVERY_S:
            self._asked_at = time.monotonic()
            self._call = self._check.future(HealthCheckRequest(), timeout=_HEALTH_S, wait_for_ready=True)
        return False

    def close(self) -> None:
        """End the question and the connection."""
        self._channel.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
