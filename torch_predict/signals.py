"""Hear SIGTERM and SIGINT at once, whatever the main thread is doing.

Python runs signal handlers between two bytecodes of the main thread, so a hook inside a long torch call would
keep a stop waiting. The C part of the handler writes to a wake-up descriptor at once; a thread reads that.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

_HEARD = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """The process's stop signals, from entering to leaving; only the main thread may do either."""

    def __enter__(self) -> Signals:
        """Take over the signals; they queue until `handle` is called."""
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)  # signal.set_wakeup_fd demands it
        self._old_descriptor = signal.set_wakeup_fd(self._writer.fileno())
        # The default handlers would end the process, or raise KeyboardInterrupt inside a hook.
        self._old_handlers: list[Any] = [signal.signal(number, lambda *_: None) for number in _HEARD]
        self._threads: list[threading.Thread] = []
        return self

    def handle(self, first: Callable[[], None], again: Callable[[int], None]) -> None:
        """Call `first` in a thread of its own for the first signal, `again(number)` for each later one."""
        self._start("signals", lambda: self._listen(first, again))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back and end the thread."""
        signal.set_wakeup_fd(self._old_descriptor)
        for number, handler in zip(_HEARD, self._old_handlers, strict=True):
            signal.signal(number, handler)
        self._writer.close()  # the reader sees the end
        for thread in self._threads:
            thread.join()
        self._reader.close()

    def _listen(self, first: Callable[[], None], again: Callable[[int], None]) -> None:
        heard = 0
        while byte := self._reader.recv(1):
            if byte[0] not in _HEARD:  # other signals that somebody handles in Python come here too
                continue
            heard += 1
            if heard == 1:
                self._start("drain", first)
            else:
                again(byte[0])

    def _start(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
