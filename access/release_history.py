"""The last revisions of each model's release document, for the dashboard: those that were followed, and the registry's.

What was followed is there at once. The registry's own history is read after a change only, in a thread, so that
nothing waits for it; where it cannot be read, what was seen since the start is shown.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from access.discovery.base import ANY_MODEL, Snapshot
from access.errors import AccessError
from dl_inference.registry.releases.differences import changes
from dl_inference.registry.schema import ReleaseDocument

log = logging.getLogger("access")

SHOWN = 20
"""Revisions that are shown of each model; one more is kept, to tell what the oldest of them changed."""
RETRY_S = 30.0


class Source(Protocol):
    """What is needed of `access.following.source.FollowedSource`."""

    name: str

    @property
    def value(self) -> Snapshot: ...  # noqa: D102
    def release_history(  # noqa: D102
        self, models: Sequence[str], last: int
    ) -> Mapping[str, Sequence[ReleaseDocument]] | None: ...


class ReleaseHistory:
    """The histories of one access service. Constructing starts nothing.

    Args:
        show: shows a document at a path, or takes it away: ``Control.show_document``.
        wake: makes the owner call `look` soon; it is called in any thread.
        now: seconds of a monotonic clock.
        followed: told of each document that is followed: the model, the one before, the document, the source's name.
    """

    def __init__(
        self,
        show: Callable[[str, Mapping[str, Any] | None], None],
        wake: Callable[[], None],
        now: Callable[[], float] = time.monotonic,
        *,
        followed: Callable[[str, ReleaseDocument | None, ReleaseDocument, str], None] = lambda *_: None,
    ) -> None:
        self._show, self._wake, self._now, self._followed = show, wake, now, followed
        self._models: dict[str, _Model] = {}
        self._due_at = float("-inf")
        self._thread: threading.Thread | None = None
        self._read: dict[str, tuple[int, Sequence[ReleaseDocument] | None, str]] = {}

    def applied(self, sources: Iterable[Source]) -> None:
        """Take over what the sources say now; a model that has no release document any more is forgotten."""
        named: set[str] = set()
        released: set[str] = set()
        for source in sources:
            for name, entry in source.value.entries.items():
                if name in named:
                    continue  # the first source that names it counts
                named.add(name)
                if entry.release is None or name == ANY_MODEL:
                    continue
                released.add(name)
                model = self._models.setdefault(name, _Model())
                before = model.document
                if model.take(entry.release, source):
                    self._followed(name, before, entry.release, source.name)
                    self._due_at = float("-inf")
                    self._show(path_of(name), model.page(name))
        for name in self._models.keys() - released:
            del self._models[name]
            self._show(path_of(name), None)

    def look(self) -> None:
        """Show what has been read since, and have read what is new."""
        if self._thread is not None:
            if self._thread.is_alive():
                return
            self._thread.join()
            self._thread = None
            self._take_over()
        wanted: dict[int, tuple[Source, dict[str, int]]] = {}
        for name, model in self._models.items():
            if model.source is not None and model.is_unread:
                _, revisions = wanted.setdefault(id(model.source), (model.source, {}))
                revisions[name] = model.revision
        if wanted and self._now() >= self._due_at:
            # Ends by itself: every wait in it has a limit. The process does not wait for it.
            self._thread = threading.Thread(
                target=self._ask, args=(list(wanted.values()),), name="release-history", daemon=True
            )
            self._due_at = self._now() + RETRY_S
            self._thread.start()

    def _ask(self, wanted: Sequence[tuple[Source, dict[str, int]]]) -> None:
        for source, revisions in wanted:
            found: Mapping[str, Sequence[ReleaseDocument]] | None = None
            fault = ""
            try:
                found = source.release_history(list(revisions), SHOWN + 1)
            except AccessError as error:
                fault = str(error)
                log.info("the history of releases cannot be read: %s", error)
            except Exception as error:  # a fault of ours must not end in silence
                log.exception("the history of releases cannot be read")
                fault = f"a fault of this program, see the log: {type(error).__name__}"
            for name, revision in revisions.items():
                self._read[name] = (revision, None if found is None else found.get(name, ()), fault)
        self._wake()

    def _take_over(self) -> None:
        read, self._read = self._read, {}
        for name, (revision, documents, fault) in read.items():
            model = self._models.get(name)
            if model is not None:
                model.merge(revision, documents, fault)
                self._show(path_of(name), model.page(name))


def path_of(model: str) -> str:
    """Return where the admin port shows a model's history."""
    return f"/releases/{model}"


class _Model:
    """What is known of one model.

    Attributes:
        source: where its release document comes from.
        revision: of the document that is followed.
        is_unread: whether the source's own history is to be read again.
    """

    def __init__(self) -> None:
        self.source: Source | None = None
        self.revision = 0
        self.is_unread = False
        self._known: dict[int, ReleaseDocument] = {}
        self._begins = "start"
        self._problem = ""

    @property
    def document(self) -> ReleaseDocument | None:
        """The one that is followed; None before there is one."""
        return self._known.get(self.revision)

    def take(self, document: ReleaseDocument, source: Source) -> bool:
        """Remember the document that is followed now; tell whether it is another than before."""
        self.source = source
        if self._known.get(document.revision) == document and self.revision == document.revision:
            return False
        self.revision, self.is_unread = document.revision, True
        # Who begins to count anew has another history.
        self._known = {revision: each for revision, each in self._known.items() if revision < document.revision}
        self._add([document])
        return True

    def merge(self, revision: int, documents: Sequence[ReleaseDocument] | None, fault: str) -> None:
        """Add what the source keeps, read when `revision` was followed; None where it keeps none."""
        if not fault:
            self.is_unread = self.revision != revision
        self._problem = (
            f"The registry's own history cannot be read now: it is tried again every {RETRY_S:.0f} s." if fault else ""
        )
        if documents:
            self._begins = "registry"
            self._add(each for each in documents if each.revision < self.revision)

    def page(self, name: str) -> dict[str, Any]:
        """Return the document of the admin port, the newest revision first."""
        every = [self._known[revision] for revision in sorted(self._known)]
        rows = [
            {
                "revision": document.revision,
                "time": document.time,
                "author": document.author,
                "reason": document.reason,
                "changes": did,
            }
            for document, did in changes(every)
            if isinstance(document, ReleaseDocument)
        ]
        return {
            "model": name,
            "begins": self._begins,
            "problem": self._problem or None,
            "revisions": rows[::-1][:SHOWN],
        }

    def _add(self, documents: Iterable[ReleaseDocument]) -> None:
        self._known.update({document.revision: document for document in documents})
        for revision in sorted(self._known)[: -SHOWN - 1]:
            del self._known[revision]
