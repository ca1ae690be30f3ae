"""What is served of one model folder: which versions by which processes, and what takes over from what.

A group is the processes of one version as its files were at one moment. Files that change make a new group; the old
one goes on until the new one is warm, and for good if that never happens. Here is decided which group serves and which
one may go; that the routes are changed in between is the caller's business.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dl_inference.local.hands import Hands
from dl_inference.local.layout import FolderError, Layout
from dl_inference.local.processes import ModelProcess
from dl_inference.local.quarantine import Quarantine, words
from dl_inference.local.replica import Replica
from dl_inference.local.trial import quarantine, refusal
from dl_inference.local.wanted import Wanted

log = logging.getLogger("serve")

Start = Callable[[Layout, int, int], ModelProcess]
"""Start a process: of which folder, which version, the how manieth replica of it."""

WrittenIn = Callable[[Layout, int], Path | None]
"""The file in which the processes of a version say which calls they have, if they do."""


@dataclass(eq=False)
class Group:
    """The processes of one version of a model, made from the same files.

    Attributes:
        version: the number.
        key: what they are made from (`Layout.keys`).
        replicas: the processes.
        aliases: further names of the model that they answer to.
        hands: which requests processes died with; None: nobody writes that down.
        is_adopted: calls go here, or have gone.
        may_start: the files are still those that it is made from, so that a process that ended may be started again.
        is_fallback: it stands in for a default that has never served.
        quarantine: why it is kept from calls, while it has not taken over.
    """

    version: int
    key: str
    replicas: list[Replica]
    aliases: tuple[str, ...]
    hands: Hands | None = None
    is_adopted: bool = False
    may_start: bool = True
    is_fallback: bool = False
    quarantine: Quarantine | None = None

    @property
    def ready(self) -> int:
        """Return how many processes may be called."""
        return sum(replica.is_ready for replica in self.replicas)

    @property
    def has_failed(self) -> bool:
        """Whether a process has ended although nobody asked it to, and no other one came up since; or cannot start."""
        return self.quarantine is not None or any(replica.reason for replica in self.replicas)

    @property
    def state(self) -> str:
        """Return where it stands: loading, quarantined, serving."""
        if self.is_adopted:
            return "serving"
        return "loading" if self.quarantine is None else "quarantined"

    @property
    def is_coming_back(self) -> bool:
        """Whether a call may wait for a process: one that died was ready before, and nothing is known to keep it down.

        Only where a request that kills processes is found: else it would go round all of them.
        """
        is_found = self.hands is not None and self.hands.is_kept
        return is_found and any(replica.is_ready or replica.was_ready for replica in self.replicas)

    @property
    def suspects(self) -> list[dict[str, Any]]:
        """Return the requests that are suspected or refused now; there are none before a process has died."""
        has_died = any(replica.restarts for replica in self.replicas)
        return self.hands.look() if self.hands is not None and has_died else []

    @property
    def last_reason(self) -> str:
        """Return why a process ended or was replaced last; empty when none ever was."""
        return max(((each.last_at, each.last_reason) for each in self.replicas), default=(0.0, ""))[1]

    @property
    def addresses(self) -> list[str]:
        """Return where calls may go: for each replica where it is, or was last; not to one that hangs, if others do."""
        known = [replica for replica in self.replicas if replica.address is not None]
        sound = [each for each in known if each.process is None or not each.process.sickness]
        has_healthy = any(each.is_healthy for each in sound)
        return [each.address for each in (sound if has_healthy else known) if each.address is not None]


@dataclass(eq=False)
class Model:
    """One model folder.

    Attributes:
        name: the folder's.
        layout: what it asked for when it could last be served; None: it never could, or it is gone.
        problem: why nothing of it can be served as it is now; None when something can.
        groups: oldest first.
        wanted: whether it is to be loaded.
    """

    name: str
    layout: Layout | None = None
    problem: Quarantine | None = None
    groups: list[Group] = field(default_factory=list)
    wanted: Wanted = field(default_factory=Wanted)
    _default: Group | None = None
    _make: Callable[[int], list[Replica]] = field(default=lambda version: [])
    _hands: WrittenIn = field(default=lambda layout, version: None)
    _again: Callable[[], None] = field(default=lambda: None)

    def want(
        self, layout: Layout, replicas: int, start: Start, hands: WrittenIn = lambda layout, version: None
    ) -> None:
        """Take what the folder asks for now; processes that it needs no other files for stay.

        Args:
            layout: what it asks for.
            replicas: processes of each version, where the folder does not say.
            start: starts one.
            hands: where the processes of a version say which calls they have.
        """
        self._again = lambda: self.want(given, replicas, start, hands)
        given, layout = layout, replace(layout, keys=self.wanted.keys(layout.keys))
        self.layout, self.problem = layout, None
        self._make = lambda version: _replicas(layout, version, layout.instances or replicas, start)
        self._hands = hands
        for group in self.groups:
            group.may_start = layout.keys.get(group.version) == group.key
        for version in layout.served if self.wanted.is_loaded else ():
            self._add(layout, version)
        for group in self.groups:
            for replica in group.replicas:
                replica.retry_now()

    def reject(self, error: FolderError) -> None:
        """The folder cannot be served as it is now: what runs goes on, but is not started again from other files."""
        since = self.problem.since_unix_s if self.problem is not None else time.time()
        self.problem = Quarantine(None, "find", error.reason, error.remedy, since)
        log.error("%s: %s", self.name, self.problem.line)
        for group in self.groups:
            group.may_start = False

    def load(self) -> None:
        """Start what the folder asks for, which was unloaded."""
        self.wanted.load()
        self._again()

    def unload(self, because: str) -> None:
        """Let every process go; the folder stays known."""
        self.wanted.unload(because)

    def renew(self) -> None:
        """Load everything anew beside what serves, and also what has failed."""
        self.wanted.generation += 1
        self._again()

    def drop(self) -> None:
        """The folder is gone."""
        self.layout, self.problem, self._default = None, None, None

    def step(self, may_start: Callable[[], bool]) -> None:
        """Look at every process; start those that are due, and let groups take over that are warm."""
        for index in range(max((len(group.replicas) for group in self.groups), default=0)):
            for group in self.groups:
                for replica in group.replicas[index : index + 1]:  # not all have as many
                    # One at a time: it takes the memory of one more, and processes that are of one age end apart.
                    alone = not any(each.successor for each in group.replicas)
                    replica.step(may_start=group.may_start and may_start(), may_replace=alone)
        for group in self.groups:
            if not group.is_adopted and self._is_wanted(group) and group.replicas:
                self._try(group)
        self._default = self._choose_default()
        self._fall_back()

    def retire(self) -> list[ModelProcess]:
        """Take away and return the processes whose place another one has taken."""
        retired = []
        for group in self.groups:
            for replica in group.replicas:
                retired += replica.retired
                replica.retired = []
        return retired

    def release(self) -> list[Group]:
        """Take away and return the groups that nothing needs any more."""
        leaving = [group for group in self.groups if self._may_leave(group)]
        self.groups = [group for group in self.groups if group not in leaving]
        return leaving

    def serving(self) -> dict[int, Group]:
        """Return the group that serves each version; of two the newer one."""
        return {group.version: group for group in self._adopted()}

    @property
    def default(self) -> Group | None:
        """Return the group of calls that ask for no version."""
        return self._default

    @property
    def is_decided(self) -> bool:
        """Whether all processes that the folder asks for are ready, or one of their version has failed."""
        wanted = [group for group in self.groups if self._is_wanted(group)]
        return all(group.ready == len(group.replicas) or group.has_failed for group in wanted)

    @property
    def is_ready(self) -> bool:
        """Whether it is to be loaded, and answers."""
        return self.wanted.is_loaded and any(group.ready for group in self._adopted())

    @property
    def is_settled(self) -> bool:
        """Whether everything that the folder asks for serves."""
        wanted = [group for group in self.groups if self._is_wanted(group)]
        return bool(wanted) and all(group.is_adopted for group in wanted)

    @property
    def failure(self) -> str:
        """Return why something that the folder asks for is kept from calls; empty where nothing is."""
        failed = [group.quarantine for group in self.groups if group.quarantine and self._is_wanted(group)]
        return "\n".join(each.line for each in ([self.problem] if self.problem else []) + failed)

    @property
    def reason(self) -> str:
        """Return why the folder is not served as it is now; empty when it is, or is just loading."""
        if self.problem:
            return self.problem.text
        failed = {group.quarantine.text: group.version for group in self.groups if group.quarantine}
        failed |= {
            replica.reason: group.version for group in self._adopted() for replica in group.replicas if replica.reason
        }
        return "\n".join(f"version {version}: {reason}" for reason, version in failed.items())

    @property
    def quarantined(self) -> list[Quarantine]:
        """Return what is kept from calls, and why."""
        found = [group.quarantine for group in self.groups if group.quarantine is not None]
        return [*([self.problem] if self.problem is not None else []), *found]

    def status(self) -> dict[str, Any]:
        """Return what /status shows."""
        is_loading = any(self._is_wanted(group) and not group.is_adopted for group in self.groups)
        serves = any(group.ready for group in self._adopted())
        state = "serving" if serves else "failed" if self.reason else "loading"
        if not self.wanted.is_loaded and not self.reason:
            state = "unloaded"
        elif serves and (self.problem or is_loading):
            state = "serving the former" if self.reason else "replacing"
        return {
            "name": self.name,
            "kind": self.layout.kind if self.layout else None,
            "state": state,
            "reason": self.reason,
            "served": [*self.layout.served] if self.layout else [],
            "quarantined": [each.status() for each in self.quarantined],
            "versions": [
                {
                    "version": group.version,
                    "state": group.state,
                    "serves": group.is_adopted,
                    "ready": group.ready,
                    "replicas": len(group.replicas),
                    "healthy": sum(replica.is_healthy for replica in group.replicas),
                    "restarts": sum(replica.restarts for replica in group.replicas),
                    "suspects": group.suspects,
                    "last_reason": group.last_reason,
                    "pids": [replica.process.pid for replica in group.replicas if replica.process],
                }
                for group in self.groups
            ],
        }

    def _adopted(self) -> list[Group]:
        return [group for group in self.groups if group.is_adopted]

    def _add(self, layout: Layout, version: int, *, is_fallback: bool = False) -> None:
        """Make a version's group, if there is none of its files; of one that cannot be started, without processes."""
        key = layout.keys[version]
        if any((group.version, group.key) == (version, key) for group in self.groups):
            return
        problems = layout.faults.get(version, ())
        path = None if problems else self._hands(layout, version)
        hands = Hands(path, f"{layout.name}@{version}") if path is not None else None
        replicas = [] if problems else self._make(version)
        group = Group(version, key, replicas, layout.aliases, hands, is_fallback=is_fallback)
        if problems:
            self._keep_out(group, Quarantine(version, "find", *words(problems), time.time()))
        self.groups.append(group)

    def _try(self, group: Group) -> None:
        """Let a group take over whose processes are warm; keep one from calls that fails or may not."""
        # All of them, so that a swap loses no capacity; the first one, where nobody answers otherwise.
        enough = len(group.replicas) if any(each.ready for each in self._adopted()) else 1
        if group.ready >= enough:
            live = self.serving().get(group.version) or self._live_default(group)
            may_change = self.layout is not None and self.layout.allow_signature_change
            refused = refusal(live.replicas if live is not None else [], group.replicas, allow_change=may_change)
            if refused is None:
                group.is_adopted, group.quarantine = True, None
                log.info("%s: version %d serves", self.name, group.version)
                return
            for replica in group.replicas:
                replica.refuse(refused)
        self._keep_out(group, quarantine(group.version, group.replicas, group.quarantine))

    def _keep_out(self, group: Group, why: Quarantine | None) -> None:
        if why is not None and why != group.quarantine:
            log.error("%s: %s", self.name, why.line)
        group.quarantine = why

    def _live_default(self, group: Group) -> Group | None:
        """Return the group whose calls a new version would get."""
        is_next = self.layout is not None and group.version == self.layout.default
        return self._default if is_next and self._default is not group else None

    def _fall_back(self) -> None:
        """Where the default has failed and nothing serves, try the latest of the lower versions that has not."""
        layout = self.layout
        if layout is None or not layout.has_fallback or self._adopted() or not self.wanted.is_loaded:
            return
        if all(group.has_failed for group in self.groups if self._is_wanted(group)):
            tried = {group.version for group in self.groups if layout.keys.get(group.version) == group.key}
            left = [version for version in layout.keys if version < layout.default and version not in tried]
            if left:
                log.warning("%s: version %d is tried in its place", self.name, max(left))
                self._add(layout, max(left), is_fallback=True)

    def _is_wanted(self, group: Group) -> bool:
        layout = self.layout
        if layout is None or not self.wanted.is_loaded or layout.keys.get(group.version) != group.key:
            return False
        return group.version in layout.served or (group.is_fallback and not self._has_default)

    @property
    def _has_default(self) -> bool:
        """Whether the version serves that is wanted as the default."""
        layout = self.layout
        return layout is not None and any(
            (group.version, group.key) == (layout.default, layout.keys[layout.default]) for group in self._adopted()
        )

    def _wanted(self, version: int) -> Group | None:
        return next((group for group in self.groups if group.version == version and self._is_wanted(group)), None)

    def _choose_default(self) -> Group | None:
        """Return the wanted default; the one that was, or the highest that serves, where that one does not yet."""
        if self.layout is None:
            return None
        wanted = self._wanted(self.layout.default)
        if wanted is not None and wanted.is_adopted:
            return wanted
        if self._default in self.groups:
            # Its own successor may serve already, under the same number.
            return self.serving()[self._default.version]
        serving = self.serving()
        return serving[max(serving)] if serving and wanted is not None and wanted.has_failed else None

    def _may_leave(self, group: Group) -> bool:
        if self.layout is None or not self.wanted.is_loaded:
            return True
        if self._is_wanted(group):
            return False
        if not group.is_adopted:
            return True
        is_asked_for = group.version in self.layout.served
        successor = self._wanted(group.version if is_asked_for else self.layout.default)
        return successor is not None and successor.is_adopted


def _replicas(layout: Layout, version: int, count: int, start: Start) -> list[Replica]:
    def starter(index: int) -> Callable[[], ModelProcess]:
        return lambda: start(layout, version, index)

    return [Replica(f"{layout.name}@{version}/{index}", starter(index), layout.upkeep) for index in range(count)]
