"""The access service's life: start -> ready -> drain -> stop, and in between discovery pumped into the data plane.

One thread, the one that calls `run`, does everything: it sleeps on a queue of events and looks after files now and
then. It handles no request: the data plane does, in threads of its own.
"""

import enum
import json
import logging
import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from access import state
from access.config.load import Loaded
from access.config.sections import START_ONLY
from access.discovery import RESOLVERS
from access.discovery.base import SourceConfig
from access.errors import AccessError, ConfigError, StartError
from access.following.followed import Followed
from access.following.source import Source
from access.following.watch import FolderWatcher
from access.own import OwnAddresses
from access.report import Report
from dl_inference._native import NativeError
from dl_inference.problem import Problem

log = logging.getLogger("access")

# How often files are looked at without any event, and again while one is being written.
LOOK_S = 1.0
SETTLE_S = 0.05
# How soon a second signal is seen.
DRAIN_SLICE_MS = 200


class DataPlane(Protocol):
    """What is needed of `dl_inference._native.Proxy`."""

    def start(self) -> list[str]: ...  # noqa: D102
    def apply(self, state_json: str) -> None: ...  # noqa: D102
    def set_control_status(self, status_json: str) -> None: ...  # noqa: D102
    def count_reload(self, source: str, ok: bool) -> None: ...  # noqa: D102
    def drain(self, timeout_ms: int) -> bool: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102


class Event(enum.Enum):
    """What wakes the service."""

    TERMINATE = "terminate"
    RELOAD = "reload"
    CHANGED = "a file or a source changed"


class AccessService:
    """One access service. Constructing starts nothing.

    Args:
        path: access.yaml.
        load: reads it: flags and environment included.
        make: makes the data plane from the ProxyConfig document.
        look_s: seconds between looks at the files when no event comes.
    """

    def __init__(
        self, path: Path, load: Callable[[], Loaded], make: Callable[[str], DataPlane], *, look_s: float = LOOK_S
    ) -> None:
        self._load = load
        self._make = make
        self._look_s = look_s
        # SimpleQueue.put may be called from a signal handler that interrupted a get; an Event's set may not.
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._watcher = FolderWatcher(lambda: self.post(Event.CHANGED))
        self._config: Followed[_Plan] = Followed(str(path), self._plan, self._config_paths, count=self._count)
        self._path = path
        self._pending: tuple[Path, ...] = ()
        self._sources: dict[str, Source] = {}
        self._own = OwnAddresses(())
        self._report = Report(())
        self._plane: DataPlane | None = None
        self._applied = ""
        self._refused: str | None = None
        self._needs_restart: list[str] = []
        self._warnings: tuple[Problem, ...] = ()

    def post(self, event: Event) -> None:
        """Wake the service; any thread and any signal handler may call it."""
        self._events.put(event)

    def run(self, ready: Callable[[list[str]], None] = lambda addresses: None) -> bool:
        """Start, serve until TERMINATE, drain, stop.

        Args:
            ready: called once with the bound addresses, when the first state is applied.

        Returns:
            Whether every call in flight ended within the drain time.

        Raises:
            ConfigError: the configuration, or a source that it names, cannot be used.
            StartError: an address cannot be bound, or the data plane refused the first state.
        """
        self._config.start()
        self._sources = self._config.value.sources
        plane: DataPlane | None = None
        try:
            config = self._config.value.loaded.config
            plane = self._plane = self._start(json.dumps(state.process(config)))
            addresses = self._start_serving(plane)
            ready(addresses)
            self._watcher.watch(self._files())
            self._serve()
            return self._drain(plane)
        finally:
            self._watcher.stop()
            if plane is not None:
                plane.stop()
            for source in self._sources.values():
                source.stop()

    def _start(self, document: str) -> DataPlane:
        try:
            return self._make(document)
        except NativeError as error:
            raise StartError(str(error)) from error

    def _start_serving(self, plane: DataPlane) -> list[str]:
        try:
            addresses = plane.start()
            self._own = OwnAddresses(addresses)
            self._report = Report(addresses[: len(self._config.value.loaded.config.listen)])  # the admin port is last
            self._apply(plane)
        except NativeError as error:
            raise StartError(str(error)) from error
        log.info("ready on %s", ", ".join(addresses))
        return addresses

    # --- while serving

    def _serve(self) -> None:
        while True:
            settling = any(each.is_settling() for each in self._followed())
            event = self._next_event(SETTLE_S if settling else self._look_s)
            if event is Event.TERMINATE:
                return
            if event is Event.RELOAD:
                log.info("reload asked for by a signal")
            self._look(force=event is Event.RELOAD)
            self._watcher.watch(self._files())

    def _next_event(self, timeout_s: float) -> Event | None:
        """Return the most important event of a burst; None after `timeout_s` without any."""
        try:
            events = {self._events.get(timeout=timeout_s)}
        except queue.Empty:
            return None
        while not self._events.empty():
            events.add(self._events.get())
        return next(each for each in Event if each in events)

    def _look(self, *, force: bool = False) -> None:
        before = self._status()
        changed = self._config.look(force=force)
        if changed:
            self._adopt()
        for source in self._sources.values():
            changed |= source.look(force=force)
        if changed and self._plane is not None:
            self._reapply(self._plane)
        if self._plane is not None and self._status() != before:
            self._plane.set_control_status(json.dumps(self._status()))

    def _adopt(self) -> None:
        """Take over the sources of a new configuration; those that it kept keep their last good state."""
        plan = self._config.value
        for key in self._sources.keys() - plan.sources.keys():
            self._sources[key].stop()
        self._sources = plan.sources
        config = plan.loaded.config
        changed = [key for key in START_ONLY if getattr(config, key) != getattr(plan.started, key)]
        if changed and changed != self._needs_restart:
            log.warning("%s changed: the old value stays until a restart", ", ".join(changed))
        self._needs_restart = changed
        log.info("%s: reloaded", self._config.name)

    def _reapply(self, plane: DataPlane) -> None:
        try:
            self._apply(plane)
            self._refused = None
        except NativeError as error:
            if str(error) != self._refused:
                log.error("the data plane refused the new state, the old one stays: %s", error)
            self._refused = str(error)
            self._count("state", False)

    def _apply(self, plane: DataPlane) -> None:
        snapshots = {key: source.value for key, source in self._sources.items()}
        routing = state.routing(self._config.value.loaded.config, snapshots, is_own=self._own.contains)
        document = json.dumps(routing.state)
        if document != self._applied:
            plane.apply(document)
            self._applied = document
            log.info("routing %d models to %d clusters", len(routing.state["models"]), len(routing.state["clusters"]))
        report = self._report.applied(snapshots.values())
        for source in self._sources.values():
            source.report(report)
        said = [each for source in self._sources.values() for each in source.value.warnings]
        warnings = tuple([*said, *routing.warnings])
        for warning in warnings:
            if warning not in self._warnings:
                log.warning("%s", warning)
        self._warnings = warnings
        plane.set_control_status(json.dumps(self._status()))

    # --- configuration and sources

    def _plan(self) -> "_Plan":
        """Read the configuration and every source that it adds; a source that cannot be read is an error in it."""
        self._pending = ()
        loaded = self._load()
        new = {
            key: self._source(config, loaded)
            for key, config in state.sources(loaded.config).items()
            if key not in self._sources
        }
        problems: list[Problem] = []
        for source in new.values():
            source.begin()
        for source in new.values():
            try:
                source.start()
            except AccessError as error:
                problems.append(Problem(source.name, str(error), "the configuration names it as a source"))
                self._pending = (*self._pending, *source.paths)
        if problems:
            for source in new.values():
                source.stop()
            raise ConfigError(problems)
        sources = {key: new.get(key) or self._sources[key] for key in state.sources(loaded.config)}
        started = loaded.config if self._plane is None else self._config.value.started
        return _Plan(loaded, started, sources)

    def _source(self, config: SourceConfig, loaded: Loaded) -> Source:
        folder = loaded.config.state_dir
        return Source(
            RESOLVERS[config.kind].resolver.create(config, loaded.folder),
            config,
            loaded.folder / folder if folder else None,
            count=self._count,
            wake=lambda: self.post(Event.CHANGED),
        )

    def _config_paths(self) -> tuple[Path, ...]:
        return (self._path, *self._pending)

    def _followed(self) -> Iterator[Followed[Any] | Source]:
        yield self._config
        yield from self._sources.values()

    def _files(self) -> list[Path]:
        return [path for each in self._followed() for path in each.paths]

    def _count(self, name: str, ok: bool) -> None:
        if self._plane is not None:
            self._plane.count_reload(name, ok)

    def _status(self) -> dict[str, Any]:
        """Return what /status shows under `control`."""
        return {
            "config": self._config.status(),
            "sources": [source.status() for source in self._sources.values()],
            "refused": self._refused,
            "needs_restart": self._needs_restart,
            "warnings": [str(warning) for warning in self._warnings],
        }

    # --- the end

    def _drain(self, plane: DataPlane) -> bool:
        """Let calls in flight end; a second TERMINATE does not wait for them."""
        return drain(plane, self._config.value.loaded.config.drain_timeout_ms, self._events)


