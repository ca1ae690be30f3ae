"""One discovery source as the access service follows it: read, believed with care, kept on disk.

resolver (what the source says) -> `Followed` (the last good of it) -> `EmptyGrace` (what of its losses is believed)
-> `SavedState`.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from access.discovery.base import Entry, LiveSourceConfig, Resolver, Snapshot, SourceConfig
from access.errors import AccessError
from access.following.empty_grace import EmptyGrace
from access.following.followed import Followed
from access.following.saved_state import SavedState, SavedStateError
from dl_inference.problem import Problem
from dl_inference.registry.schema import AccessDocument, ReleaseDocument

log = logging.getLogger("access")

SAVE_EVERY_S = 1.0
"""A burst of changes is written once."""


class FollowedSource:
    """One source. Constructing starts nothing.

    Args:
        resolver: reads it.
        config: its part of the configuration.
        state_dir: where its last good state is kept; None: nowhere.
        count: told of every reading that ended well or badly.
        now: seconds of a monotonic clock.
    """

    def __init__(
        self,
        resolver: Resolver,
        config: SourceConfig,
        state_dir: Path | None,
        *,
        count: Callable[[str, bool], None] = lambda name, ok: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        live = config if isinstance(config, LiveSourceConfig) else None
        self.name = resolver.name
        self._resolver = resolver
        self._wake: Callable[[], None] = lambda: None
        self._now = now
        self._fallback = live.fallback if live else {}
        self._followed: Followed[Snapshot] = Followed(resolver.name, resolver.read, resolver.watch_paths, count=count)
        self._empty_grace = EmptyGrace(resolver.name, live.empty_grace_ms / 1000 if live else 0, now)
        self._saved_state = SavedState(state_dir, resolver.name) if state_dir and live else None
        self._believed = Snapshot()
        self._origin = "source"
        self._is_unsaved = False
        self._saved_at = float("-inf")
        self._save_error = ""

    @property
    def value(self) -> Snapshot:
        """Return what is believed; there is something once `start` has returned."""
        return self._believed

    @property
    def paths(self) -> Sequence[Path]:
        """Return the files to watch."""
        return self._followed.paths

    def begin(self, wake: Callable[[], None] = lambda: None) -> None:
        """Begin to follow, without waiting.

        Args:
            wake: makes the owner call `look` soon; it is called in any thread.
        """
        self._wake = wake
        self._resolver.start(self._changed)

    def start(self) -> None:
        """Read for the first time; where that fails, take the saved state, else the fallback.

        Raises:
            AccessError: there is none of the three.
        """
        try:
            self._followed.start()
        except AccessError as error:
            known = self._saved() or self._given()
            if known is None:
                raise
            entries, self._origin, good_at = known
            self._followed.start_with(Snapshot(entries), good_at, str(error))
            log.error("%s: %s; going on with the %s state", self.name, error, self._origin)
        else:
            saved = self._saved()
            if saved is not None:  # what vanished since then has no more said goodbye than what vanishes later
                self._believed = self._empty_grace.hold(Snapshot(saved[0]))
        self._believe()

    def stop(self) -> None:
        """End following; what was believed last is saved."""
        self._resolver.stop()
        self._save(force=True)

    def is_settling(self) -> bool:
        """Tell whether a file's change was seen that may not be over yet: look again soon."""
        return self._followed.is_settling()

    def look(self, *, force: bool = False) -> bool:
        """Read again if there may be something new.

        Returns:
            Whether there is something new to believe.
        """
        if self._followed.look(force=force):
            self._origin = "source"
        elif not self._empty_grace.is_over:
            self._save()
            return False
        self._believe()
        return True

    def report(self, document: AccessDocument) -> None:
        """Tell the source what has been applied."""
        self._resolver.report(document)

    def release_history(self, models: Sequence[str], last: int) -> Mapping[str, Sequence[ReleaseDocument]] | None:
        """Return what the source keeps of releases: see `Resolver.release_history`."""
        return self._resolver.release_history(models, last)

    def status(self) -> dict[str, Any]:
        """Return what /status shows; times are UTC."""
        return {
            **self._followed.status(),
            "origin": self._origin,
            "skipped": len(self._believed.warnings),
            "save_error": self._save_error or None,
        }

    def _changed(self) -> None:
        self._followed.poke()
        self._wake()

    def _believe(self) -> None:
        self._believed = self._with_releases(self._empty_grace.hold(self._followed.value))
        if self._origin == "source":
            self._is_unsaved = True
            self._save()

    def _with_releases(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot; where a release cannot be used the one that held before stays, over a restart too."""
        entries, warnings = dict(snapshot.entries), list(snapshot.warnings)
        for key, entry in snapshot.entries.items():
            before = self._believed.entries.get(key)
            if entry.is_release_unknown and before is not None and before.release is not None:
                entries[key] = replace(entry, release=before.release)
                stays = f"its release cannot be used: revision {before.release.revision}, which was saved, stays"
                warnings.append(Problem(f"{self.name} {key}", stays, "correct the release document"))
        return Snapshot(entries, tuple(warnings))

    def _saved(self) -> tuple[dict[str, Entry], str, float] | None:
        try:
            saved = self._saved_state.load() if self._saved_state else None
        except SavedStateError as error:
            log.error("%s", error)
            return None
        return saved and (saved[0], "saved", saved[1])

    def _given(self) -> tuple[dict[str, Entry], str, float] | None:
        entries = {key: Entry(each.endpoints, each.timeout_ms) for key, each in self._fallback.items()}
        return (entries, "fallback", 0.0) if entries else None

    def _save(self, *, force: bool = False) -> None:
        if (
            self._saved_state is None
            or not self._is_unsaved
            or not (force or self._now() - self._saved_at >= SAVE_EVERY_S)
        ):
            return
        self._is_unsaved, self._saved_at = False, self._now()
        try:
            self._saved_state.save(self._believed.entries)
            self._save_error = ""
        except SavedStateError as error:
            if str(error) != self._save_error:
                log.error("%s", error)
            self._save_error = str(error)
