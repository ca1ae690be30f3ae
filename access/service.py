"""The access service's life: start -> ready -> drain -> stop, and in between discovery pumped into the data plane.

One thread, the one that calls `run`, does everything: it sleeps on a queue of events and looks after files now and
then. It handles no request: the data plane does, in threads of its own.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from access import state
from access.applied_revisions import AppliedRevisions
from access.audited import Audited
from access.callers.following import FollowedCallers
from access.config import effective
from access.config.load import Loaded
from access.config.sections import START_ONLY
from access.discovery import RESOLVERS
from access.discovery.base import SourceConfig
from access.errors import AccessError, ConfigError
from access.following.followed import Followed
from access.following.source import FollowedSource
from access.following.watch import FolderWatcher
from access.own_addresses import OwnAddresses
from access.plane import Control, DataPlane, Event, Events
from access.plane import ready as ready_line
from access.release_history import ReleaseHistory
from access.sharing.sharing import Sharing
from access.successor import Successor
from dl_inference.problem import Problem

log = logging.getLogger("access")

# How often files are looked at without any event, and again while one is being written.
LOOK_S = 1.0
SETTLE_S = 0.05

_START_REMEDY = (
    "correct the source; for a start while a DNS or ZooKeeper source is down, give it a `fallback`, or the service a"
    " `state_dir`"
)


class AccessService:
    """One access service. Constructing starts nothing.

    Args:
        path: access.yaml.
        load: reads it: flags and environment included.
        make: makes the data plane from the ProxyConfig document.
        look_s: seconds between looks at the files when no event comes.
        inherited: descriptors of listening sockets that need not be bound.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[], Loaded],
        make: Callable[[str], DataPlane],
        *,
        look_s: float = LOOK_S,
        inherited: Sequence[int] = (),
    ) -> None:
        self._load = load
        self._look_s = look_s
        self._inherited = inherited
        self._events = Events()
        self._control = Control(make, log)
        self._watcher = FolderWatcher(lambda: self.post(Event.CHANGED))
        self._config: Followed[_Plan] = Followed(str(path), self._plan, self._config_paths, count=self._control.count)
        self._path = path
        self._pending: tuple[Path, ...] = ()
        self._problems: Sequence[Problem] = ()
        self._sources: dict[str, FollowedSource] = {}
        self._callers: FollowedCallers | None = None
        self._sharing: Sharing | None = None
        self._own = OwnAddresses(())
        self._report = AppliedRevisions(())
        self._audited = Audited()
        self._history = ReleaseHistory(
            self._control.show_document, lambda: self.post(Event.CHANGED), followed=self._audited.released
        )
        self._needs_restart: list[str] = []
        self._restart_since: float | None = None
        self._successor: Successor | None = None
        self._upgrade: dict[str, Any] | None = None

    def post(self, event: Event) -> None:
        """Wake the service; any thread and any signal handler may call it."""
        self._events.post(event)

    def run(self, ready: Callable[[list[str]], None] = lambda addresses: None) -> bool:
        """Start, serve until TERMINATE or until another process goes on, drain, stop.

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
        try:
            ready(self._start())
            self._watcher.watch(self._files())
            self._serve()
            if self._sharing is not None:
                self._sharing.leave()
            return self._control.drain(self._config.value.loaded.config.drain_timeout_ms, self._events)
        finally:
            if self._successor is not None:
                self._successor.stop()
            self._watcher.stop()
            if self._sharing is not None:
                self._sharing.stop()
            self._control.stop()
            for source in self._sources.values():
                source.stop()

    def _start(self) -> list[str]:
        config = self._config.value.loaded.config
        addresses = self._control.start(state.process(config, self._path.parent), self._inherited)
        self._own = OwnAddresses(addresses)
        self._report = AppliedRevisions(addresses[: len(config.listen)])  # the admin port is last
        self._audited.started(self._config.value.loaded)
        self._let_callers_in()
        self._apply()
        self._share()
        self._control.show(self._status())
        self._show_config()
        log.info("%s", ready_line(addresses, config.admin))
        return addresses

    def _let_callers_in(self) -> None:
        """Say who may call, before the first state opens the doors."""
        loaded = self._config.value.loaded
        if loaded.config.callers is not None:
            path = loaded.folder / loaded.config.callers
            control, audit = self._control, self._audited.audit
            self._callers = FollowedCallers(path, control.let_in, control.count, self._instances, audit)
            self._callers.start()

    def _instances(self) -> int:
        return self._config.value.loaded.config.instances

    def _share(self) -> None:
        """Share limits as the configuration says, or no longer."""
        loaded = self._config.value.loaded
        given = loaded.config.shared_limits
        if given == (self._sharing and self._sharing.config):
            return
        if self._sharing is not None:
            self._sharing.stop()
            self._sharing = None
        if given is not None:
            self._sharing = Sharing(given, loaded.folder, self._control.plane, self._instances)
            self._sharing.start()

    # --- while serving

    def _serve(self) -> None:
        while True:
            settling = any(each.is_settling() for each in self._followed())
            event = self._events.next(SETTLE_S if settling else self._look_s)
            if event is Event.TERMINATE:
                return
            if event is Event.UPGRADE:
                self._begin_upgrade()
            if self._is_followed_up():
                return
            if event is Event.RELOAD:
                log.info("reload asked for by a signal")
            self._look(force=event is Event.RELOAD)
            self._watcher.watch(self._files())

    def _look(self, *, force: bool = False) -> None:
        changed = self._config.look(force=force)
        if changed:
            self._adopt()
        elif self._config.error is not None:
            self._audited.refused(self._config.value.loaded, self._config.error, self._problems)
        for source in self._sources.values():
            changed |= source.look(force=force)
        if changed:
            self._apply()
        if self._callers is not None:
            self._callers.look(force=force)
        self._share()
        if self._sharing is not None:
            self._sharing.look()
        self._history.look()
        self._control.show(self._status())
        self._control.listen()

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
        if not changed:
            self._restart_since = None
        elif not self._needs_restart:
            self._restart_since = round(time.time(), 3)
        self._needs_restart = changed
        self._show_config()
        self._audited.adopted(plan.loaded)
        log.info("%s: reloaded", self._config.name)

    def _show_config(self) -> None:
        loaded = self._config.value.loaded
        self._control.show_document("/config", effective.page(loaded.config, loaded.origin))

    def _apply(self) -> None:
        snapshots = {key: source.value for key, source in self._sources.items()}
        loaded = self._config.value.loaded
        routing = state.routing(loaded.config, snapshots, loaded.folder, is_own=self._own.contains)
        if not self._control.apply(routing.state):
            self._control.count("state", False)
            return
        self._history.applied(self._sources.values())
        report = self._report.applied(snapshots.values())
        for source in self._sources.values():
            source.report(report)
        said = [each for source in self._sources.values() for each in source.value.warnings]
        self._control.warn([*said, *routing.warnings])

    # --- another process that goes on

    def _begin_upgrade(self) -> None:
        if self._successor is not None:
            log.warning("an upgrade is under way: process %d starts", self._successor.pid)
            return
        limit_ms = self._config.value.loaded.config.upgrade_timeout_ms
        try:
            self._successor = Successor(self._control.descriptors(), limit_ms / 1000, lambda: self.post(Event.CHANGED))
        except OSError as error:
            self._refuse_upgrade(time.time(), f"no process could be started: {error}")
            return
        self._audited.upgraded("begun", f"process {self._successor.pid}")
        log.info("upgrade: process %d starts with the listening sockets of this one", self._successor.pid)
        self._upgrade = {
            "pid": self._successor.pid,
            "since_unix_s": self._successor.since_unix_s,
            "ended_unix_s": None,
            "error": None,
        }

    def _is_followed_up(self) -> bool:
        """Tell whether another process has gone on with the sockets; if it failed, go on here."""
        successor = self._successor
        if successor is None or successor.outcome is None:
            return False
        if successor.outcome:
            successor.stop()
            self._successor = None
            self._refuse_upgrade(successor.since_unix_s, f"process {successor.pid}: {successor.outcome}")
            return False
        log.info("upgrade: process %d serves", successor.pid)
        self._audited.upgraded("applied", f"process {successor.pid}")
        self._control.hand_over()
        return True

    def _refuse_upgrade(self, since_unix_s: float, why: str) -> None:
        log.error("the upgrade failed, this process goes on: %s", why)
        self._audited.upgraded("refused", why)
        self._upgrade = {"pid": None, "since_unix_s": since_unix_s, "ended_unix_s": time.time(), "error": why}

    # --- configuration and sources

    def _plan(self) -> "_Plan":
        """Read the configuration and every source that it adds; a source that cannot be read is an error in it."""
        self._pending, self._problems = (), ()
        try:
            loaded = self._load()
        except ConfigError as error:
            self._problems = error.problems
            raise
        new = {
            key: self._source(config, loaded)
            for key, config in state.sources(loaded.config).items()
            if key not in self._sources
        }
        problems: list[Problem] = []
        for source in new.values():
            source.begin(lambda: self.post(Event.CHANGED))
        for source in new.values():
            try:
                source.start()
            except AccessError as error:
                problems.append(Problem(source.name, str(error), _START_REMEDY))
                self._pending = (*self._pending, *source.paths)
        if problems:
            for source in new.values():
                source.stop()
            self._problems = problems
            raise ConfigError(problems)
        sources = {key: new.get(key) or self._sources[key] for key in state.sources(loaded.config)}
        started = loaded.config if not self._control.is_started else self._config.value.started
        return _Plan(loaded, started, sources)

    def _source(self, config: SourceConfig, loaded: Loaded) -> FollowedSource:
        folder = loaded.config.state_dir
        return FollowedSource(
            RESOLVERS[config.kind].resolver.create(config, loaded.folder),
            config,
            loaded.folder / folder if folder else None,
            count=self._control.count,
        )

    def _config_paths(self) -> tuple[Path, ...]:
        return (self._path, *self._pending)

    def _followed(self) -> Iterator[Followed[Any] | FollowedSource]:
        yield self._config
        if self._callers is not None:
            yield self._callers
        yield from self._sources.values()

    def _files(self) -> list[Path]:
        return [path for each in self._followed() for path in each.paths]

    def _status(self) -> dict[str, Any]:
        """Return what /status shows under `control`."""
        return {
            **self._control.bound,
            "pid": os.getpid(),
            "upgrade": self._upgrade,
            "config": self._config.status(),
            "callers": self._callers and self._callers.status(),
            "sources": [source.status() for source in self._sources.values()],
            "shared_limits": self._sharing and self._sharing.status(),
            "refused": self._control.refused,
            "refused_since_unix_s": self._control.refused_since,
            "needs_restart": self._needs_restart,
            "needs_restart_since_unix_s": self._restart_since,
            "warnings": [*self._control.warnings, *(self._sharing.warnings() if self._sharing else ())],
        }


class _Plan:
    """A configuration with the sources that it names, all of them readable when it was made."""

    def __init__(self, loaded: Loaded, started: Any, sources: dict[str, FollowedSource]) -> None:
        self.loaded = loaded
        self.started = started
        self.sources = sources