def drain(plane: DataPlane, timeout_ms: int, events: "queue.SimpleQueue[Event]") -> bool:
    """Let calls in flight end, at most for `timeout_ms`; another TERMINATE does not wait for them.

    Returns:
        Whether every call ended.
    """
    log.info("draining for at most %d ms; another signal stops at once", timeout_ms)
    end = time.monotonic() + timeout_ms / 1000
    while True:
        # In slices, because a signal handler runs only while this thread is in Python code. One that ends before
        # its time has seen the last connection go; at its time, calls may still come on those that are open.
        begin = time.monotonic()
        slice_ms = max(1, min(DRAIN_SLICE_MS, round((end - begin) * 1000)))
        finished = plane.drain(slice_ms)
        now = time.monotonic()
        if now >= end or (finished and now - begin < slice_ms / 1000):
            log.info("stopping: %s", "every call has ended" if finished else "time is up, calls are cut off")
            return finished
        while not events.empty():
            if events.get() is Event.TERMINATE:
                log.warning("second signal: stopping at once")
                return False


class _Plan:
    """A configuration with the sources that it names, all of them readable when it was made."""

    def __init__(self, loaded: Loaded, started: Any, sources: dict[str, Source]) -> None:
        self.loaded = loaded
        self.started = started
        self.sources = sources


@contextmanager
def signals(post: Callable[[Event], None]) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into TERMINATE, SIGHUP into RELOAD; only the main thread may."""

    def handler(number: int, frame: FrameType | None) -> None:
        post(Event.RELOAD if number == signal.SIGHUP else Event.TERMINATE)

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
