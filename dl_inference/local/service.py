"""`dl-inference serve MODELS_DIR`: every model folder on this machine behind one port.

One thread, the one that calls `run`, does everything: it looks at the folders, steps the model processes, and gives the
data plane a whole new routing state when something took over. The data plane handles the requests, in threads of its
own. What took over, and what may go, is `models`' business.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from access import document, state
from access.callers.following import FollowedCallers
from access.config import effective
from access.config.sections import AccessConfig
from access.errors import AccessError, StartError
from access.following.watch import FolderWatcher
from access.plane import Control, DataPlane, Event, Events, ready
from dl_inference.local import try_samples
from dl_inference.local.announce import served
from dl_inference.local.folders import Change, ModelsDir
from dl_inference.local.launch import Launcher
from dl_inference.local.layout import FolderError
from dl_inference.local.leaving import Leaving, has_ended
from dl_inference.local.loads import Loads, Rules, Usage
from dl_inference.local.memory import Memory
from dl_inference.local.model_metrics import ModelMetrics
from dl_inference.local.models import Group, Model
from dl_inference.local.one_folder import OneFolder
from dl_inference.local.orders import Orders
from dl_inference.local.processes import ModelProcess, State
from dl_inference.local.routes import routing
from dl_inference.registry.announcing.registration import Announcement
from dl_inference.serving import audit

log = logging.getLogger("serve")

# Between two looks at the folders without any event, with one, and between two steps while something is under way.
LOOK_S = 0.5
SETTLE_LOOK_S = 0.1
BUSY_S = 0.05
SHOW_S = 1.0
OPEN_S = 60.0
"""The port opens when the models found at the start are warm or have failed, and after this time in any case."""
END_S = 8.0
"""How long a process may take to end beyond the time in which calls drain; a model's `finish` alone may take 5 s."""


class View(Protocol):
    """What shows the state to people, once a second."""

    def show(self, status: Mapping[str, Any]) -> None: ...  # noqa: D102


