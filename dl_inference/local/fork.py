"""Start PyTorch processes by forking one that has imported torch: a tenth of a second in place of many.

`Template` is `serve`'s side. `python -m dl_inference.local.fork PARENT_PID` is the template's: it gets a model server's
options and a pipe for the log through a socket, forks, and sends the new process's id back. The new process is
`serve`'s own child (a subreaper adopts what the fork's middle process leaves), so that it outlives the template, and
dies with `serve`, like any other.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl_inference.local import child, model_server
from dl_inference.serving.options import ServeOptions
from torch_predict.preload import preload

log = logging.getLogger("serve")

READY = b"ready"
# A fork takes milliseconds; on a machine that swaps, more.
_FORK_S = 10.0
_ADOPTED_S = 5.0
# The first import of torch reads gigabytes.
_PRELOAD_S = 120.0
_MESSAGE_BYTES = 64 * 1024
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Template:
    """The process that is forked. Constructing starts it; only the main thread may.

    Args:
        environment: all of its variables, and of its children's.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        child.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        program = [sys.executable, "-P", "-m", "dl_inference.local.fork", str(os.getpid())]
        with theirs:
            self.pid = child.spawn(program, environment, theirs.fileno(), sys.stderr.fileno())
        self.is_ready = False
        self.has_ended = False
        self._started_at = time.monotonic()
        log.info("template for PyTorch processes: process %d loads torch", self.pid)

    @property
    def is_loading(self) -> bool:
        """Whether it is worth waiting for."""
        is_late = time.monotonic() - self._started_at > _PRELOAD_S
        return not (self.is_ready or self.has_ended or is_late)

    def step(self) -> None:
        """Look at it once, without waiting."""
        if not self.has_ended and os.waitpid(self.pid, os.WNOHANG)[0]:
            self._ended()
        if self.is_ready or self.has_ended:
            return
        try:
            self.is_ready = self._socket.recv(_MESSAGE_BYTES) == READY
        except BlockingIOError:
            return
        if self.is_ready:
            log.info("template for PyTorch processes: ready after %.1f s", time.monotonic() - self._started_at)

    def fork(self, command: Sequence[str], options: ServeOptions, folder: Path, output: int) -> int | None:
        """Start a process; return its id, or None when the template cannot.

        Args:
            command: the program to become where the folder's own modules have names that are taken already.
            options: else, what the model server is told.
            folder: the model version's, for that question.
            output: descriptor of its standard output and error.
        """
        if not self.is_ready:
            return None
        message = json.dumps({"command": [*command], "options": options.model_dump_json(), "folder": str(folder)})
        self._socket.settimeout(_FORK_S)
        try:
            socket.send_fds(self._socket, [message.encode()], [output])
            return int(self._socket.recv(_MESSAGE_BYTES))
        except (OSError, ValueError) as error:  # it died, or hangs: its late child finds nobody to report to and ends
            log.warning("the template for PyTorch processes failed (%s): starting without it", error)
            self.end()
            return None
        finally:
            if not self.has_ended:
                self._socket.setblocking(False)

    def end(self) -> None:
        """Kill it; what it has forked goes on."""
        if not self.has_ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._ended()

    def _ended(self) -> None:
        self.has_ended = True
        self.is_ready = False
        self._socket.close()


def main(parent: int) -> None:
    """Be the template: import, then fork for each message until `serve` is gone."""
    with socket.socket(fileno=0) as orders:
        try:
            preload()
        except ModuleNotFoundError as error:  # the model processes say what to install
            print(f"no template for PyTorch processes: {error}", file=sys.stderr)
            return
        # Of 3.12 and later, because OpenBLAS has threads; it ends them before a fork and has them again after it.
        warnings.filterwarnings("ignore", message=".*multi-threaded", category=DeprecationWarning)
        gc.collect()
        gc.freeze()  # what is here stays; looking at it would copy its pages in every child
        orders.send(READY)
        while True:
            data, descriptors, _, _ = socket.recv_fds(orders, _MESSAGE_BYTES, 1)
            if not data:
                return
            middle = os.fork()
            if middle == 0:
                if os.fork() == 0:
                    _become_model_process(orders, parent, json.loads(data), descriptors[0])
                os._exit(0)
            os.close(descriptors[0])
            os.waitpid(middle, 0)


def _become_model_process(orders: socket.socket, parent: int, order: dict[str, Any], output: int) -> None:
    """Go on as a child of `serve`: never returns."""
    status = 1
    try:
        deadline = time.monotonic() + _ADOPTED_S
        while os.getppid() != parent:  # the middle process is ending
            if time.monotonic() > deadline:
                os._exit(1)
            time.sleep(0.001)
        child.die_with(parent)
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        orders.send(str(os.getpid()).encode())
        orders.close()
        os.open(os.devnull, os.O_RDONLY)  # becomes descriptor 0, which `orders` was
        status = _serve(order)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # the template's own exit is none of this process's business


def _serve(order: dict[str, Any]) -> int:
    folder, command = Path(order["folder"]), order["command"]
    taken = {each.stem for each in folder.iterdir() if each.suffix == ".py" or each.is_dir()} & sys.modules.keys()
    if taken:
        print(f"starting without the template: the folder has a module {min(taken)} of its own", flush=True)
        os.execvp(command[0], command)
    np.random.seed()  # else all children draw the same numbers
    return model_server.main(order["options"])


if __name__ == "__main__":
    main(int(sys.argv[1]))
