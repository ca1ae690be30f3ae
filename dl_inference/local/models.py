"""What is served of one model folder: which versions by which processes, and what takes over from what.

A group is the processes of one version as its files were at one moment. Files that change make a new group; the old
one goes on until the new one is warm, and for good if that never happens. Here is decided which group serves and which
one may go; that the routes are changed in between is the caller's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dl_inference.local.hands import Hands
from dl_inference.local.layout import FolderError, Layout
from dl_inference.local.processes import ModelProcess
from dl_inference.local.replica import Replica

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
    """

    version: int
    key: str
    replicas: list[Replica]
    aliases: tuple[str, ...]
    hands: Hands | None = None
    is_adopted: bool = False
    may_start: bool = True

    @property
    def ready(self) -> int:
        """Return how many processes may be called."""
        return sum(replica.is_ready for replica in self.replicas)

    @property
    def has_failed(self) -> bool:
        """Whether a process has ended although nobody asked it to, and no other one came up since."""
        return any(replica.reason for replica in self.replicas)

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
        problem: why it cannot be served as it is now; empty when it can.
        groups: oldest first.
    """

    name: str
    layout: Layout | None = None
    problem: str = ""
    groups: list[Group] = field(default_factory=list)
    _default: Group | None = None

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
        self.layout, self.problem = layout, ""
        for group in self.groups:
            group.may_start = layout.keys.get(group.version) == group.key
        for version in layout.served:
            key = layout.keys[version]
            if not any((group.version, group.key) == (version, key) for group in self.groups):
                replicas_of = _replicas(layout, version, layout.instances or replicas, start)
                path = hands(layout, version)
                written = Hands(path, f"{layout.name}@{version}") if path is not None else None
                self.groups.append(Group(version, key, replicas_of, layout.aliases, written))
        for group in self.groups:
            for replica in group.replicas:
                replica.retry_now()

    def reject(self, error: FolderError) -> None:
        """The folder cannot be served as it is now: what runs goes on, but is not started again from other files."""
        self.problem = str(error)
        for group in self.groups:
            group.may_start = False

    def drop(self) -> None:
        """The folder is gone."""
        self.layout, self.problem, self._default = None, "", None

    def step(self, may_start: Callable[[], bool]) -> None:
        """Look at every process; start those that are due, and let groups take over that are warm."""
        for index in range(max((len(group.replicas) for group in self.groups), default=0)):
            for group in self.groups:
                for replica in group.replicas[index : index + 1]:  # not all have as many
                    # One at a time: it takes the memory of one more, and processes that are of one age end apart.
                    alone = not any(each.successor for each in group.replicas)
                    replica.step(may_start=group.may_start and may_start(), may_replace=alone)
        for group in self.groups:
            if not group.is_adopted and self._is_wanted(group):
                # All of them, so that a swap loses no capacity; the first one, where nobody answers otherwise.
                enough = len(group.replicas) if any(each.ready for each in self._adopted()) else 1
                if group.ready >= enough:
                    group.is_adopted = True
                    log.info("%s: version %d serves", self.name, group.version)
        self._default = self._choose_default()

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
    def reason(self) -> str:
        """Return why the folder is not served as it is now; empty when it is, or is just loading."""
        if self.problem:
            return self.problem
        failed = {
            replica.reason: group.version for group in self.groups for replica in group.replicas if replica.reason
        }
        return "\n".join(f"version {version}: {reason}" for reason, version in failed.items())

    def status(self) -> dict[str, Any]:
        """Return what /status shows."""
        is_loading = any(self._is_wanted(group) and not group.is_adopted for group in self.groups)
        serves = any(group.ready for group in self._adopted())
        state = "serving" if serves else "failed" if self.reason else "loading"
        if serves and (self.problem or is_loading):
            state = "serving the former" if self.reason else "replacing"
        return {
            "name": self.name,
            "kind": self.layout.kind if self.layout else None,
            "state": state,
            "reason": self.reason,
            "versions": [
                {
                    "version": group.version,
                    "serves": group.is_adopted,
                    "ready": group.ready,
                    "replicas": len(group.replicas),
                    "healthy": sum(replica.is_healthy for replica in group.replicas),
                    "restarts": sum(replica.restarts for replica in group.replicas),
                    "suspects": group.suspects,
                    "last_reason": max(group.replicas, key=lambda each: each.last_at).last_reason,
                    "pids": [replica.process.pid for replica in group.replicas if replica.process],
                }
                for group in self.groups
            ],
        }

    def _adopted(self) -> list[Group]:
        return [group for group in self.groups if group.is_adopted]

    def _is_wanted(self, group: Group) -> bool:
        layout = self.layout
        return layout is not None and group.version in layout.served and layout.keys[group.version] == group.key

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
        if self.layout is None:
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
