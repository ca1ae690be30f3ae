"""Bring the metrics of a model's own code to where they are read: the front's admin page, and a file for `serve`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from dl_inference.serving import own_metrics
from dl_inference.serving.own_metrics import Family
from torch_predict import metrics

AGAIN_S = 1.0
"""After this time a file is tried again that could not be written, on a full disk."""
SHARE = 0.02
"""Most of its time that the thread of the hooks spends on this: thousands of series are told less often."""

_LOGGER = logging.getLogger(__name__)


class Publisher:
    """Says what has changed since it was last asked, and each thing that goes wrong once."""

    def __init__(self, show: Callable[[str], None] | None, file: Path | None) -> None:
        """Take where they go.

        Args:
            show: shows them on the admin page; None: there is none.
            file: where they are kept for `serve`; None: nowhere.
        """
        self._show, self._file = show, file
        self._not_before = self._again_at = float("-inf")
        self._unwritten: list[Family] | None = None
        """What did not get into the file."""
        self._told: set[str] = set()

    def step(self, *, is_last: bool = False) -> None:
        """Publish the metrics, if one has changed.

        Args:
            is_last: the process ends: now or never.
        """
        began = time.monotonic()
        if began < self._not_before and not is_last:
            return
        families = metrics.changed()
        if families is None:
            if self._unwritten is None or (began < self._again_at and not is_last):
                return
            families = self._unwritten
        if self._show is not None:
            text, left_out = own_metrics.render(families)
            self._show(text)
            if left_out:
                self._warn(f"{', '.join(left_out)} would make /metrics larger than {own_metrics.MAX_BYTES} bytes")
        if self._file is not None:
            try:
                own_metrics.write(self._file, families)
                self._unwritten = None
            except (OSError, ValueError) as error:
                self._warn(f"they do not reach the access service: {error}")
                self._unwritten = families if isinstance(error, OSError) else None
        now = time.monotonic()
        self._not_before = now + (now - began) / SHARE
        self._again_at = now + AGAIN_S

    def _warn(self, text: str) -> None:
        if text not in self._told and len(self._told) < metrics.MAX_METRICS:
            self._told.add(text)
            _LOGGER.warning("the model's own metrics: %s", text)
