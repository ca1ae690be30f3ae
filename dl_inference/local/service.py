"""`dl-inference serve MODELS_DIR`: every model folder on this machine behind one port.

One thread, the one that calls `run`, does everything: it looks at the folders, steps the model processes, and gives the
data plane a whole new routing state when something took over. The data plane handles the requests, in threads of its
own. What took over, and what may go, is `models`' business.
"""

from __future__ import annotations

import json
import logging
import queue
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from access import state
from access.config.sections import AccessConfig
from access.errors import StartError
from access.following.watch import FolderWatcher
from access.service import DataPlane, Event, drain
from dl_inference._native import NativeError
from dl_inference.local.announce import served
from dl_inference.local.folders import Change, FolderError, ModelsDir
from dl_inference.local.launch import Launcher
from dl_inference.local.models import Group, Model
from dl_inference.local.processes import ModelProcess
from dl_inference.local.routes import routing
from dl_inference.registry.announcing.registration import Announcement

log = logging.getLogger("serve")

# Between two looks at the folders without any event, with one, and between two steps while something is under way.
LOOK_S = 0.5
SETTLE_LOOK_S = 0.1
BUSY_S = 0.05
SHOW_S = 1.0
OPEN_S = 60.0
"""The port opens when the models found at the start are warm or have failed, and after this time in any case."""
END_S = 5.0
"""How long a process may take to end beyond the time in which calls drain."""


class ShownDataPlane(DataPlane, Protocol):
    """A data plane that tells what it sees."""

    def status(self) -> str: ...  # noqa: D102


class View(Protocol):
    """What shows the state to people, once a second."""

    def show(self, status: Mapping[str, Any]) -> None: ...  # noqa: D102


