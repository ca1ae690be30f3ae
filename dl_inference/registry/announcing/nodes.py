"""Write and remove the nodes of our endpoints: whose a node is decides what may be done to it.

Only `announcer` uses it, in its one thread. Every method waits for ZooKeeper, for at most a session's timeout.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kazoo.exceptions import (
    AuthFailedError,
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    OperationTimeoutError,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
)

from dl_inference.registry.schema import EndpointDocument, SchemaError

if TYPE_CHECKING:
    from kazoo.client import KazooClient

    from dl_inference.registry.zookeeper import Zookeeper

log = logging.getLogger("registry")

CONNECTION_ERRORS = (ConnectionLoss, SessionExpiredError, ConnectionClosedError, OperationTimeoutError)
_TRIES = 5


class NotNowError(Exception):
    """A document cannot be put in place; the message says why."""


class Nodes:
    """The nodes of one process.

    Args:
        place: the registry.
        instance: drawn by this process: its own nodes of former sessions are known by it.
        touched: called by one of kazoo's threads when a node that was written has changed; must not wait.
    """

    def __init__(self, place: Zookeeper, instance: str, touched: Callable[[Any], None]) -> None:
        self._place = place
        self._instance = instance
        self._touched = touched
        self._kept: dict[str, dict[str, Any]] = {}
        self._claimed: set[str] = set()
        self._given_up: set[str] = set()

    def put(self, client: KazooClient, path: str, document: EndpointDocument, *, may_create: bool) -> None:
        """Bring a node to what it should be, and watch it. Keys that others wrote into ours stay.

        Args:
            client: is connected.
            path: the node's.
            document: what it should say.
            may_create: whether it may be made, or another's replaced.

        Raises:
            NotNowError: it cannot be, now.
            KazooException: one of CONNECTION_ERRORS, or AuthFailedError: the connection is gone.
        """
        with self._explained(path):
            self._put(client, path, document, may_create=may_create)

    def remove(self, client: KazooClient, path: str) -> None:
        """Remove a node if it is ours; raises as `put`."""
        with self._explained(path), contextlib.suppress(NoNodeError, BadVersionError):
            _, stat = self._done(client.get_async(path))
            if stat.ephemeralOwner == _session(client):
                self._done(client.delete_async(path, stat.version))

    def _put(self, client: KazooClient, path: str, document: EndpointDocument, *, may_create: bool) -> None:
        wanted = _fields(document)
        for _ in range(_TRIES):
            try:
                data, stat = self._done(client.get_async(path, self._touched))
            except NoNodeError:
                if not may_create:
                    return
                with contextlib.suppress(NodeExistsError):  # somebody was faster: look who
                    content = {**self._kept.get(path, {}), **wanted}
                    self._done(client.create_async(path, _dump(content), ephemeral=True, makepath=True))
                    self._claimed.add(path)
                    self._given_up.discard(path)
                continue  # and watch it
            found = _document(data)
            with contextlib.suppress(BadVersionError, NoNodeError):  # it changed meanwhile: look again
                if stat.ephemeralOwner == _session(client):
                    if found is not None:
                        self._kept[path] = found.model_extra or {}
                    content = {**self._kept.get(path, {}), **wanted}
                    if found is None or _fields(found) != content:
                        self._done(client.set_async(path, _dump(content), stat.version))
                    return
                if not self._may_replace(path, found, may_create=may_create):
                    return
                self._replace(client, path, stat.version, content=_dump({**self._kept.get(path, {}), **wanted}))
                self._claimed.add(path)
        raise NotNowError(f"{path} changes faster than it can be written")

    def _replace(self, client: KazooClient, path: str, version: int, content: bytes) -> None:
        # At once: whose node it was must not find it deleted, and put it there again.
        transaction = client.transaction()
        transaction.delete(path, version)
        transaction.create(path, content, ephemeral=True)
        for result in self._done(transaction.commit_async()):
            if isinstance(result, Exception) and not isinstance(result, RolledBackError | RuntimeInconsistency):
                raise result

    def _may_replace(self, path: str, found: EndpointDocument | None, *, may_create: bool) -> bool:
        """Tell whether a node of another session may go: one of ours, or what was there before us.

        One that came after ours is of another program that runs now, and believes in this address as well.
        """
        if found is not None and found.instance == self._instance:
            return True
        if path not in self._claimed:
            return may_create
        if may_create and path not in self._given_up:
            self._given_up.add(path)
            log.error(
                "registry %s: %s is no longer ours, but %s. It stays as it is until it goes by itself; where two "
                "servers are announced by one address, give one of them another (--advertise)",
                self._place.url,
                path,
                f"of {found.program or 'a program'}, instance {found.instance}" if found else "holds no document",
            )
        return False

    @contextlib.contextmanager
    def _explained(self, path: str) -> Any:
        try:
            yield
        except (*CONNECTION_ERRORS, AuthFailedError):
            raise
        except NoAuthError:
            who = self._place.username or "nobody in particular"
            # Its digest logins are never refused: a wrong password shows here only.
            password = "the password is wrong, or " if self._place.username else ""
            remedy = f"{password}the ACL of it or of its parents is for others"
            raise NotNowError(f"{path} may not be written by {who}: {remedy}") from None
        except NotEmptyError:
            raise NotNowError(f"{path} is in the way, with nodes below it: remove it") from None
        except KazooException as error:
            raise NotNowError(f"{path}: {type(error).__name__} {error}".rstrip()) from error

    def _done(self, result: Any) -> Any:
        # kazoo itself waits for ever: for as long as it cannot connect.
        return result.get(timeout=self._place.session_timeout_s)


def _session(client: KazooClient) -> int:
    if client.client_id is None:
        raise ConnectionLoss
    return int(client.client_id[0])


def _document(data: bytes) -> EndpointDocument | None:
    try:
        return EndpointDocument.parse(data)
    except SchemaError:
        return None


def _fields(document: EndpointDocument) -> dict[str, Any]:
    return dict(json.loads(document.dump()))


def _dump(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()
