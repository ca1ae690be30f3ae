"""What the access service's audit log says: of the configuration, of releases, of upgrades."""

from collections.abc import Mapping, Sequence
from typing import Any

from access import document
from access.config import effective
from access.config.load import Loaded
from dl_inference.problem import Problem
from dl_inference.registry.releases.differences import differences
from dl_inference.registry.schema import ReleaseDocument
from dl_inference.serving.audit import Audit, operator, owner

CONFIGURATION = "configuration"


class Audited:
    """Tells the audit log of one access service. Constructing writes nothing.

    Attributes:
        audit: the log; from `started` on the configuration's.
    """

    def __init__(self) -> None:
        self.audit = Audit()
        self._before: Mapping[str, Any] = {}
        self._refused = ""

    def started(self, loaded: Loaded) -> None:
        """The service runs with a configuration, whose `audit_log` holds from now on."""
        path = loaded.config.audit_log
        self.audit = Audit(loaded.folder / path if path is not None else None)
        self._before = _values(loaded)
        given = sorted({document.place_of(place) for place in loaded.origins} & self._before.keys())
        self._tell("started", loaded, given)

    def adopted(self, loaded: Loaded) -> None:
        """Another configuration holds."""
        now, before = _values(loaded), self._before
        changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        self._before, self._refused = now, ""
        self._tell("applied", loaded, changed or ["nothing"])

    def refused(self, loaded: Loaded, text: str, problems: Sequence[Problem]) -> None:
        """A new configuration is wrong, and the one before stays; told once for each text."""
        if text == self._refused:
            return
        self._refused = text
        # The places alone: a problem's text has what is there.
        self._tell("refused", loaded, [problem.place for problem in problems] or ["it cannot be read"])

    def released(self, model: str, before: ReleaseDocument | None, after: ReleaseDocument, source: str) -> None:
        """A release document is followed."""
        what = differences(before, after) if before is not None or after.revision == 1 else ["found at the start"]
        reason = [f"reason: {after.reason}"] if after.reason else []
        origin = f"{source} revision {after.revision} of {after.time}"
        named = [f"model {model}", *reason, *(what or ["nothing"])]
        self.audit.tell("release", "applied", who=after.author or "unknown", origin=origin, what=named)

    def upgraded(self, outcome: str, why: str) -> None:
        """Another process is to go on with the sockets, does so, or has failed to."""
        self.audit.tell("upgrade", outcome, who=operator(), origin="SIGUSR2", what=[why])

    def _tell(self, outcome: str, loaded: Loaded, what: Sequence[str]) -> None:
        self.audit.tell(CONFIGURATION, outcome, who=owner(loaded.path), origin=str(loaded.path), what=what)


def _values(loaded: Loaded) -> dict[str, Any]:
    return {document.place_of(path): value for path, value in effective.values(loaded.config)}
