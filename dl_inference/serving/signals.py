"""Hear SIGTERM and SIGINT at once, whatever the main thread is doing.

Python runs signal handlers between two bytecodes of the main thread, so a hook inside a long torch call would
keep a stop waiting. The C part of the handler writes to a wake-up descriptor at once; a thread reads that.

A child that a hook forks shares that descriptor: its signals would be heard here. So it gives the signals back.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from dl_inference.serving import ending

_Handlers = tuple[Callable[[], None], Callable[[int], None]]
_HEARD = (signal.SIGTERM, signal.SIGINT)

_LOGGER = logging.getLogger(__name__)


class Signals:
    """The process's stop signals, from entering to leaving; only the main thread may do either."""

    def __enter__(self) -> Signals:
        """Take over the signals. Until `queue` is called, one ends the process at once: nobody is served yet."""
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)  # signal.set_wakeup_fd demands it
        self._old_descriptor = signal.set_wakeup_fd(self._writer.fileno())
        # The default handlers would end the process, or raise KeyboardInterrupt inside a hook.
        self._old_handlers: list[Any] = [signal.signal(number, lambda *_: None) for number in _HEARD]
        self._threads: list[threading.Thread] = []
        self._is_starting = self._is_heard = True
        self._handlers: queue.SimpleQueue[_Handlers | None] = queue.SimpleQueue()
        os.register_at_fork(after_in_child=self._give_back_in_child)
        self._start("signals", self._listen)
        return self

    def queue(self) -> None:
        """Keep the signals that come from now on for `handle`."""
        self._is_starting = False

    def handle(self, first: Callable[[], None], again: Callable[[int], None]) -> None:
        """Call `first` in a thread of its own for the first signal, `again(number)` for each later one."""
        self._handlers.put((first, again))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back and end the thread."""
        self._is_heard = False
        self._handlers.put(None)
        self._give_back(self._old_descriptor)
        self._writer.close()  # the reader sees the end
        for thread in self._threads:
            thread.join()
        self._reader.close()

    def _give_back(self, descriptor: int) -> None:
        signal.set_wakeup_fd(descriptor)
        for number, handler in zip(_HEARD, self._old_handlers, strict=True):
            signal.signal(number, handler)

    def _give_back_in_child(self) -> None:
        if self._is_heard:
            self._is_heard = False
            self._give_back(-1)
            self._reader.close()
            self._writer.close()

    def _listen(self) -> None:
        handlers: _Handlers | None = None
        while byte := self._reader.recv(1):
            if byte[0] not in _HEARD:  # other signals that somebody handles in Python come here too
                continue
            if self._is_starting:
                _LOGGER.info("%s while starting: stopped", signal.Signals(byte[0]).name)
                ending.exit_now(128 + byte[0])
            if handlers is not None:
                handlers[1](byte[0])
                continue
            handlers = self._handlers.get()
            if handlers is None:
                return
            self._start("drain", handlers[0])

    def _start(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
