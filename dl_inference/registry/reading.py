"""Reads a registry and what changes in it: requests in a pipeline, one-shot watches, and bursts that become one change.

Everything here runs in one thread; kazoo's threads only hand in replies and events through `post`.
"""

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    ConnectionClosedError,
    ConnectionLoss,
    NoAuthError,
    NoNodeError,
    SessionExpiredError,
)
from kazoo.protocol.states import EventType, WatchedEvent

from dl_inference.registry.burst import Burst
from dl_inference.registry.schema import MODELS
from dl_inference.registry.tree import Fault, Model, Reading, View, is_model, printable

Job = Callable[[], None]

# Requests under way. A hostile document has 1 MiB, so this bounds what is in memory at once; and kazoo, whose thread is
# woken by a byte in a pipe for each request, makes the caller wait from about 270 on.
WINDOW = 128
# No watch tells of an ACL's change.
DENIED_RETRY_S = 10.0


class _Request(NamedTuple):
    kind: Literal["sync", "models", "endpoints", "node", "release", "document", "absent"]
    path: str
    model: str = ""
    name: str = ""


class Reader:
    """What is known of the registry, and what is being asked.

    Args:
        root: the chroot.
        post: puts a job into the queue of the thread that owns this.

    Attributes:
        failure: why the whole cannot be read on this connection, until the next `begin`.
    """

    def __init__(self, root: str, post: Callable[[Job], None]) -> None:
        self.failure: str | None = None
        self._top = root + MODELS
        self._root = root
        self._post = post
        self._client: KazooClient | None = None
        self._number = 0
        self._loading = False
        self._models: dict[str, Model] = {}
        self._faults: tuple[Fault, ...] = ()
        self._views: dict[str, View] = {}
        self._stale: set[str] = set()
        self._asked = 0
        self._backlog: deque[_Request] = deque()
        self._burst = Burst()
        self._denied: dict[str, None] = {}
        self._denied_at = 0.0

    def begin(self, client: KazooClient) -> None:
        """Read everything, and watch all of it anew."""
        self.abandon()
        self._client, self._loading = client, True
        self._ask(_Request("sync", self._top))  # another server of the ensemble may be behind the last one
        self._ask(_Request("models", self._top))

    def abandon(self) -> None:
        """Forget what was asked, as the connection is gone with every watch; what is known stays."""
        self._number += 1
        self._client, self.failure, self._loading = None, None, False
        self._asked = 0
        self._backlog.clear()
        self._burst.clear()
        self._denied.clear()
        for model in self._models.values():
            model.pending = 0

    def wait_s(self, now: float) -> float | None:
        """Return the time until `tick` has something to do; None: until a job brings something."""
        if self._client is None or self._loading:
            return None
        times = [self._burst.next_at(self._is_busy()), self._denied_at if self._denied else None]
        return min((max(0.0, each - now) for each in times if each is not None), default=None)

    def tick(self, now: float) -> bool:
        """Ask for what is due.

        Returns:
            Whether a burst of changes is over, or the whole has been read: `reading` gives something new.
        """
        if self._client is None or self.failure:
            return False
        if self._loading:
            if self._is_busy():
                return False
            self._loading = False
            return True
        if self._denied and now >= self._denied_at:
            for path in self._denied:
                self._burst.add(path, now)
            self._denied.clear()
        for path in self._burst.take(now):
            self._ask_again(path)
        return self._burst.ends(now, self._is_busy())

    def reading(self) -> tuple[Reading, bool]:
        """Return what is known now, and whether that is something new.

        A model that is just being read again is left as it was: half of a rolling restart would look like its end.
        """
        is_new = bool(self._views.keys() - self._models.keys())
        self._views = {name: view for name, view in self._views.items() if name in self._models}
        for name in sorted(self._stale):
            model = self._models.get(name)
            if model is None or not model.pending:
                self._stale.discard(name)
            if model is not None and not model.pending:
                view = model.view()
                is_new |= view != self._views.get(name)
                self._views[name] = view
        return Reading(dict(sorted(self._views.items())), self._faults), is_new

    # --- asking

    def _is_busy(self) -> bool:
        return bool(self._asked or self._backlog)

    def _ask(self, request: _Request) -> None:
        if (model := self._models.get(request.model)) is not None:
            model.pending += 1
        self._backlog.append(request)
        self._send()

    def _send(self) -> None:
        client = self._client
        if self._asked > WINDOW // 2:  # many at once wake kazoo's thread less often
            return
        while client is not None and self._backlog and self._asked < WINDOW:
            request = self._backlog.popleft()
            self._asked += 1
            kind, path = request.kind, request.path
            if kind == "sync":
                result = client.sync_async(path)
            elif kind in ("models", "endpoints"):
                result = client.get_children_async(path, self._on_event)
            elif kind == "node":
                result = client.get_async(path, self._on_event)
            elif kind == "document":
                result = client.get_async(path)  # watched by the look that found it
            else:
                result = client.exists_async(path, self._on_event)
            result.rawlink(partial(self._on_reply, self._number, request))

    def _ask_again(self, path: str) -> None:
        """Ask for what an event was about."""
        if path == self._top:
            self._ask(_Request("models", path))
            return
        name, _, rest = path.removeprefix(f"{self._top}/").partition("/")
        model = self._models.get(name)
        kind, _, node = rest.partition("/")
        if model is None:
            return
        if kind == "release":
            self._ask(_Request("release", path, name))
        elif not node:
            self._ask(_Request("endpoints", path, name))
        elif node in model.nodes:
            self._ask(_Request("node", path, name, node))

    # --- in kazoo's threads

    def _on_event(self, event: WatchedEvent) -> None:
        if event.type != EventType.NONE:  # the connection's state, which the session tells
            self._post(partial(self._changed, event.path))

    def _on_reply(self, number: int, request: _Request, result: Any) -> None:
        self._post(partial(self._reply, number, request, result))

    # --- jobs

    def _changed(self, path: str) -> None:
        self._burst.add(path, time.monotonic())

    def _reply(self, number: int, request: _Request, result: Any) -> None:
        if number != self._number:  # of a connection that is gone
            return
        self._asked -= 1
        model = self._models.get(request.model)
        if model is not None:
            model.pending = max(0, model.pending - 1)
            self._stale.add(request.model)
        error = result.exception
        if error is None:
            self._take(request, model, result.value)
        elif isinstance(error, NoNodeError):
            self._take_absence(request, model)
        elif isinstance(error, NoAuthError):
            self._take_denial(request, model)
        elif isinstance(error, ConnectionLoss | SessionExpiredError | ConnectionClosedError | AuthFailedError):
            return  # the session tells of it, and then all this is abandoned
        else:
            self.failure = printable(f"{request.path} cannot be read: {type(error).__name__}: {error}")
        self._send()

    def _take(self, request: _Request, model: Model | None, value: Any) -> None:
        if request.kind == "models":
            self._take_models(value)
        elif request.kind == "absent":
            if value is not None:  # made between the two looks
                self._ask_again(request.path)
        elif model is None:  # gone meanwhile
            pass
        elif request.kind == "endpoints":
            model.listed(value)
            for name, node in model.nodes.items():
                if node.watched != self._number:
                    node.watched = self._number
                    self._ask(_Request("node", f"{request.path}/{name}", model.name, name))
        elif request.kind == "node":
            data, stat = value
            model.said(request.name, data, stat.czxid, stat.mzxid)
        elif request.kind == "document":
            data, stat = value
            model.released(data, stat.mzxid)
        elif value is None:
            model.unreleased()
        elif value.mzxid != model.release_modified:
            self._ask(_Request("document", request.path, model.name))

    def _take_models(self, names: list[str]) -> None:
        bad = sorted(name for name in names if not is_model(name))
        self._faults = tuple(
            Fault(printable(f"{MODELS}/{name}"), "it is skipped: no model has such a name") for name in bad
        )
        present = {name for name in names if is_model(name)}
        self._models = {name: model for name, model in self._models.items() if name in present}
        for name in sorted(present):
            model = self._models.setdefault(name, Model(name))
            if model.watched != self._number:
                model.watched = self._number
                self._stale.add(name)
                self._ask(_Request("endpoints", f"{self._top}/{name}/endpoints", name))
                self._ask(_Request("release", f"{self._top}/{name}/release", name))

    def _take_absence(self, request: _Request, model: Model | None) -> None:
        if request.kind == "models":
            self._take_models([])
            self._ask(request._replace(kind="absent"))
        elif model is None:
            return
        elif request.kind == "endpoints":
            model.listed([])
            self._ask(request._replace(kind="absent"))
        elif request.kind == "node":
            model.gone(request.name)
        elif request.kind == "document":
            model.unreleased()

    def _take_denial(self, request: _Request, model: Model | None) -> None:
        reason = "ZooKeeper's ACL does not let this login read it"
        if request.kind == "models":
            self.failure = f"{request.path}: {reason}: check username and password, or allow it"
            return
        if model is None:
            return
        if request.kind == "endpoints":
            model.fault = f"the endpoints cannot be listed, the last known ones stay: {reason}"
        elif request.kind == "node":
            model.denied(request.name, reason)
        else:
            model.release_denied(reason)
        if not self._denied:
            self._denied_at = time.monotonic() + DENIED_RETRY_S
        self._denied[request.path] = None
