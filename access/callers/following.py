"""callers.yaml while the service runs: what is read is let in at once, and what cannot be used changes nothing."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from access.callers import secrets
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
        instances: how many access services share the limits now.
    """

    def __init__(
        self,
        path: Path,
        let_in: Callable[[str], None],
        count: Callable[[str, bool], None],
        instances: Callable[[], int],
    ) -> None:
        self._path, self._let_in, self._instances = path, let_in, instances
        self._named: tuple[Path, ...] = ()
        self._shared_by = 1
        super().__init__(str(path), self._read_and_let_in, lambda: (path, *self._named), count=count)

    def look(self, *, force: bool = False) -> bool:
        """As `Followed` has it; also where another number of access services shares the limits."""
        return super().look(force=force or self._shared_by != self._instances())

    def status(self) -> dict[str, Any]:
        """Return what /status shows."""
        return {**super().status(), "callers": len(self.value.callers), "anonymous": self.value.anonymous is not None}

    def _read_and_let_in(self) -> CallersConfig:
        self._shared_by = self._instances()
        config = load(self._path)
        folder = self._path.parent
        self._named = secrets.paths(config, folder)
        contents = secrets.read(config, folder)
        try:
            self._let_in(json.dumps(for_data_plane(config, contents, instances=self._shared_by)))
        except AccessError as error:
            raise AccessError(f"{self._path.name}: {error}") from error
        log.info("%s: %d callers", self._path.name, len(config.callers))
        return config
