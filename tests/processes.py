"""Other programs that a test runs: started, watched by what they print, and gone when the test ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


class Process:
    """A running program. Standard output and error are one log, kept line by line."""

    def __init__(
        self, command: Sequence[str | Path], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None
    ) -> None:
        """Start the program in a session of its own, so that its children can be killed with it.

        Args:
            command: program and arguments.
            cwd: its working directory.
            env: variables set on top of this process's.
        """
        self.command = [str(word) for word in command]
        self._lines: list[str] = []
        self._ended = False
        self._killed = False
        self._changed = threading.Condition()
        self._popen = subprocess.Popen(
            self.command,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process's id, which is its group's as well."""
        return self._popen.pid

    @property
    def log(self) -> str:
        """All that it has printed."""
        with self._changed:
            return "".join(self._lines)

    def wait_line(self, pattern: str, *, after: int = 0, timeout_s: float = 20) -> re.Match[str]:
        """Wait until it has printed a line that the pattern is found in.

        Args:
            pattern: regular expression.
            after: lines of the log to pass over.
            timeout_s: limit.

        Raises:
            AssertionError: it ended, or the time was up, before; the log is in the message.
        """
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for line in self._lines[after:]:
                    if match := wanted.search(line):
                        return match
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    what = "ended" if self._ended else f"took more than {timeout_s} s"
                    raise AssertionError(f"{self.command} {what} before {pattern!r}:\n{''.join(self._lines)}")
                self._changed.wait(left)

    def line_count(self) -> int:
        """How many lines it has printed, for ``wait_line(after=...)``."""
        with self._changed:
            return len(self._lines)

    def send_line(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._popen.stdin is not None  # opened with a pipe above
        self._popen.stdin.write(line + "\n")
        self._popen.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        self._popen.send_signal(number)

    def wait(self, timeout_s: float = 20) -> int:
        """Wait for its end; return the exit status (negative: the signal)."""
        try:
            status = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} runs on after {timeout_s} s:\n{self.log}") from None
        self._reader.join(timeout_s)
        return status

    def kill(self) -> None:
        """SIGKILL it and its children, and wait until it is gone."""
        if self._killed:
            return  # the id may be another's by now
        self._killed = True
        with contextlib.suppress(ProcessLookupError):  # all of it has ended already
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(10)
        self._reader.join(10)
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # a line that it did not live to read
                    pipe.close()

    def _read(self) -> None:
        assert self._popen.stdout is not None  # opened with a pipe above
        for line in self._popen.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Endpoint:
    """A stand-in endpoint (dataplane/crates/bench, ``endpoint``) in a process of its own."""

    def __init__(
        self,
        start: Callable[[Sequence[str | Path]], Process],
        program: Path,
        options: Sequence[str],
        host: str = "127.0.0.1",
    ) -> None:
        """Start it on a free port.

        Args:
            start: how to start a process (the ``run`` fixture).
            program: path of ``endpoint``.
            options: its options, such as ``("--echo", "yes")``.
            host: the interface.
        """
        self._start = start
        self._program = program
        self._options = options
        self.address = f"{host}:0"
        self.process = self._launch()

    def tell(self, command: str) -> None:
        """Give a command of dataplane/crates/bench/src/fault.rs; it is in force when this returns."""
        before = self.process.line_count()
        self.process.send_line(command)
        self.process.wait_line(f"^done {command}$", after=before)

    def counts(self) -> tuple[int, int]:
        """Return (calls, connections) since its start."""
        before = self.process.line_count()
        self.process.send_line("count")
        match = self.process.wait_line(r"^count (\d+) (\d+)$", after=before)
        return int(match[1]), int(match[2])

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it again on the same address, after :meth:`kill`."""
        self.process = self._launch()

    def _launch(self) -> Process:
        name = () if "--name" in self._options else ("--name", self.address)
        process = self._start([self._program, self.address, *self._options, *name])
        self.address = process.wait_line(r"^listening (\S+)")[1]
        process.wait_line("^ready")
        return process


class Load:
    """Calls at a fixed rate (dataplane/crates/bench, ``load``) in a process of its own."""

    def __init__(self, process: Process) -> None:
        """Wait until it has begun."""
        self._process = process
        process.wait_line(r"^started ")

    def stop(self, timeout_s: float = 30) -> dict[str, Any]:
        """Start no more calls; wait for those in flight; return the report."""
        self._process.send_line("stop")
        return self.report(timeout_s)

    def report(self, timeout_s: float = 60) -> dict[str, Any]:
        """Wait for the end of its time; return the report (dataplane/crates/bench/src/report.rs)."""
        match = self._process.wait_line(r"^\{.*\}$", timeout_s=timeout_s)
        self._process.wait()
        report: dict[str, Any] = json.loads(match[0])
        return report
