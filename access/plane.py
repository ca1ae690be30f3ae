"""What the control loops of `access` and `serve` share: what wakes them, and how each drives its one data plane.

The loops themselves, and what they look at, are `access.service` and `dl_inference.local.service`. Everything here but
`Events.post` belongs to the thread that runs the loop.
"""

import enum
import json
import logging
import os
import queue
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from access.errors import AccessError, StartError
from dl_inference._native import NativeError

# How soon a second signal is seen.
DRAIN_SLICE_MS = 200
# How often the data plane is asked what the log should say: endpoints that are down, callers of other protocols.
LISTEN_S = 0.5


class DataPlane(Protocol):
    """What is needed of `dl_inference._native.Proxy`, which documents it."""

    def start(self, inherited: Sequence[int] | None = None) -> list[str]: ...  # noqa: D102
    def descriptors(self) -> list[int]: ...  # noqa: D102
    def hand_over(self) -> None: ...  # noqa: D102
    def apply(self, state_json: str) -> None: ...  # noqa: D102
    def set_callers(self, callers_json: str) -> None: ...  # noqa: D102
    def set_control_status(self, status_json: str) -> None: ...  # noqa: D102
    def show_document(self, path: str, document: str | None = None) -> None: ...  # noqa: D102
    def show_metrics(self, text: str) -> None: ...  # noqa: D102
    def count_reload(self, source: str, ok: bool) -> None: ...  # noqa: D102
    def status(self) -> str: ...  # noqa: D102
    def notices(self) -> list[tuple[str, str]]: ...  # noqa: D102
    def next_order(self, limit_ms: int) -> tuple[int, str, str] | None: ...  # noqa: D102
    def answer_order(self, number: int, code: str, text: str) -> None: ...  # noqa: D102
    def wanted_limits(self, over_s: float, least: float) -> list[tuple[str, str, str, float]]: ...  # noqa: D102
    def share_limits(self, rest: float | None, parts: Sequence[tuple[str, str, str, float]]) -> None: ...  # noqa: D102
    def usage(self) -> list[tuple[str, float | None, int, bool]]: ...  # noqa: D102
    def drain(self, timeout_ms: int) -> bool: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102


class Event(enum.Enum):
    """What wakes a control loop, the most important first."""

    TERMINATE = "terminate"
    UPGRADE = "another process is to go on with the listening sockets"
    RELOAD = "reload"
    CHANGED = "something changed that is looked at"


class Events:
    """The events that a control loop has not seen yet."""

    def __init__(self) -> None:
        # SimpleQueue.put may be called from a signal handler that interrupted a get; an Event's set may not.
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def post(self, event: Event) -> None:
        """Wake the loop; any thread and any signal handler may call it."""
        self._queue.put(event)

    def next(self, timeout_s: float) -> Event | None:
        """Return the most important event of a burst; None after `timeout_s` without any."""
        try:
            events = {self._queue.get(timeout=timeout_s)}
        except queue.Empty:
            return None
        while not self._queue.empty():
            events.add(self._queue.get())
        return next(each for each in Event if each in events)


def ready(addresses: Sequence[str], admin: object) -> str:
    """Return what the log says of bound addresses, the admin port's last where there is one."""
    return f"ready on {', '.join(addresses)}{' (admin)' if admin else ''}"


