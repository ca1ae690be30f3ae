"""The process that goes on with the listening sockets of this one: started beside it, and believed when it is ready."""

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from access.sockets import given_to_next
from dl_inference.serving import log_json

END_S = 5.0


class Successor:
    """A process of the same command, as its files are now.

    Args:
        descriptors: of the listening sockets.
        limit_s: how long it may take to be ready.
        ended: called in a thread of this object's when `outcome` is there.
        command: what to run; the command of this process.

    Attributes:
        pid: its number.
        since_unix_s: when it was started.
        outcome: None while it starts; empty: it is ready; else why it is not.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        descriptors: Sequence[int],
        limit_s: float,
        ended: Callable[[], None],
        command: Sequence[str] = (sys.executable, *sys.orig_argv[1:]),
    ) -> None:
        self.since_unix_s = time.time()
        self.outcome: str | None = None
        self._ended, self._limit_s = ended, limit_s
        self._ready, write = os.pipe()
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=(*descriptors, write),
                env={**os.environ, **given_to_next(list(descriptors), write)},
                stdin=subprocess.DEVNULL,
                stderr=log_json.destination(),
            )
        except BaseException:
            os.close(self._ready)
            raise
        finally:
            os.close(write)
        self.pid = self._process.pid
        threading.Thread(target=self._wait, name="successor", daemon=True).start()

    def stop(self) -> None:
        """End it, if it is not ready: its sockets are this process's, too."""
        if self.outcome != "":
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
            self._process.kill()
            self._process.wait()

    def _wait(self) -> None:
        # The pipe's other end is closed with the process, whatever becomes of it.
        readable, _, _ = select.select([self._ready], [], [], self._limit_s)
        is_ready = bool(readable) and os.read(self._ready, 1) == b"1"
        os.close(self._ready)
        if is_ready:
            self.outcome = ""
        elif not readable:
            self.outcome = f"it was not ready within {self._limit_s:g} s; its log says what it waits for"
        else:
            self.outcome = f"it ended with {self._status()}; its log says why"
        self._ended()

    def _status(self) -> str:
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return "its pipe closed"
        return f"signal {-status}" if status < 0 else f"exit status {status}"
