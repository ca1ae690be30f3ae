"""A list of endpoints that turns empty at once is not believed at once.

A registry that lost its sessions, or a name server with a broken zone, tells the truth about itself and not about the
endpoints: they answer as before. So endpoints that vanish without a goodbye stay while fewer than half of their model's
are left, until the grace is over. Those that are really dead cost little: the data plane finds out by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from access.discovery.base import Entry, Snapshot
from access.fields import EndpointConfig
from dl_inference.problem import Problem


@dataclass(slots=True)
class _Known:
    """What was announced for one route key, and what has vanished within the grace: address -> (endpoint, when)."""

    entry: Entry
    vanished: dict[str, tuple[EndpointConfig, float]] = field(default_factory=dict)


class EmptyGrace:
    """Keeps what vanished, for one source.

    Args:
        name: the source's, for warnings.
        grace_s: how long; 0: everything is believed at once.
        now: seconds of a monotonic clock.
    """

    def __init__(self, name: str, grace_s: float, now: Callable[[], float]) -> None:
        self._name, self._grace_s, self._now = name, grace_s, now
        self._known: dict[str, _Known] = {}
        self._ends_at: float | None = None

    @property
    def is_over(self) -> bool:
        """Tell whether some endpoint's grace has ended since the last `hold`: hold the same snapshot again."""
        return self._ends_at is not None and self._now() >= self._ends_at

    def hold(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot, and in it those endpoints that are not believed to be gone."""
        if not self._grace_s:
            return snapshot
        now = self._now()
        entries: dict[str, Entry] = {}
        warnings = list(snapshot.warnings)
        # A key that has gone altogether is looked at as one whose list has turned empty.
        for key in dict.fromkeys([*snapshot.entries, *self._known]):
            entry = snapshot.entries.get(key)
            before = self._known.get(key) or _Known(Entry(()))
            seen = entry or replace(before.entry, endpoints=(), leaving=frozenset())
            known = _Known(seen, self._vanished(before, seen, now))
            held = _held(known)
            if held:
                warnings.append(
                    Problem(
                        f"{self._name} {key}",
                        f"{len(held)} of {len(held) + len(seen.endpoints)} endpoints disappeared without draining; "
                        f"they stay for {self._grace_s:g} s",
                        "empty_grace_ms says how long",
                    )
                )
                entries[key] = replace(seen, endpoints=(*seen.endpoints, *held))
            elif entry is not None:
                entries[key] = entry
            if entry is not None or known.vanished:
                self._known[key] = known
            else:
                self._known.pop(key, None)
        ends = [when + self._grace_s for known in self._known.values() for _, when in known.vanished.values()]
        self._ends_at = min(ends, default=None)
        return Snapshot(entries, tuple(warnings))

    def _vanished(self, before: _Known, seen: Entry, now: float) -> dict[str, tuple[EndpointConfig, float]]:
        present = {each.address for each in seen.endpoints}
        leaving = seen.leaving | before.entry.leaving
        vanished = dict(before.vanished)
        vanished.update((each.address, (each, now)) for each in before.entry.endpoints)
        return {
            address: (endpoint, when)
            for address, (endpoint, when) in vanished.items()
            if address not in present and address not in leaving and now < when + self._grace_s
        }


def _held(known: _Known) -> tuple[EndpointConfig, ...]:
    """Return what is held; the vanished are remembered in any case, so that a list that crumbles counts as well."""
    present, gone = len(known.entry.endpoints), len(known.vanished)
    return tuple(endpoint for endpoint, _ in known.vanished.values()) if 2 * present < present + gone else ()
