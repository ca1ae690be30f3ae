"""What this access service tells the registry: which release documents it has applied, and since when."""

import importlib.metadata
import socket
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from access.discovery.base import Snapshot
from dl_inference.registry.schema import AccessDocument


class AppliedRevisions:
    """The report of one process.

    Args:
        listen: its bound addresses.
    """

    def __init__(self, listen: Sequence[str]) -> None:
        self._document = AccessDocument(listen=tuple(listen), host=socket.gethostname(), program=_program())

    def applied(self, snapshots: Iterable[Snapshot]) -> AccessDocument:
        """Return the report after these snapshots have been applied."""
        before, now = self._document.applied, datetime.now(UTC).isoformat(timespec="milliseconds")
        revisions = {
            model: entry.release.revision
            for snapshot in snapshots
            for model, entry in snapshot.entries.items()
            if entry.release is not None
        }
        applied = {
            model: before[model] if before.get(model, (0, ""))[0] == revision else (revision, now)
            for model, revision in revisions.items()
        }
        if applied != before:
            self._document = self._document.model_copy(update={"applied": applied})
        return self._document


def _program() -> str:
    try:
        return f"dl-inference {importlib.metadata.version('dl-inference')}"
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "dl-inference"
