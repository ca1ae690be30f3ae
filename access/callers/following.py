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
from dl_inference.serving.audit import Audit, owner

log = logging.getLogger("access")


class FollowedCallers(Followed[CallersConfig]):
    """The document of callers, as the data plane has it.

    Args:
        path: the file.
        let_in: hands the document to the data plane, or raises `AccessError`.
        count: as `Followed` has it.
        instances: how many access services share the limits now.
        audit: is told which callers changed.
    """

    def __init__(
        self,
        path: Path,
        let_in: Callable[[str], None],
        count: Callable[[str, bool], None],
        instances: Callable[[], int],
        audit: Audit,
    ) -> None:
        self._path, self._let_in, self._instances, self._audit = path, let_in, instances, audit
        self._named: tuple[Path, ...] = ()
        self._shared_by = 1
        super().__init__(str(path), self._read_and_let_in, lambda: (path, *self._named), count=count)

    def look(self, *, force: bool = False) -> bool:
        """As `Followed` has it; also where another number of access services shares the limits."""
        before, fault = self.value, self.error
        is_new = super().look(force=force or self._shared_by != self._instances())
        if is_new and (what := differences(before, self.value)):
            self._tell("applied", what)
        elif self.error not in (None, fault):
            self._tell("refused", ["it cannot be used"])
        return is_new

    def status(self) -> dict[str, Any]:
        """Return what /status shows."""
        return {**super().status(), "callers": len(self.value.callers), "anonymous": self.value.anonymous is not None}

    def _tell(self, outcome: str, what: list[str]) -> None:
        self._audit.tell("callers", outcome, who=owner(self._path), origin=str(self._path), what=what)

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


def differences(before: CallersConfig, after: CallersConfig) -> list[str]:
    """Return who came, went or changed, and in what; by name, and no value."""
    found = [f"caller {name} added" for name in after.callers.keys() - before.callers.keys()]
    found += [f"caller {name} removed" for name in before.callers.keys() - after.callers.keys()]
    for name in before.callers.keys() & after.callers.keys():
        old, new = before.callers[name], after.callers[name]
        changed = [field for field in type(new).model_fields if getattr(old, field) != getattr(new, field)]
        if changed:
            found.append(f"caller {name}: {', '.join(changed)}")
    found += [field for field in ("jwt", "anonymous") if getattr(before, field) != getattr(after, field)]
    return sorted(found)
