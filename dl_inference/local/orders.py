"""What callers order of `serve`: to load, unload or reload a model; what came of it is in /status."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dl_inference.local.processes import ModelProcess

MOST_KEPT = 64
"""Orders that /status still tells of."""
WAIT_MS = 500
"""How soon the thread sees that everything ends."""


class Source(Protocol):
    """Where orders come from, and go when they are done."""

    def next_order(self, limit_ms: int) -> tuple[int, str, str] | None: ...  # noqa: D102
    def answer_order(self, number: int, code: str, text: str) -> None: ...  # noqa: D102


@dataclass(eq=False)
class Order:
    """One order.

    Attributes:
        number: of the data plane's; 0 where nobody waits.
        action: load, unload, reload; call: a call waits for the model.
        model: its name.
        code: of gRPC, where it failed.
        text: why it failed.
        is_done: nothing more comes of it.
        leaving: processes that are to end first.
    """

    number: int
    action: str
    model: str
    code: str = ""
    text: str = ""
    is_done: bool = False
    leaving: Sequence[ModelProcess] = field(default=(), repr=False)

    def status(self) -> dict[str, Any]:
        """Return what /status shows."""
        state = "under way" if not self.is_done else "failed" if self.code else "done"
        return {
            "order": self.number,
            "action": self.action,
            "model": self.model,
            "state": state,
            "code": self.code,
            "text": self.text,
        }


class Orders:
    """The orders there are. A thread hears of them; all else belongs to the main thread.

    Args:
        wake: called by the thread when there is one.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._heard: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._kept: deque[Order] = deque(maxlen=MOST_KEPT)
        self._under_way: list[Order] = []
        self._stopped = threading.Event()
        self._source: Source | None = None

    def follow(self, source: Source) -> None:
        """Hear of what comes from now on."""
        self._source = source
        threading.Thread(target=self._listen, args=(source,), name="orders", daemon=True).start()

    def stop(self) -> None:
        """Hear of nothing more."""
        self._stopped.set()

    def taken(self) -> list[Order]:
        """Return those that have come since the last time, the oldest first."""
        found = []
        while not self._heard.empty():
            found.append(self._heard.get())
        for order in found:
            if order.number:
                self._kept.append(order)
                self._under_way.append(order)
        return found

    def under_way(self, model: str | None = None) -> list[Order]:
        """Return those that are not done, of one model or of all."""
        return [order for order in self._under_way if model in (None, order.model)]

    def end(self, order: Order, code: str = "", text: str = "") -> None:
        """Say what came of one; a code says that it failed."""
        order.is_done, order.code, order.text = True, code, text
        order.leaving = ()
        if order in self._under_way:
            self._under_way.remove(order)
            if self._source is not None:
                self._source.answer_order(order.number, code, text)

    def status(self) -> list[dict[str, Any]]:
        """Return what /status shows."""
        return [order.status() for order in self._kept]

    def _listen(self, source: Source) -> None:
        while not self._stopped.is_set():
            found = source.next_order(WAIT_MS)
            if found is not None:
                self._heard.put(Order(*found))
                self._wake()