class Control:
    """One data plane as its control loop drives it. Constructing starts nothing.

    Args:
        make: makes the data plane from the ProxyConfig document.
        log: of the program.

    Attributes:
        refused: what the data plane says of the state that should hold; None when that state holds.
        refused_since: since when it refuses, seconds since the epoch.
        warnings: those that hold now.
        bound: for /status, the addresses once they are bound: ``listen`` and ``admin``.
    """

    def __init__(self, make: Callable[[str], DataPlane], log: logging.Logger) -> None:
        self._make, self._log = make, log
        self._plane: DataPlane | None = None
        self._applied = ""
        self._shown = self._shown_metrics = ""
        self._listened_at = float("-inf")
        self.refused: str | None = None
        self.refused_since: float | None = None
        self.warnings: tuple[str, ...] = ()
        self.bound: dict[str, Any] = {}

    @property
    def is_started(self) -> bool:
        """Whether there is a data plane."""
        return self._plane is not None

    def start(self, process: Mapping[str, Any], inherited: Sequence[int] = ()) -> list[str]:
        """Make the data plane, bind and serve.

        Args:
            process: the ProxyConfig document.
            inherited: descriptors of listening sockets that need not be bound.

        Returns:
            The bound addresses, the admin port's last.

        Raises:
            StartError: the document is refused, or an address cannot be bound.
        """
        try:
            self._plane = self._make(json.dumps(process))
            addresses = self._plane.start(inherited)
        except NativeError as error:
            raise StartError(str(error)) from error
        count = len(process["listen"])
        self.bound = {"listen": addresses[:count], "admin": next(iter(addresses[count:]), None)}
        return addresses

    def apply(self, routing_state: Mapping[str, Any]) -> bool:
        """Put a whole routing state into force; what the data plane refuses is logged once.

        Args:
            routing_state: the StateConfig document; nothing happens when it holds already.

        Returns:
            Whether it holds; if not, the one before does.

        Raises:
            StartError: the first state is refused.
        """
        document = json.dumps(routing_state)
        if document != self._applied:
            try:
                self._started().apply(document)
            except NativeError as error:
                if not self._applied:
                    raise StartError(str(error)) from error
                if self.refused is None:
                    self.refused_since = round(time.time(), 3)
                if str(error) != self.refused:
                    self._log.error("the data plane refused the new state, the old one stays: %s", error)
                self.refused = str(error)
                return False
            self._applied = document
            models, clusters = len(routing_state["models"]), len(routing_state["clusters"])
            self._log.info("routing %d models to %d clusters", models, clusters)
        self.refused = self.refused_since = None
        return True

    def let_in(self, callers: str) -> None:
        """Let the callers of a CallersConfig document in, and nobody else.

        Raises:
            AccessError: the data plane refuses the document; those before stay.
        """
        try:
            self._started().set_callers(callers)
        except NativeError as error:
            raise AccessError(str(error)) from error

    def warn(self, warnings: Iterable[object]) -> None:
        """Take over the warnings that hold now; log those that are new."""
        texts = tuple(map(str, warnings))
        for text in texts:
            if text not in self.warnings:
                self._log.warning("%s", text)
        self.warnings = texts

    def listen(self) -> None:
        """Log what the data plane has noticed since the last time, at most once in `LISTEN_S`."""
        now = time.monotonic()
        if now - self._listened_at < LISTEN_S:
            return
        self._listened_at = now
        for level, text in self._started().notices():
            self._log.log(logging.getLevelNamesMapping()[level], "%s", text)

    def show(self, status: Mapping[str, Any]) -> None:
        """Put what /status shows under `control` into force, if it is new."""
        document = json.dumps(status)
        if document != self._shown:
            self._started().set_control_status(document)
            self._shown = document

    def show_document(self, path: str, document: Mapping[str, Any] | None) -> None:
        """Show a document at a path of the admin port; None takes it away."""
        self._started().show_document(path, None if document is None else json.dumps(document, default=str))

    def show_metrics(self, text: str) -> None:
        """Add metrics of models' own code, in Prometheus' text format, to /metrics, if they are new."""
        if text != self._shown_metrics:
            self._started().show_metrics(text)
            self._shown_metrics = text

    @property
    def plane(self) -> DataPlane:
        """Return the data plane; there is one once it was started."""
        return self._started()

    def count(self, name: str, ok: bool) -> None:
        """Count one reading of a file or a source; before the start nobody counts."""
        if self._plane is not None:
            self._plane.count_reload(name, ok)

    def status(self) -> dict[str, Any]:
        """Return what /status shows."""
        status: dict[str, Any] = json.loads(self._started().status())
        return status

    def descriptors(self) -> list[int]:
        """Return the descriptors of the listening sockets, for a process that is to inherit them."""
        return self._started().descriptors()

    def hand_over(self) -> None:
        """Accept no more: another process goes on with the sockets."""
        self._started().hand_over()

    def drain(self, timeout_ms: int, events: Events) -> bool:
        """Let calls in flight end, at most for `timeout_ms`; another TERMINATE does not wait for them.

        Returns:
            Whether every call ended.
        """
        self._log.info("draining for at most %d ms; another signal stops at once", timeout_ms)
        end = time.monotonic() + timeout_ms / 1000
        while True:
            # In slices, because a signal handler runs only while this thread is in Python code. One that ends before
            # its time has seen the last connection go; at its time, calls may still come on those that are open.
            begin = time.monotonic()
            slice_ms = max(1, min(DRAIN_SLICE_MS, round((end - begin) * 1000)))
            finished = self._started().drain(slice_ms)
            now = time.monotonic()
            if now >= end or (finished and now - begin < slice_ms / 1000):
                said = "every call has ended" if finished else "time is up, calls are cut off"
                self._log.info("stopping: %s", said)
                return finished
            if self.stops_at_once(events):
                return False

    def stops_at_once(self, events: Events, within_s: float = 0.0) -> bool:
        """Tell whether a TERMINATE comes within a time while the program ends already."""
        if events.next(within_s) is not Event.TERMINATE:
            return False
        self._log.warning("second signal: stopping at once")
        return True

    def stop(self) -> None:
        """Close everything, if there is anything."""
        if self._plane is not None:
            self._plane.stop()

    def _started(self) -> DataPlane:
        if self._plane is None:
            raise StartError("the data plane has not been started")
        return self._plane


@contextmanager
def signals(post: Callable[[Event], None], *, is_upgradable: bool = False) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into TERMINATE, SIGHUP into RELOAD, SIGUSR2 into UPGRADE; only the main thread may.

    A SIGHUP that says that the terminal of the output has been closed is a TERMINATE: nobody is left to stop it.
    """
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def handler(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR2:
            post(Event.UPGRADE)
            return
        is_reload = number == signal.SIGHUP and all(map(os.isatty, terminals))
        post(Event.RELOAD if is_reload else Event.TERMINATE)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *((signal.SIGUSR2,) if is_upgradable else ()))
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
