"""What a place of release documents is asked for, and answers: `nodes` (ZooKeeper) and `files` (a folder) are two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dl_inference.registry.schema import (
    AccessDocument,
    EndpointDocument,
    ReleaseDocument,
    SchemaError,
)

HISTORY_LENGTH = 100
"""Release documents that are kept of each model."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store has of a model.

    Attributes:
        document: the release document; None: there is none, or it cannot be used.
        fault: why what is there cannot be used; None: it can, or nothing is there.
        token: what `ReleaseStore.write` compares: it is of this reading.
        last_revision: the highest revision that was ever written, as far as is known; 0: none.
    """

    document: ReleaseDocument | None
    fault: str | None
    token: object
    last_revision: int


@dataclass(frozen=True, slots=True)
class Applied:
    """What one access service says about one model.

    Attributes:
        instance: its name in the registry.
        service: its document.
        revision: the revision that it follows; None: no release document of this model.
        since: since when, UTC, ISO 8601.
    """

    instance: str
    service: AccessDocument
    revision: int | None
    since: str


class ReleaseStore(Protocol):
    """Where release documents are kept."""

    @property
    def name(self) -> str:
        """Return the place, for people."""
        ...

    def read(self, model: str) -> Stored:
        """Return what is there now."""
        ...

    def write(self, model: str, found: Stored, document: ReleaseDocument | None) -> bool:
        """Put a document in the place of what was found, and into the history; None takes it away.

        Returns:
            False: what is there is not what was found any more; nothing was written.
        """
        ...

    def history(self, model: str) -> list[ReleaseDocument | SchemaError]:
        """Return the documents of the last revisions, the oldest first; the last is current, unless it was removed."""
        ...

    def endpoints(self, model: str) -> list[EndpointDocument] | None:
        """Return who announces the model and can be understood; None: nobody announces anything here."""
        ...

    def applied(self, model: str) -> list[Applied] | None:
        """Return what each access service follows; None: they do not say it here."""
        ...


def parse(model: str, data: bytes) -> ReleaseDocument:
    """Read a model's release document.

    Raises:
        SchemaError: not a document, or another model's.
    """
    document = ReleaseDocument.parse(data)
    if document.model != model:
        raise SchemaError(f"model: {document.model!r}: this is the place of {model}'s")
    return document
