"""Programs that the demo runs: watched by what they print, ended in order, and never left behind.

Run as a script it is the launcher of such a program: it asks Linux to kill the program when the one that started it
dies, however that dies, and becomes the program.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

STOP_S = 10.0
"""How long a program may take to end after SIGTERM; without calls in flight it takes milliseconds."""

TAIL_LINES = 20

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class DemoError(Exception):
    """Why the demo cannot go on, for the terminal."""


class Program:
    """A running program. Standard output and error are one log, of which the last lines are kept."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], heard: Callable[[str], None]
    ) -> None:
        """Start it; the main thread must do it, because the program is killed when the thread that started it ends.

        Args:
            name: for messages.
            command: program and arguments.
            environment: all of its variables.
            heard: called with each line of its log, in a thread of its own.
        """
        self.name = name
        self._heard = heard
        self._lines: deque[str] = deque(maxlen=400)
        self._ended = False
        self._changed = threading.Condition()
        self._popen = subprocess.Popen(
            [sys.executable, __file__, str(os.getpid()), *command],
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C in the terminal is for the demo, which ends its programs in order
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_line(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """Wait until it has printed a line that the pattern is found in.

        Raises:
            DemoError: it ended, or the time was up, before; with the end of its log.
        """
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for line in self._lines:
                    if match := wanted.search(line):
                        return match
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    break
                self._changed.wait(left)
            ended = self._ended
        raise self.failed("ended before it was ready" if ended else f"is not ready after {timeout_s:.0f} s")

    def failed(self, what: str) -> DemoError:
        """Return the error that says what went wrong and shows the end of the log."""
        with self._changed:
            lines = list(self._lines)[-TAIL_LINES:]
        log = "".join(f"    {line}" for line in lines).rstrip() or "    (it printed nothing)"
        return DemoError(f"{self.name} {what}; the end of its log:\n{log}")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._popen.kill()
        self._popen.wait()
        self._reader.join()

    def terminate(self) -> None:
        """SIGTERM; `wait` waits for the end."""
        self._popen.terminate()

    def wait(self) -> int:
        """Wait for the end that `terminate` has asked for, and kill it when that takes too long.

        Returns:
            The exit status; negative: the signal that killed it.
        """
        try:
            status = self._popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self.failed(f"did not end within {STOP_S:.0f} s of SIGTERM and was killed") from None
        self._reader.join()
        return status

    def is_running(self) -> bool:
        """Tell whether it has not ended."""
        return self._popen.poll() is None

    def _read(self) -> None:
        assert self._popen.stdout is not None  # opened with a pipe above
        with self._popen.stdout as pipe:
            for line in pipe:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
                self._heard(line)
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Programs:
    """All programs of the demo; leaving it ends those that still run, the last one started first."""

    def __init__(self) -> None:
        self._started: list[Program] = []

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], heard: Callable[[str], None]
    ) -> Program:
        """Start a program."""
        program = Program(name, command, environment, heard)
        self._started.append(program)
        return program

    def end(self) -> None:
        """End every program in order.

        Raises:
            DemoError: one did not end by itself, or not with exit status 0.
        """
        running = [program for program in reversed(self._started) if program.is_running()]
        for program in running:
            program.terminate()
            status = program.wait()
            if status != 0:
                raise program.failed(f"ended with exit status {status}")

    def __enter__(self) -> Programs:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what still runs, after a failure or Ctrl-C: nobody waits for its answers any more."""
        for program in reversed(self._started):
            if program.is_running():
                program.kill()


def _become(parent: int, command: Sequence[str]) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    os.execvp(command[0], list(command))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
