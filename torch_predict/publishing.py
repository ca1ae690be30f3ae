"""Bring the metrics of a model's own code to where they are read: the front's admin page, and a file for `serve`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from dl_inference.serving import own_metrics
from torch_predict import metrics

if TYPE_CHECKING:
    from dl_inference._native import Worker

_LOGGER = logging.getLogger(__name__)


class Publisher:
    """Says what has changed since it was last asked, and each thing that goes wrong once."""

    def __init__(self, worker: Worker, file: Path | None) -> None:
        """Take where they go.

        Args:
            worker: whose admin page shows them.
            file: where they are kept for `serve`; None: nowhere.
        """
        self._worker, self._file = worker, file
        self._told: set[str] = set()

    def step(self) -> None:
        """Publish the metrics, if one has changed."""
        families = metrics.changed()
        if families is None:
            return
        text, left_out = own_metrics.render(families)
        self._worker.show_metrics(text)
        if left_out:
            self._warn(f"{', '.join(left_out)} would make /metrics larger than {own_metrics.MAX_BYTES} bytes")
        if self._file is not None:
            try:
                own_metrics.write(self._file, families)
            except (OSError, ValueError) as error:
                self._warn(f"they do not reach the access service: {error}")

    def _warn(self, text: str) -> None:
        if text not in self._told and len(self._told) < metrics.MAX_METRICS:
            self._told.add(text)
            _LOGGER.warning("the model's own metrics: %s", text)
