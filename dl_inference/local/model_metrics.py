"""Metrics of the models' own code, of all processes of `serve` together, for the access service's /metrics."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from dl_inference.local.models import Model
from dl_inference.local.processes import metrics_file
from dl_inference.serving import own_metrics
from dl_inference.serving.own_metrics import Family

READ_S = 1.0
"""How often the processes' files are looked at."""

log = logging.getLogger("serve")

_Stamp = tuple[int, int, int]


class ModelMetrics:
    """What the processes have written lately, as one text. Only the main thread uses it."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._known: dict[Path, tuple[_Stamp, list[Family]]] = {}
        self._text = ""
        self._problems: set[str] = set()

    def text(self, models: Iterable[Model]) -> str:
        """Return the metrics of the processes that serve, in Prometheus' text format; what changed within READ_S later.

        A series has the labels ``model``, ``version`` and ``instance``: the how manieth process of the version. A
        process that takes over from another one continues its series, from 0.
        """
        if time.monotonic() - self._read_at < READ_S:
            return self._text
        self._read_at = time.monotonic()
        files = dict(_files(models))
        before, self._known = self._known, {}
        for file in files:
            self._look(file, before)
        if self._known != before:
            self._render([(files[file], families) for file, (_, families) in self._known.items()])
        return self._text

    def _look(self, file: Path, before: dict[Path, tuple[_Stamp, list[Family]]]) -> None:
        try:
            found = os.stat(file)
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            known = before.get(file)
            self._known[file] = known if known and known[0] == stamp else (stamp, own_metrics.read(file))
        except FileNotFoundError:  # it has none, or has just ended
            return
        except (OSError, ValueError) as error:
            self._tell({f"metrics of {file.name} cannot be read: {type(error).__name__}: {str(error)[:300]}"})

    def _render(self, found: list[tuple[dict[str, str], list[Family]]]) -> None:
        families, problems = own_metrics.merged(found)
        self._text, left_out = own_metrics.render(families)
        self._tell({*problems, *(f"metrics {name} have no room in /metrics" for name in left_out)})

    def _tell(self, problems: set[str]) -> None:
        for text in sorted(problems - self._problems):
            log.warning("%s", text)
        self._problems |= problems


def _files(models: Iterable[Model]) -> Iterator[tuple[Path, dict[str, str]]]:
    for model in models:
        for version, group in model.serving().items():
            for index, replica in enumerate(group.replicas):
                if replica.process is not None:
                    labels = {"model": model.name, "version": str(version), "instance": str(index)}
                    yield metrics_file(replica.process.address), labels
