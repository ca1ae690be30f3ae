"""Metrics of the models' own code, of all processes of `serve` together, for the access service's /metrics."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dl_inference.local.models import Model
from dl_inference.local.processes import last_metrics, metrics_file
from dl_inference.serving import own_metrics
from dl_inference.serving.own_metrics import Family

READ_S = 1.0
"""How often the processes' files are looked at."""
KEPT = 256
"""So many instances that are not served now are remembered: the versions of them may come back."""

log = logging.getLogger("serve")

_Stamp = tuple[int, int, int]


class _Key(NamedTuple):
    """The labels of an instance's series: the how manieth process of a version."""

    model: str
    version: str
    instance: str


@dataclass
class _Instance:
    """What the processes of one instance, one after the other, have counted."""

    current: Path | None = None
    """The file of the process that serves; None: there is none now."""
    found: dict[Path, tuple[_Stamp | None, list[Family]]] = field(default_factory=dict)
    """What it and those before it that still drain have written lately; oldest first."""
    ended: dict[str, Family] = field(default_factory=dict)
    """The sums of those that have ended, by name."""

    def families(self) -> list[Family]:
        """Return the sums of all, and the gauges of the one that serves."""
        sums = dict(self.ended)
        for _, families in self.found.values():
            own_metrics.add(sums, families)
        own = self.found.get(self.current, (None, []))[1] if self.current is not None else []
        return [*sums.values(), *(each for each in own if each.kind == "gauge")]


class ModelMetrics:
    """What the processes have written lately, as one text. Only the main thread uses it."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._instances: dict[_Key, _Instance] = {}
        self._shown: set[_Key] = set()
        self._text = ""
        self._problems: set[str] = set()

    def text(self, models: Iterable[Model]) -> str:
        """Return the metrics of the processes that serve, in Prometheus' text format; what changed within READ_S later.

        A series has the labels ``model``, ``version`` and ``instance``: the how manieth process of the version. A
        process that takes over from another one continues its series: sums go on from where they were.
        """
        if time.monotonic() - self._read_at < READ_S:
            return self._text
        self._read_at = time.monotonic()
        current = dict(_current(models))
        is_changed = self._shown != current.keys()
        for key, file in current.items():
            instance = self._instances.setdefault(key, _Instance())
            is_changed |= instance.current != file
            instance.current = file
            if file is not None:
                instance.found.setdefault(file, (None, []))
        for key, instance in self._instances.items():
            if key not in current:
                instance.current = None
            is_changed |= any([self._look(instance, file) for file in [*instance.found]])
        self._forget(current)
        if is_changed:
            self._shown = {*current}
            self._render([(key._asdict(), self._instances[key].families()) for key in current])
        return self._text

    def _look(self, instance: _Instance, file: Path) -> bool:
        """Read a file where it has changed; return whether it has."""
        stamp = instance.found[file][0]
        try:
            new = _stamp(file)
            if new != stamp:
                instance.found[file] = (new, own_metrics.read(file))
            return new != stamp
        except FileNotFoundError:  # the process has none yet, or has ended
            return file != instance.current and self._end(instance, file)
        except (OSError, ValueError) as error:
            self._tell_unread(file, error)
            return False

    def _end(self, instance: _Instance, file: Path) -> bool:
        """Add what a process has counted that has ended to the sums."""
        families = instance.found.pop(file)[1]
        last = last_metrics(file)
        try:
            families = own_metrics.read(last)
        except FileNotFoundError:  # it had none
            pass
        except (OSError, ValueError) as error:
            self._tell_unread(file, error)
        last.unlink(missing_ok=True)
        own_metrics.add(instance.ended, families)
        return True

    def _forget(self, current: dict[_Key, Path | None]) -> None:
        """Forget the instances that were served longest ago, beyond those that are remembered, and strays."""
        gone = [key for key, each in self._instances.items() if key not in current and not each.found]
        for key in gone[: max(0, len(gone) - KEPT)]:
            del self._instances[key]
        # Of processes that were ready, and never served.
        tracked = {last_metrics(file) for each in self._instances.values() for file in each.found}
        for folder in {file.parent for file in current.values() if file is not None}:
            for stray in {*folder.glob(last_metrics(Path("*.metrics")).name)} - tracked:
                stray.unlink(missing_ok=True)

    def _render(self, found: list[tuple[dict[str, str], list[Family]]]) -> None:
        families, problems = own_metrics.merged(found)
        self._text, left_out = own_metrics.render(families)
        self._tell({*problems, *(f"metrics {name} have no room in /metrics" for name in left_out)})

    def _tell_unread(self, file: Path, error: Exception) -> None:
        self._tell({f"metrics of {file.name} cannot be read: {type(error).__name__}: {str(error)[:300]}"})

    def _tell(self, problems: set[str]) -> None:
        for text in sorted(problems - self._problems):
            log.warning("%s", text)
        self._problems |= problems


def _stamp(file: Path) -> _Stamp:
    found = os.stat(file)
    return found.st_ino, found.st_mtime_ns, found.st_size


def _current(models: Iterable[Model]) -> Iterator[tuple[_Key, Path | None]]:
    for model in models:
        for version, group in model.serving().items():
            for index, replica in enumerate(group.replicas):
                file = metrics_file(replica.process.address) if replica.process is not None else None
                yield _Key(model.name, str(version), str(index)), file
