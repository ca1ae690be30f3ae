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

from dl_inference.local.pulse import Pulse
from dl_inference.local.relay import LOG_LINE, relay
from dl_inference.serving.report import Report, new_file, read

READY_S = 600.0
"""A process that is not ready after so long is killed and started again; loading big models takes minutes."""

WELL_S = 60.0
"""A process that was ready for so long has run well: its next crash is its first."""

UNKNOWN_STATUS = 256
"""Of a process that somebody else has reaped; no process can end with it."""

_TAIL_LINES = 60
_REASON_LINES = 8


def metrics_file(address: str) -> Path:
    """Return where a process keeps metrics of the model's own code, if it has any: beside the socket of its address."""
    return Path(f"{address.removeprefix('unix:')}.metrics")


def last_metrics(file: Path) -> Path:
    """Return where the metrics of a process lie once it has ended."""
    return file.with_name(f"{file.name}.last")


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
        self._pulse: Pulse | None = None
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
        elif self._pulse is not None and not self._is_leaving:
            self._pulse.step()
        return self.state

    @property
    def sickness(self) -> str:
        """Why it should be replaced although it runs: it hangs; empty where it does not."""
        return self._pulse.sickness if self._pulse is not None and self.state is State.READY else ""

    @property
    def is_healthy(self) -> bool:
        """Whether it is ready, and has answered lately."""
        return self.state is State.READY and not self.sickness

    def ran_well(self) -> bool:
        """Tell whether it was ready for long enough to forgive it a crash."""
        return self.ready_at > 0 and time.monotonic() - self.ready_at >= WELL_S

    def terminate(self) -> None:
        """SIGTERM: answer what is in flight, then end. One that hangs answers nothing, and is killed.

        Then the calls that wait in it can still go elsewhere.
        """
        if self.sickness:
            self.kill()
        self._is_leaving = True
        self._close_pulse()
        if self.state is not State.ENDED:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL it and whatever it has started, and wait until it is gone."""
        self._close_pulse()
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
        self._close_pulse()
        self._reader.join(0.2)  # its last words; a grandchild may hold the pipe open
        self.report = read(report_file(self._socket))
        for file in (self._socket, report_file(self._socket), new_file(report_file(self._socket))):
            file.unlink(missing_ok=True)
        self._leave_metrics()
        shutil.rmtree(private_folder(self._socket), ignore_errors=True)
        self.reason = reason if status is None else self._why(status)

    def _leave_metrics(self) -> None:
        """Leave what the model's code has counted to `ModelMetrics`, which adds it up; of one that served."""
        file = metrics_file(self.address)
        with contextlib.suppress(OSError):  # there is none, as a rule
            if self.ready_at > 0:
                os.replace(file, last_metrics(file))
            else:
                file.unlink()

    def _why(self, status: int) -> str:
        """Say why it ended: what it said after "cannot serve", else its last line, and how it ended."""
        lines = [LOG_LINE.sub(r"\2", line.removeprefix("    ")) for line in self._tail if line.strip()]
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
        if self._pulse is None:
            if not self._socket.exists():
                return False
            self._pulse = Pulse(self.address)
        self._pulse.step()
        return self._pulse.is_serving is True

    def _close_pulse(self) -> None:
        if self._pulse is not None:
            self._pulse.close()
            self._pulse = None

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


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
