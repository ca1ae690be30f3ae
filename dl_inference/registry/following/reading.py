"""Reads a registry, and again what changes in it: after one-shot watches, and with a burst as one change.

All of it runs in one thread.
"""

import time
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    ConnectionClosedError,
    ConnectionLoss,
    NoAuthError,
    NoNodeError,
    SessionExpiredError,
)

from dl_inference.names import is_name
from dl_inference.registry.following.burst import Burst
from dl_inference.registry.following.pipeline import Job, Pipeline, Request
from dl_inference.registry.following.tree import Fault, Model, Reading, View, printable
from dl_inference.registry.schema import MODELS

# No watch tells of an ACL's change.
DENIED_RETRY_S = 10.0


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
        self._pipeline = Pipeline(post, self._replied, self._changed)
        self._is_loading = False
        self._models: dict[str, Model] = {}
        self._faults: tuple[Fault, ...] = ()
        self._views: dict[str, View] = {}
        self._stale: set[str] = set()
        self._burst = Burst()
        self._denied: dict[str, None] = {}
        self._denied_at = 0.0

    def begin(self, client: KazooClient) -> None:
        """Read everything, and watch all of it anew."""
        self.abandon()
        for model in self._models.values():
            model.unread()
        self._pipeline.begin(client)
        self._is_loading = True
        self._ask(Request("sync", self._top))  # another server of the ensemble may be behind the last one
        self._ask(Request("models", self._top))

    def abandon(self) -> None:
        """Forget what was asked, as the connection is gone with every watch; what is known stays."""
        self._pipeline.abandon()
        self.failure, self._is_loading = None, False
        self._burst.clear()
        self._denied.clear()
        for model in self._models.values():
            model.pending = 0

    def wait_s(self, now: float) -> float | None:
        """Return the time until `tick` has something to do; None: until a job brings something."""
        if not self._pipeline.is_open or self._is_loading:
            return None
        times = [self._burst.next_at(self._pipeline.is_busy), self._denied_at if self._denied else None]
        return min((max(0.0, each - now) for each in times if each is not None), default=None)

    def tick(self, now: float) -> bool:
        """Ask for what is due.

        Returns:
            Whether a burst of changes is over, or the whole has been read: `reading` gives something new.
        """
        if not self._pipeline.is_open or self.failure:
            return False
        if self._is_loading:
            self._is_loading = self._pipeline.is_busy
            return not self._is_loading
        if self._denied and now >= self._denied_at:
            for path in self._denied:
                self._burst.add(path, now)
            self._denied.clear()
        for path in self._burst.take(now):
            self._ask_again(path)
        return self._burst.ends(now, self._pipeline.is_busy)

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

    def _ask(self, request: Request) -> None:
        if (model := self._models.get(request.model)) is not None:
            model.pending += 1
        self._pipeline.ask(request)

    def _ask_again(self, path: str) -> None:
        """Ask for what an event was about."""
        if path == self._top:
            self._ask(Request("models", path))
            return
        name, _, rest = path.removeprefix(f"{self._top}/").partition("/")
        model = self._models.get(name)
        kind, _, node = rest.partition("/")
        if model is None:
            return
        if kind == "release":
            self._ask(Request("release", path, name))
        elif not node:
            self._ask(Request("endpoints", path, name))
        elif node in model.nodes:
            self._ask(Request("node", path, name, node))

    # --- what comes back

    def _changed(self, path: str) -> None:
        self._burst.add(path, time.monotonic())

    def _replied(self, request: Request, result: Any) -> None:
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
            self.abandon()  # so that nobody takes the half of it for the whole; the session tells of the loss
        else:
            self.failure = printable(f"{request.path} cannot be read: {type(error).__name__}: {error}")

    def _take(self, request: Request, model: Model | None, value: Any) -> None:
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
                if node.watched != self._pipeline.number:
                    node.watched = self._pipeline.number
                    self._ask(Request("node", f"{request.path}/{name}", model.name, name))
        elif request.kind == "node":
            data, stat = value
            model.said(request.name, data, stat.czxid, stat.mzxid)
        elif request.kind == "document":
            data, stat = value
            model.released(data, stat.mzxid)
        elif value is None:
            model.unreleased()
        elif value.mzxid != model.release_modified:
            self._ask(Request("document", request.path, model.name))

    def _take_models(self, names: list[str]) -> None:
        bad = sorted(name for name in names if not is_name(name))
        self._faults = tuple(
            Fault(printable(f"{MODELS}/{name}"), "it is skipped: no model has such a name") for name in bad
        )
        present = {name for name in names if is_name(name)}
        self._models = {name: model for name, model in self._models.items() if name in present}
        for name in sorted(present):
            model = self._models.setdefault(name, Model(name))
            if model.watched != self._pipeline.number:
                model.watched = self._pipeline.number
                self._stale.add(name)
                self._ask(Request("endpoints", f"{self._top}/{name}/endpoints", name))
                self._ask(Request("release", f"{self._top}/{name}/release", name))

    def _take_absence(self, request: Request, model: Model | None) -> None:
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

    def _take_denial(self, request: Request, model: Model | None) -> None:
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
