"""Release documents in ZooKeeper: one transaction for each change, with the history."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, NamedTuple

from dl_inference.registry.connection import AnswerLostError, ChangedError, Connection, Node
from dl_inference.registry.releases.store import HISTORY_LENGTH, Applied, Stored, parse
from dl_inference.registry.schema import (
    ACCESS,
    AccessDocument,
    EndpointDocument,
    ReleaseDocument,
    SchemaError,
    endpoint_path,
    endpoints_path,
    history_path,
    release_path,
)
from dl_inference.registry.zookeeper import RegistryError

if TYPE_CHECKING:
    from kazoo.client import TransactionRequest

log = logging.getLogger("registry")

# Somebody else's leftovers in the history are not taken away all at once: a transaction has at most 1 MiB.
_MOST_FORGOTTEN = 100


class _Token(NamedTuple):
    """What was found: the node's version (None: no node) and the revisions in the history."""

    version: int | None
    revisions: tuple[int, ...]
    data: bytes


class ReleaseNodes:
    """The release documents of one registry."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def name(self) -> str:
        """Return the registry's URL."""
        return self._connection.place.url

    def read(self, model: str) -> Stored:
        """Return what is there now."""
        (node,) = self._connection.get([release_path(model)])
        revisions = self._revisions(model)
        last = revisions[-1] if revisions else 0
        if node is None:
            return Stored(None, None, _Token(None, revisions, b""), last)
        if node.fault:
            raise RegistryError(node.fault)
        token = _Token(node.version, revisions, node.data)
        try:
            return Stored(parse(model, node.data), None, token, last)
        except SchemaError as error:
            return Stored(None, str(error), token, last)

    def write(self, model: str, found: Stored, document: ReleaseDocument | None) -> bool:
        """Put a document in the place of what was found, and into the history; None takes it away."""
        token = found.token
        assert isinstance(token, _Token)  # of our own `read`
        data = b"" if document is None else document.dump()
        try:
            if document is not None:
                self._connection.make_parents([history_path(model, document.revision)])
            self._connection.change(
                lambda transaction: self._operations(transaction, model, found.document, token, document)
            )
        except ChangedError:
            return False
        except AnswerLostError:
            self._connection.catch_up()
            (node,) = self._connection.get(
                [release_path(model) if document is None else history_path(model, document.revision)]
            )
            return node is None if document is None else node is not None and node.data == data
        return True

    def history(self, model: str, last: int = HISTORY_LENGTH) -> list[ReleaseDocument | SchemaError]:
        """Return the documents of the last revisions, the oldest first."""
        paths = [history_path(model, revision) for revision in self._revisions(model)[-last:]]
        return [_parsed(model, node) for node in self._connection.get(paths) if node is not None]

    def endpoints(self, model: str) -> list[EndpointDocument] | None:
        """Return who announces the model and can be understood."""
        (names,) = self._connection.children([endpoints_path(model)], skip_denied=True)
        nodes = self._connection.get([f"{endpoints_path(model)}/{name}" for name in names or ()])
        found: list[EndpointDocument] = []
        for name, node in zip(names or (), nodes, strict=True):
            if node is not None and node.fault:
                log.warning("%s/%s is skipped: %s", endpoints_path(model), name, node.fault)
                continue
            try:
                if node is not None:
                    found.append(parse_endpoint(model, name, node.data))
            except SchemaError:  # `registry ls` names it; nobody calls it either
                continue
        return found

    def applied(self, model: str) -> list[Applied] | None:
        """Return what each access service follows."""
        (names,) = self._connection.children([ACCESS], skip_denied=True)
        nodes = self._connection.get([f"{ACCESS}/{name}" for name in names or ()])
        found: list[Applied] = []
        for name, node in zip(names or (), nodes, strict=True):
            try:
                if node is not None and node.fault:
                    raise SchemaError(node.fault)
                service = AccessDocument.parse(node.data) if node is not None else None
            except SchemaError as error:
                service = AccessDocument(program=f"cannot be read: {error}"[:200])
            if service is not None:
                revision, since = service.applied.get(model, (None, ""))
                found.append(Applied(name, service, revision, since))
        return found

    def _revisions(self, model: str) -> tuple[int, ...]:
        (names,) = self._connection.children([history_path(model)])
        return tuple(sorted(int(name) for name in names or () if re.fullmatch(r"[0-9]{10,16}", name)))

    def _operations(
        self,
        transaction: TransactionRequest,
        model: str,
        before: ReleaseDocument | None,
        token: _Token,
        document: ReleaseDocument | None,
    ) -> None:
        place = self._connection.path(release_path(model))
        if document is None:
            transaction.delete(place, token.version)
            return
        data = document.dump()
        new = [(document.revision, data)]
        if before is not None and before.revision not in token.revisions:  # written by hand
            new.insert(0, (before.revision, token.data))
        if token.version is None:
            transaction.create(place, data)
        else:
            transaction.set_data(place, data, token.version)
        for revision, content in new:
            transaction.create(self._connection.path(history_path(model, revision)), content)
        surplus = max(0, len(token.revisions) + len(new) - HISTORY_LENGTH)
        for revision in token.revisions[: min(surplus, _MOST_FORGOTTEN)]:
            transaction.delete(self._connection.path(history_path(model, revision)))


def parse_endpoint(model: str, name: str, data: bytes) -> EndpointDocument:
    """Read the document of an endpoint.

    Args:
        model: whose endpoints it is among.
        name: of its node.
        data: the content.

    Raises:
        SchemaError: not a document, or one that belongs elsewhere.
    """
    document = EndpointDocument.parse(data)
    if document.model != model:
        raise SchemaError(f"model: {document.model!r}: it is among the endpoints of {model}")
    if endpoint_path(model, document.address).rpartition("/")[2] != name:
        raise SchemaError(f"address: {document.address!r}: its node is called {name!r}")
    return document


def _parsed(model: str, node: Node) -> ReleaseDocument | SchemaError:
    if node.fault:
        return SchemaError(node.fault)
    try:
        return parse(model, node.data)
    except SchemaError as error:
        return error
