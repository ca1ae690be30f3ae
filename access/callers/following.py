"""callers.yaml while the service runs: what is read is let in at once, and what cannot be used changes nothing."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from access.callers.load import for_data_plane, load
from access.callers.schema import CallersConfig
from access.errors import AccessError
from access.following.followed import Followed

log = logging.getLogger("access")


class FollowedCallers(Followed[CallersConfig]):
    """The document of callers, as the data plane has it.

    Args:
        path: the file.
        let_in: hands the document to the data plane, or raises `AccessError`.
        count: as `Followed` has it.
    """

    def __init__(self, path: Path, let_in: Callable[[str], None], count: Callable[[str, bool], None]) -> None:
        self._path, self._let_in = path, let_in
        super().__init__(str(path), self._read_and_let_in, lambda: (path,), count=count)

    def status(self) -> dict[str, Any]:
        """Return what /status shows."""
        return {**super().status(), "callers": len(self.value.callers), "anonymous": self.value.anonymous is not None}

    def _read_and_let_in(self) -> CallersConfig:
        config = load(self._path)
        try:
            self._let_in(json.dumps(for_data_plane(config)))
        except AccessError as error:
            raise AccessError(f"{self._path.name}: {error}") from error
        log.info("%s: %d callers", self._path.name, len(config.callers))
        return config
