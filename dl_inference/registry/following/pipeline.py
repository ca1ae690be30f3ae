"""Requests to ZooKeeper, many under way at once; replies and events come back as jobs of the thread that asked."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

from kazoo.client import KazooClient
from kazoo.protocol.states import EventType, WatchedEvent

Job = Callable[[], None]

# Requests under way. A hostile document has 1 MiB, so this bounds what is in memory at once; and kazoo, whose thread is
# woken by a byte in a pipe for each request, makes the caller wait from about 270 on.
WINDOW = 128


class Request(NamedTuple):
    """What is asked: `kind` says how, the rest what about."""

    kind: Literal["sync", "models", "endpoints", "node", "release", "document", "absent"]
    path: str
    model: str = ""
    name: str = ""


class Pipeline:
    """The requests of one thread.

    Args:
        post: puts a job into that thread's queue; called in kazoo's threads.
        replied: called, as a job, with a request and kazoo's result: `value` or `exception`.
        changed: called, as a job, with the path of a watch that fired.

    Attributes:
        number: of the connection, counted from the first `begin`: what was watched on another one no longer is.
    """

    def __init__(
        self, post: Callable[[Job], None], replied: Callable[[Request, Any], None], changed: Callable[[str], None]
    ) -> None:
        self.number = 0
        self._post, self._replied, self._changed = post, replied, changed
        self._client: KazooClient | None = None
        self._asked = 0
        self._backlog: deque[Request] = deque()

    @property
    def is_open(self) -> bool:
        """Tell whether there is a connection to ask on."""
        return self._client is not None

    @property
    def is_busy(self) -> bool:
        """Tell whether an answer is still to come."""
        return bool(self._asked or self._backlog)

    def begin(self, client: KazooClient) -> None:
        """Ask this client from now on, on a connection that nothing was asked on yet."""
        self.abandon()
        self._client = client

    def abandon(self) -> None:
        """Forget all that was asked: the connection is gone. Late answers are dropped."""
        self.number += 1
        self._client, self._asked = None, 0
        self._backlog.clear()

    def ask(self, request: Request) -> None:
        """Ask, now or when fewer are under way; without a connection, do nothing."""
        if self._client is not None:
            self._backlog.append(request)
            self._send()

    def _send(self) -> None:
        if self._asked > WINDOW // 2:  # many at once wake kazoo's thread less often
            return
        while self._client is not None and self._backlog and self._asked < WINDOW:
            request = self._backlog.popleft()
            self._asked += 1
            self._call(self._client, request).rawlink(partial(self._on_reply, self.number, request))

    def _call(self, client: KazooClient, request: Request) -> Any:
        kind, path = request.kind, request.path
        if kind == "sync":
            return client.sync_async(path)
        if kind in ("models", "endpoints"):
            return client.get_children_async(path, self._on_event)
        if kind == "node":
            return client.get_async(path, self._on_event)
        if kind == "document":  # watched by the look that found it
            return client.get_async(path)
        return client.exists_async(path, self._on_event)

    def _on_event(self, event: WatchedEvent) -> None:
        if event.type != EventType.NONE:  # the connection's state, which the session tells
            self._post(partial(self._changed, event.path))

    def _on_reply(self, number: int, request: Request, result: Any) -> None:
        self._post(partial(self._reply, number, request, result))

    def _reply(self, number: int, request: Request, result: Any) -> None:
        if number == self.number:
            self._asked -= 1
            self._replied(request, result)
            self._send()
