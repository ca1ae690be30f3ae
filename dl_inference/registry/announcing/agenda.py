"""What should be at each of our paths in the registry, and what is still to be done for it. No network.

The server's threads say what they want; the announcer's thread asks what is due, does it, and says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from dl_inference.registry.schema import EndpointDocument


@dataclass
class _Node:
    """One path of ours.

    Attributes:
        document: what the server wants to say.
        since: when it first said so.
        is_wanted: else it says goodbye, and goes.
        is_settled: what is there is what should be there, as far as we have heard.
        goes_at: when it goes, by the monotonic clock; None: it is wanted, or has not said goodbye yet.
    """

    document: EndpointDocument
    since: str
    is_wanted: bool = True
    is_settled: bool = False
    goes_at: float | None = None

    def is_going(self) -> bool:
        return self.goes_at is not None and self.goes_at <= time.monotonic()


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done about one path, as the server wanted it when the task was given out.

    Attributes:
        path: whose node.
        document: what the server wants to say there.
        since: when it first said so.
        is_wanted: else it says goodbye, and goes.
        is_leaving: the whole server says goodbye.
        is_going: the node is to be taken away.
    """

    path: str
    document: EndpointDocument
    since: str
    is_wanted: bool
    is_leaving: bool
    is_going: bool

    @property
    def is_staying(self) -> bool:
        """Whether calls should come: else it says goodbye."""
        return self.is_wanted and not self.is_leaving


class Agenda:
    """Every path of ours; thread-safe.

    Args:
        linger_s: how long a document that is no longer wanted says goodbye before it goes.
    """

    def __init__(self, linger_s: float) -> None:
        self._linger_s = linger_s
        self._changed = threading.Condition()
        self._nodes: dict[str, _Node] = {}
        self._is_leaving = False

    # --- what the server says

    def want(self, wanted: Mapping[str, EndpointDocument]) -> None:
        """Take the whole set of what should be there: path -> document."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._changed:
            for path, document in wanted.items():
                node = self._nodes.get(path)
                if node is None:
                    self._nodes[path] = _Node(document, now)
                elif not node.is_wanted or node.document != document:
                    node.document, node.is_wanted, node.is_settled, node.goes_at = document, True, False, None
            for path, node in self._nodes.items():
                if path not in wanted and node.is_wanted:
                    node.is_wanted = node.is_settled = False

    def leave(self) -> None:
        """Let every document say goodbye from now on."""
        with self._changed:
            if not self._is_leaving:
                self._is_leaving = True
                for node in self._nodes.values():
                    node.is_settled = False

    def await_settled(self, limit_s: float) -> bool:
        """Wait until everything is done; tell whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: all(node.is_settled for node in self._nodes.values()), limit_s)

    # --- what is done

    def unsettle(self, path: str) -> None:
        """Look at a path again, as something has happened there."""
        with self._changed:
            if node := self._nodes.get(path):
                node.is_settled = False

    def unsettle_all(self) -> None:
        """Look at every path again."""
        with self._changed:
            for node in self._nodes.values():
                node.is_settled = False

    def due(self) -> list[str]:
        """Return the paths for which there is something to be done now."""
        with self._changed:
            return [path for path, node in self._nodes.items() if not node.is_settled or node.is_going()]

    def task(self, path: str) -> Task:
        """Return what is to be done about a path."""
        with self._changed:
            node = self._nodes[path]
            return Task(path, node.document, node.since, node.is_wanted, self._is_leaving, node.is_going())

    def done(self, task: Task) -> None:
        """Take note that a task is done, unless the server said something else meanwhile: then it is due again."""
        with self._changed:
            node, is_leaving = self._nodes[task.path], self._is_leaving
            if node.document is not task.document or node.is_wanted != task.is_wanted or is_leaving != task.is_leaving:
                return
            if task.is_going:
                del self._nodes[task.path]
            elif not task.is_wanted and node.goes_at is None:
                node.goes_at = time.monotonic() + self._linger_s
            node.is_settled = True
            self._changed.notify_all()

    # --- how it stands

    @property
    def is_empty(self) -> bool:
        """Whether no path is ours."""
        with self._changed:
            return not self._nodes

    def wanted_count(self) -> int:
        """Return how many documents should be there."""
        with self._changed:
            return sum(node.is_wanted for node in self._nodes.values())

    def next_end_s(self) -> float | None:
        """Return after what time the next node goes, s; None: all of them are to stay."""
        with self._changed:
            going = [node.goes_at for node in self._nodes.values() if node.goes_at is not None]
        return max(0.0, min(going) - time.monotonic()) if going else None