class LocalService:
    """Everything on one machine. Constructing starts nothing.

    Args:
        models_dir: the folder of model folders.
        config: the access service's settings, without routes.
        launcher: starts model processes.
        make: makes the data plane from the ProxyConfig document.
        announcement: says in a registry what is served.
    """

    def __init__(
        self,
        models_dir: Path,
        config: AccessConfig,
        launcher: Launcher,
        make: Callable[[str], ShownDataPlane],
        *,
        announcement: Announcement,
    ) -> None:
        self._config = config
        self._launcher = launcher
        self._make = make
        self._announcement = announcement
        self._view: View | None = None
        self._folders = ModelsDir(models_dir)
        self._models_dir = models_dir
        self._models: dict[str, Model] = {}
        self._unreadable = ""
        self._withdrawn: dict[str, float] = {}
        self._leaving: list[tuple[ModelProcess, float]] = []
        self._released: list[Group] = []
        # SimpleQueue.put may be called from a signal handler that interrupted a get.
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._watcher = FolderWatcher(lambda: self.post(Event.CHANGED), recursive=True)
        self._plane: ShownDataPlane | None = None
        self._applied = ""
        self._control = ""
        self._refused = ""
        self._warnings: tuple[str, ...] = ()
        self._looked_at = self._shown_at = float("-inf")

    def post(self, event: Event) -> None:
        """Wake the service; any thread and any signal handler may call it."""
        self._events.put(event)

    def run(self, ready: Callable[[list[str]], None] = lambda addresses: None, *, view: View | None = None) -> bool:
        """Serve until TERMINATE, drain, stop.

        Args:
            ready: called once with the bound addresses.
            view: shows the state, if anybody wants to see it.

        Returns:
            Whether every call in flight ended within the drain time.

        Raises:
            StartError: an address cannot be bound.
        """
        self._view = view
        # A process that ended wants what a changed file wants: a look at everything.
        former = signal.signal(signal.SIGCHLD, lambda number, frame: self.post(Event.CHANGED))
        try:
            self._watcher.watch([self._models_dir / "any"])
            self._serve(ready)
            return self._end()
        finally:
            self._watcher.stop()
            self._announcement.close()
            for process in self._processes():
                process.kill()
            self._launcher.end()
            if self._plane is not None:
                self._plane.stop()
            signal.signal(signal.SIGCHLD, former)

    # --- while serving

    def _serve(self, ready: Callable[[list[str]], None]) -> None:
        opens_at = time.monotonic() + OPEN_S
        event: Event | None = None
        while event is not Event.TERMINATE:
            look_s = SETTLE_LOOK_S if event is not None or self._folders.is_settling else LOOK_S
            if event is Event.RELOAD or time.monotonic() - self._looked_at >= look_s:
                self._look(force=event is Event.RELOAD)
            self._step()
            if self._plane is None and (self._is_decided() or time.monotonic() >= opens_at):
                ready(self._open())
            if self._plane is not None:
                self._apply(self._plane)
            self._end_the_leaving()
            self._show()
            event = self._next_event(BUSY_S if self._is_busy() else LOOK_S)

    def _next_event(self, timeout_s: float) -> Event | None:
        """Return the most important event of a burst; None after `timeout_s` without any."""
        try:
            events = {self._events.get(timeout=timeout_s)}
        except queue.Empty:
            return None
        while not self._events.empty():
            events.add(self._events.get())
        return next(each for each in Event if each in events)

    def _is_decided(self) -> bool:
        return not self._folders.is_settling and all(model.is_decided for model in self._models.values())

    def _is_busy(self) -> bool:
        starting = any(replica.is_starting for group in self._groups() for replica in group.replicas)
        return starting or self._folders.is_settling or bool(self._leaving)

    def _look(self, *, force: bool) -> None:
        self._looked_at = time.monotonic()
        try:
            changes = self._folders.look(force=force)
        except OSError as error:
            text = f"{self._models_dir} cannot be read: {error.strerror}; what was found before stands"
            if text != self._unreadable:
                log.error("%s", text)
            self._unreadable = text
            return
        self._unreadable = ""
        for change in changes:
            self._take(change)

    def _take(self, change: Change) -> None:
        name, found, because = change
        model = self._models.setdefault(name, Model(name))
        self._withdrawn.pop(name, None)
        if found is None:
            log.info("%s: deleted", name)
            # Until then it is served on, for those that have not heard of its goodbye yet.
            self._withdrawn[name] = time.monotonic() + self._announcement.goodbye_s
        elif isinstance(found, FolderError):
            log.error("%s (%s): cannot be served:\n%s", name, because, found)
            model.reject(found)
        else:
            versions = ", ".join(map(str, found.served))
            log.info("%s (%s): %s, version %s", name, because, found.kind, versions)
            model.want(found, self._launcher.replicas, self._launcher.start)

    def _step(self) -> None:
        for name in [name for name, gone_at in self._withdrawn.items() if time.monotonic() >= gone_at]:
            del self._withdrawn[name]
            self._models[name].drop()
        kinds = {model.layout.kind for model in self._models.values() if model.layout is not None}
        self._launcher.step(kinds, self._processes())
        for model in self._models.values():
            kind = model.layout.kind if model.layout is not None else None
            model.step(lambda kind=kind: self._launcher.may_start(kind, self._processes()))  # type: ignore[misc]
            self._released += model.release()
        self._models = {
            name: model for name, model in self._models.items() if model.layout or model.problem or model.groups
        }
        self._withdrawn = {name: gone_at for name, gone_at in self._withdrawn.items() if name in self._models}

    # --- the data plane

    def _open(self) -> list[str]:
        try:
            plane = self._make(json.dumps(state.process(self._config)))
            addresses = plane.start()
        except NativeError as error:
            raise StartError(str(error)) from error
        self._plane = plane
        self._announcement.open(addresses)
        self._apply(plane)
        log.info("ready on %s", ", ".join(addresses))
        return addresses

    def _apply(self, plane: DataPlane) -> None:
        routes = routing(self._config, self._models.values())
        for warning in routes.warnings:
            if warning not in self._warnings:
                log.warning("%s", warning)
        self._warnings = routes.warnings
        document = json.dumps(routes.state)
        if document != self._applied:
            try:
                plane.apply(document)
            except NativeError as error:
                if str(error) != self._refused:
                    log.error("the data plane refused the new state, the old one stays: %s", error)
                self._refused = str(error)
            else:
                self._applied, self._refused = document, ""
                log.info("routing %d models to %d clusters", len(routes.state["models"]), len(routes.state["clusters"]))
        control = json.dumps(self._status())
        if control != self._control:
            plane.set_control_status(control)
            self._control = control
        if document == self._applied:
            if self._announcement.is_on:
                self._announcement.tell(served(self._models.values(), routes, self._withdrawn))
            self._dismiss()

    def _dismiss(self) -> None:
        """End the processes that no route leads to any more; calls that are in them are answered."""
        limit = time.monotonic() + self._config.drain_timeout_ms / 1000 + END_S
        for group in self._released:
            for replica in group.replicas:
                if replica.process is not None:
                    log.info("%s: process %d drains", replica.process.label, replica.process.pid)
                    replica.process.terminate()
                    self._leaving.append((replica.process, limit))
        self._released = []

    def _end_the_leaving(self) -> None:
        for process, limit in self._leaving:
            is_late = time.monotonic() >= limit
            if is_late:
                log.error("%s: process %d did not end in time and is killed", process.label, process.pid)
                process.kill()
        self._leaving = [each for each in self._leaving if not _has_ended(each[0])]

    def _status(self) -> dict[str, Any]:
        """Return what /status shows under `control`."""
        return {
            "folders": [model.status() for _, model in sorted(self._models.items())],
            "refused": self._refused or None,
            "warnings": [*([self._unreadable] if self._unreadable else []), *self._warnings],
        }

    def _show(self) -> None:
        if self._view is None or time.monotonic() - self._shown_at < SHOW_S:
            return
        self._shown_at = time.monotonic()
        self._view.show({"control": self._status()} if self._plane is None else json.loads(self._plane.status()))

    # --- the end

    def _end(self) -> bool:
        """Drain: first the access service, whose calls the processes still answer, then the processes."""
        if self._plane is not None and not self._say_goodbye(self._plane):
            return False
        is_clean = self._plane is None or drain(self._plane, self._config.drain_timeout_ms, self._events)
        limit = time.monotonic() + END_S
        processes = self._processes()
        for process in processes:
            process.terminate()
        while is_clean and time.monotonic() < limit and not all(map(_has_ended, processes)):
            if self._next_event(BUSY_S) is Event.TERMINATE:
                log.warning("second signal: stopping at once")
                return False
        return is_clean and all(map(_has_ended, processes))

    def _say_goodbye(self, plane: DataPlane) -> bool:
        """Serve on until everybody may have heard that this ends; False: a second signal does not wait for it."""
        if not self._announcement.say_goodbye():
            return True
        end = time.monotonic() + self._announcement.goodbye_s
        while time.monotonic() < end:
            self._step()
            self._apply(plane)
            if self._next_event(BUSY_S) is Event.TERMINATE:
                log.warning("second signal: stopping at once")
                return False
        return True

    def _groups(self) -> list[Group]:
        return [*self._released, *(group for model in self._models.values() for group in model.groups)]

    def _processes(self) -> list[ModelProcess]:
        replicas = (replica for group in self._groups() for replica in group.replicas)
        return [*(process for process, _ in self._leaving), *(each.process for each in replicas if each.process)]


def _has_ended(process: ModelProcess) -> bool:
    return process.step().value == "ended"
