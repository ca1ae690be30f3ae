"""Changing which version of a model gets which share: read, edit, check, compare and set, again where it moved.

Where the documents are is a `ReleaseStore`'s business.
"""

from __future__ import annotations

import getpass
import os
import random
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dl_inference.registry.releases.checks import Finding, compare, unknown_versions
from dl_inference.registry.releases.store import ReleaseStore, parse
from dl_inference.registry.schema import EndpointDocument, ReleaseDocument, SchemaError
from dl_inference.registry.zookeeper import RegistryError

# Between two attempts a writer waits at most this long, drawn anew: two that collided do not again.
_MAX_PAUSE_S = 0.05


class RefusedError(RegistryError):
    """A change that is not made; the message says why, and what to do."""


def default_author() -> str:
    """Return ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name; KeyError until Python 3.12
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"[:200]


Edit = Callable[[ReleaseDocument | None, Sequence[EndpointDocument] | None], ReleaseDocument]
"""What somebody wants: the document now (None: there is none) and the endpoints -> the document as it should be."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A change that somebody wants.

    Attributes:
        edit: what; it raises RefusedError for what makes no sense.
        author: who.
        reason: why.
        force: make also what would be refused.
    """

    edit: Edit
    author: str = field(default_factory=default_author)
    reason: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did.

    Attributes:
        before: the document that it was made on; None: there was none.
        after: the current document.
        changed: False: it was so already, and nothing was written.
        overridden: what it was not refused for, as `force` was given.
        notes: what is odd about the document, but no more so than before.
        endpoints: who announced the model; None: nobody announces anything in this store.
    """

    before: ReleaseDocument | None
    after: ReleaseDocument
    changed: bool
    overridden: tuple[str, ...]
    notes: tuple[str, ...]
    endpoints: Sequence[EndpointDocument] | None


def change(store: ReleaseStore, model: str, wanted: Wanted, *, timeout_ms: int) -> Outcome:
    """Edit a model's release document; what others change at the same time is kept.

    Where the document moved meanwhile, it is edited again as it is now.

    Args:
        store: where.
        model: which.
        wanted: what.
        timeout_ms: most that all attempts may take.

    Raises:
        RefusedError: the result would be wrong; nothing is written.
        RegistryError: the store cannot be used, or others were faster until the time was up.
    """
    deadline = time.monotonic() + timeout_ms / 1000
    while True:
        found = store.read(model)
        overridden = [_unusable(store, model, found.fault, wanted.force)] if found.fault is not None else []
        endpoints = store.endpoints(model)
        after = wanted.edit(found.document, endpoints)
        if found.document is not None and _content(after) == _content(found.document):
            return Outcome(found.document, found.document, False, (), (), endpoints)
        stamped = _stamped(after, max(found.last_revision, found.document.revision if found.document else 0), wanted)
        findings = _findings(store, found.document, stamped, endpoints)
        wrong = [str(finding) for finding in findings if finding.is_new]
        if wrong and not wanted.force:
            raise RefusedError("\n".join(wrong))
        if store.write(model, found, stamped):
            notes = tuple(finding.text for finding in findings if not finding.is_new)
            return Outcome(found.document, stamped, True, (*overridden, *wrong), notes, endpoints)
        _pause(store, deadline, timeout_ms)


def clear(store: ReleaseStore, model: str, *, timeout_ms: int, force: bool = False) -> ReleaseDocument | None:
    """Take a model's release document away; its history stays. Return it, or None where it could not be read.

    Raises:
        RefusedError: there is none, or it is not understood and `force` is not given.
        RegistryError: as in `change`.
    """
    deadline = time.monotonic() + timeout_ms / 1000
    while True:
        found = store.read(model)
        if found.fault is not None:
            _unusable(store, model, found.fault, force)
        elif found.document is None:
            raise RefusedError(f"{model} has no release document in {store.name}")
        if store.write(model, found, None):
            return found.document
        _pause(store, deadline, timeout_ms)


def _unusable(store: ReleaseStore, model: str, fault: str, force: bool) -> str:
    text = f"the release document of {model} in {store.name} cannot be used: {fault}"
    if not force:
        raise RefusedError(f"{text}; correct it, or replace it with --force")
    return text


def _content(document: ReleaseDocument) -> bytes:
    """Return the document without what every change sets anew."""
    return document.model_copy(update={"revision": 1, "author": "", "time": "", "reason": ""}).dump()


def _stamped(document: ReleaseDocument, last_revision: int, wanted: Wanted) -> ReleaseDocument:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    stamp = {"revision": last_revision + 1, "time": now, "author": wanted.author, "reason": wanted.reason}
    try:
        # By way of its bytes: what an edit put together is only now compared with the schema.
        return parse(document.model, document.model_copy(update=stamp).dump())
    except SchemaError as error:
        raise RefusedError(str(error)) from None


def _findings(
    store: ReleaseStore,
    before: ReleaseDocument | None,
    after: ReleaseDocument,
    endpoints: Sequence[EndpointDocument] | None,
) -> list[Finding]:
    known: set[str] = set()
    if unknown_versions(before, after, endpoints, known):
        known = {
            version
            for each in store.history(after.model)
            if isinstance(each, ReleaseDocument)
            for version in each.releases
        }
    return compare(before, after, endpoints, known)


def _pause(store: ReleaseStore, deadline: float, timeout_ms: int) -> None:
    """Let others finish, for a moment; raise when the time is up."""
    pause_s = random.uniform(0, _MAX_PAUSE_S)
    if time.monotonic() + pause_s > deadline:
        raise RegistryError(
            f"{store.name}: others changed it at every attempt for {timeout_ms} ms; nothing of this change is written:"
            " try again"
        )
    time.sleep(pause_s)
