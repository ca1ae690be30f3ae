"""How much memory models take, and how much one is going to take."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from dl_inference.local.layout import Layout
from dl_inference.local.models import Model
from dl_inference.local.processes import ModelProcess
from dl_inference.local.upkeep import memory_of

LOOK_S = 2.0
PROCESS_BYTES = 448 * 2**20
"""What a process takes beside its model, where none of this model was measured: torch, as a small model shows."""
FILE_FACTOR = 2
"""The weights in memory, and what the model needs to work."""


class Memory:
    """What each model takes, as it was measured last. Only the main thread uses it.

    Args:
        replicas: processes of each version, where the folder does not say.
    """

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas
        self._looked_at = float("-inf")
        self._now: dict[str, int] = {}
        self._last: dict[str, tuple[Layout | None, int]] = {}

    def look(self, models: Iterable[Model], *, at_once: bool = False) -> None:
        """Measure the models, at most every LOOK_S."""
        now = time.monotonic()
        if not at_once and now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        self._now = {model.name: sum(map(_of_process, _processes(model))) for model in models}
        for model in models:
            if model.is_ready:
                self._last[model.name] = (model.layout, self._now[model.name])

    def of(self, model: Model) -> int:
        """Return what a model takes now, bytes."""
        return self._now.get(model.name, 0)

    def used(self, models: Iterable[Model], others: Iterable[ModelProcess]) -> int:
        """Return what all of them take, bytes; of one that loads at least what it is going to take.

        Args:
            models: all.
            others: processes that are no model's any more, and have not ended.
        """
        return sum(map(self._claimed, models)) + sum(map(_of_process, others))

    def estimate(self, model: Model) -> int:
        """Return what a model is going to take: what it took when it was loaded last, else by the size of its files."""
        layout = model.layout
        if layout is None:
            return 0
        known, size = self._last.get(model.name, (None, 0))
        if known is not None and size and known.keys == layout.keys:
            return size
        count = layout.instances or self._replicas
        return sum(count * (PROCESS_BYTES + FILE_FACTOR * _size(layout.places.get(each))) for each in layout.served)

    def _claimed(self, model: Model) -> int:
        is_loading = model.wanted.is_loaded and not model.is_ready and model.layout is not None
        return max(self.of(model), self.estimate(model) if is_loading and not model.failure else 0)


def in_words(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{size / 2**30:.1f} GiB" if size >= 10 * 2**30 else f"{size / 2**20:,.0f} MiB"


def _processes(model: Model) -> list[ModelProcess]:
    return [process for group in model.groups for replica in group.replicas for process in replica.processes]


def _of_process(process: ModelProcess) -> int:
    return memory_of(process.pid)


def _size(folder: Path | None) -> int:
    size = 0
    for root, _, files in os.walk(folder) if folder is not None else ():
        for file in files:
            with contextlib.suppress(OSError):  # it has just gone
                size += os.stat(os.path.join(root, file)).st_size
    return size
