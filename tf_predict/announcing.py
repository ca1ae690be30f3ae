"""What the server says about itself in a registry, whenever the versions, labels or names of its model change."""

from __future__ import annotations

import logging
from collections.abc import Collection

from dl_inference.registry.registration import Announcement, Served
from dl_inference.registry.zookeeper import RegistryError
from tf_predict.versions import Versions

_LOGGER = logging.getLogger(__name__)


def served(versions: Versions, numbers: Collection[int]) -> Served:
    """Return what is served when these versions answer; at least one."""
    *others, latest = sorted(numbers)
    labels = tuple(label for label, number in versions.settings.labels.items() if number in numbers)
    return Served(versions.names, "tfs", str(latest), tuple(map(str, others)), labels)


class Teller:
    """Tells the registry what has changed; where there is none, nothing."""

    def __init__(self, announcement: Announcement, versions: Versions) -> None:
        self._announcement = announcement
        self._versions = versions
        self._told: Served | None = None

    def tell(self, numbers: Collection[int]) -> None:
        """Say that these versions answer from now on."""
        now = served(self._versions, numbers)
        if now == self._told:
            return
        self._told = now
        try:
            self._announcement.tell([now])
        except RegistryError as error:  # a new alias that is no name; the model is served on all the same
            _LOGGER.error("what was announced before stays: %s", error)