class LocalService:
    """Everything on one machine. Constructing starts nothing.

    Args:
        models: the folder of model folders; or the one to serve, where a failed start ends the service.
        config: the access service's settings, without routes.
        launcher: starts model processes.
        make: makes the data plane from the ProxyConfig document.
        announcement: says in a registry what is served.
        rules: what is loaded when.
        origin: where a value of the settings came from.
    """

    def __init__(  # noqa: PLR0913  (what it is put together from)
        self,
        models: Path | OneFolder,
        config: AccessConfig,
        launcher: Launcher,
        make: Callable[[str], DataPlane],
        announcement: Announcement,
        *,
        rules: Rules | None = None,
        origin: Callable[[document.Path], str] = lambda path: "default",
    ) -> None:
        self._config = config
        self._origin = origin
        self._sampled: dict[str, object] = {}
        self._launcher = launcher
        self._announcement = announcement
        self._must_serve = isinstance(models, OneFolder)
        self._folders = models if isinstance(models, OneFolder) else ModelsDir(models)
        self._models_dir = models.path if isinstance(models, OneFolder) else models
        self._models: dict[str, Model] = {}
        self._audit = audit.Audit(Path(config.audit_log) if config.audit_log is not None else None)
        self._unreadable = ""
        self._withdrawn: dict[str, float] = {}
        self._leaving = Leaving(config.drain_timeout_ms / 1000 + END_S)
        self._released: list[Group] = []
        self._metrics = ModelMetrics()
        self._orders = Orders(lambda: self.post(Event.CHANGED))
        rules = rules or Rules()
        self._budget = rules.memory_budget
        self._loads = Loads(rules, Memory(launcher.replicas), self._orders)
        self._events = Events()
        self._control = Control(make, log)
        self._callers: FollowedCallers | None = None
        self._watcher = FolderWatcher(lambda: self.post(Event.CHANGED), recursive=True)
        self._looked_at = self._shown_at = float("-inf")

    def post(self, event: Event) -> None:
        """Wake the service; any thread and any signal handler may call it."""
        self._events.post(event)

    def run(self, view: View | None = None) -> bool:
        """Serve until TERMINATE, drain, stop.

        Args:
            view: shows the state, if anybody wants to see it.

        Returns:
            Whether every call in flight ended within the drain time.

        Raises:
            StartError: an address cannot be bound, the data plane refused the first state, or the only folder there is
                cannot be served.
        """
        # A process that ended wants what a changed file wants: a look at everything.
        former = signal.signal(signal.SIGCHLD, lambda number, frame: self.post(Event.CHANGED))
        try:
            self._watcher.watch([self._models_dir / "any"])
            self._serve(view)
            return self._end()
        finally:
            self._watcher.stop()
            self._orders.stop()
            self._announcement.close()
            for process in self._processes():
                process.kill()
            self._launcher.end()
            self._control.stop()
            signal.signal(signal.SIGCHLD, former)

    # --- while serving

    def _serve(self, view: View | None) -> None:
        opens_at = time.monotonic() + OPEN_S
        event: Event | None = None
        while event is not Event.TERMINATE:
            look_s = SETTLE_LOOK_S if event is not None or self._folders.is_settling else LOOK_S
            if event is Event.RELOAD or time.monotonic() - self._looked_at >= look_s:
                self._look(force=event is Event.RELOAD)
            self._step()
            if self._control.is_started:
                if self._callers is not None:
                    self._callers.look(force=event is Event.RELOAD)
                self._apply()
            elif self._is_decided() or (time.monotonic() >= opens_at and not self._must_serve):
                self._open()
            self._leaving.step()
            if view is not None:
                self._show(view)
            event = self._events.next(BUSY_S if self._is_busy() else LOOK_S)

    def _is_decided(self) -> bool:
        return not self._folders.is_settling and all(model.is_decided for model in self._models.values())

    def _is_busy(self) -> bool:
        starting = any(replica.is_starting for group in self._groups() for replica in group.replicas)
        is_settling = self._folders.is_settling or (self._callers is not None and self._callers.is_settling())
        return starting or is_settling or bool(self._leaving.processes) or self._loads.is_busy

    def _look(self, *, force: bool = False, at: str | None = None) -> None:
        if at is None:
            self._looked_at = time.monotonic()
        try:
            changes = self._folders.look(force=force, at=at)
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
        outcome = "removed" if found is None else "refused" if isinstance(found, FolderError) else "found"
        place = self._models_dir if self._must_serve else self._models_dir / name
        self._audit.tell("model", outcome, who=audit.owner(place), origin=str(place), what=[f"model {name}", because])
        if found is None:
            log.info("%s: deleted", name)
            # Until then it is served on, for those that have not heard of its goodbye yet.
            self._withdrawn[name] = time.monotonic() + self._announcement.goodbye_s
        elif isinstance(found, FolderError):
            log.info("%s (%s): cannot be served", name, because)
            model.reject(found)
        else:
            versions = ", ".join(map(str, found.served))
            log.info("%s (%s): %s, version %s", name, because, found.kind, versions)
            if self._may_load:
                self._loads.meet(model, found, self._models.values())
            model.want(found, self._launcher.replicas, self._launcher.start, self._launcher.hands)

    def _step(self) -> None:
        for name in [name for name, gone_at in self._withdrawn.items() if time.monotonic() >= gone_at]:
            del self._withdrawn[name]
            self._models[name].drop()
        # What runs in an interpreter of its own needs no template of ours.
        kinds = {
            name: model.layout.kind
            for name, model in self._models.items()
            if model.layout is not None and model.layout.python is None
        }
        layouts = [model.layout for model in self._models.values() if model.layout is not None]
        self._launcher.wanted = sum(map(self._launcher.wanted_by, layouts))
        self._launcher.step({*kinds.values()}, self._processes())
        self._take_orders()
        for name, model in self._models.items():
            kind = kinds.get(name)
            model.step(lambda kind=kind: self._launcher.may_start(kind, self._processes()))  # type: ignore[misc]
        self._judge()
        for model in self._models.values():
            self._released += model.release()
        self._models = {
            name: model for name, model in self._models.items() if model.layout or model.problem or model.groups
        }
        self._withdrawn = {name: gone_at for name, gone_at in self._withdrawn.items() if name in self._models}

    def _take_orders(self) -> None:
        for order in self._orders.taken():
            if order.number:
                what = [f"model {order.model}", order.action]
                self._audit.tell("model", "ordered", who="a caller", origin="admin port or repository API", what=what)
            if order.action in ("load", "reload"):  # what was put there just now is meant
                self._look(at=order.model)
            self._loads.take(order, self._models)

    def _judge(self) -> None:
        usage: Usage = self._control.plane.usage() if self._control.is_started and self._may_load else ()
        ending = [process for group in self._released for each in group.replicas for process in each.processes]
        self._loads.step(self._models, usage, [*self._leaving.processes, *ending])

    @property
    def _may_load(self) -> bool:
        """Whether models may be loaded and unloaded: not the only one that there is to serve."""
        return not self._must_serve

    # --- the data plane

    def _open(self) -> None:
        reason = "\n".join(model.reason for model in self._models.values())
        if self._must_serve and reason:
            raise StartError(reason)
        addresses = self._control.start({**state.process(self._config), "owns_models": self._may_load})
        if self._may_load:
            self._orders.follow(self._control.plane)
        self._let_callers_in()
        self._announcement.open(addresses)
        self._control.show_document("/config", effective.page(self._config, self._origin))
        self._apply()
        log.info("%s", ready(addresses, self._config.admin))

    def _let_callers_in(self) -> None:
        """Say who may call, before the first state opens the doors."""
        if self._config.callers is None:
            return
        self._callers = FollowedCallers(
            Path(self._config.callers),
            self._control.let_in,
            self._control.count,
            lambda: self._config.instances,
            self._audit,
        )
        try:
            self._callers.start()
        except AccessError as error:
            raise StartError(str(error)) from error

    def _apply(self) -> None:
        routes = routing(self._config, self._models.values())
        self._control.warn(routes.warnings)
        is_applied = self._control.apply(routes.state)
        if is_applied and self._loads.is_busy:
            self._loads.settle(self._models, self._control.plane.usage())
        self._control.show(self._status())
        self._show_samples()
        self._control.show_metrics(self._metrics.text(self._models.values()))
        self._control.listen()
        if is_applied:
            if self._announcement.is_on:
                self._announcement.tell(served(self._models.values(), routes, self._withdrawn))
            self._dismiss()

    def _show_samples(self) -> None:
        """Show the samples of folders that are new or were changed, on the page where people try a call."""
        if not self._config.admin:
            return
        layouts = {name: model.layout for name, model in self._models.items() if model.layout is not None}
        for name in self._sampled.keys() - layouts.keys():
            del self._sampled[name]
            self._control.show_document(f"/samples/{name}", None)
        for name, layout in layouts.items():
            if self._sampled.get(name) is not layout:
                self._sampled[name] = layout
                self._control.show_document(f"/samples/{name}", try_samples.page(name, layout.path))

    def _dismiss(self) -> None:
        """End the processes that no route leads to any more; calls that are in them are answered."""
        gone = [process for group in self._released for replica in group.replicas for process in replica.processes]
        self._released = []
        for model in self._models.values():
            gone += model.retire()
        for process in gone:
            if process.state is State.STARTING:  # no call is in it
                process.kill()
            else:
                self._leaving.add(process)

    def _status(self) -> dict[str, Any]:
        """Return what /status shows under `control`."""
        return {
            **self._control.bound,
            "callers": self._callers and self._callers.status(),
            "folders": [{**each.status(), **self._loads.status(each)} for _, each in sorted(self._models.items())],
            "memory_budget": self._budget,
            "orders": self._orders.status(),
            "refused": self._control.refused,
            "refused_since_unix_s": self._control.refused_since,
            "warnings": [*([self._unreadable] if self._unreadable else []), *self._control.warnings],
        }

    def _show(self, view: View) -> None:
        if time.monotonic() - self._shown_at >= SHOW_S:
            self._shown_at = time.monotonic()
            view.show(self._control.status() if self._control.is_started else {"control": self._status()})

    # --- the end

    def _end(self) -> bool:
        """Drain: first the access service, whose calls the processes still answer, then the processes."""
        is_clean = True
        self._orders.stop()
        if self._control.is_started:
            if not self._say_goodbye():
                return False
            is_clean = self._control.drain(self._config.drain_timeout_ms, self._events)
        limit = time.monotonic() + END_S
        processes = self._processes()
        for process in processes:
            # No call is in one that still loads, and a framework's import may hear no signal for long.
            end = process.kill if process.state is State.STARTING else process.terminate
            end()
        while is_clean and time.monotonic() < limit and not all(map(has_ended, processes)):
            if self._control.stops_at_once(self._events, BUSY_S):
                return False
        for process in processes:
            if is_clean and not has_ended(process):  # every call has its answer: all of them went through here
                log.warning("%s: process %d did not end in %g s and is killed", process.label, process.pid, END_S)
        return is_clean

    def _say_goodbye(self) -> bool:
        """Serve on until everybody may have heard that this ends; False: a second signal does not wait for it."""
        if not self._announcement.say_goodbye():
            return True
        end = time.monotonic() + self._announcement.goodbye_s
        while time.monotonic() < end:
            self._step()
            self._apply()
            if self._control.stops_at_once(self._events, BUSY_S):
                return False
        return True

    def _groups(self) -> list[Group]:
        return [*self._released, *(group for model in self._models.values() for group in model.groups)]

    def _processes(self) -> list[ModelProcess]:
        replicas = (replica for group in self._groups() for replica in group.replicas)
        return [*self._leaving.processes, *(process for each in replicas for process in each.processes)]
