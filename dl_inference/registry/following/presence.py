"""One ephemeral node of our own: it says who we are for as long as we are there.

It goes with the session, is written again after a new one, and nobody waits for it: what cannot be written is said in
the log. All of it runs in the thread that `post` gives jobs to.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
)

from dl_inference.registry.following.pipeline import Job

log = logging.getLogger(__name__)

# There is no registry yet, or no connection: it is tried again with the next report or session.
_PASSING = (NoNodeError, ConnectionLoss, SessionExpiredError, ConnectionClosedError)
# ZooKeeper ends the connection of who sends more than 1 MiB less 1 byte at once.
MAX_BYTES = 1_000_000


class Presence:
    """The node.

    Args:
        path: where; its parent is made where it is missing, what is above that is not.
        post: puts a job into the queue of the thread that owns this.
    """

    def __init__(self, path: str, post: Callable[[Job], None]) -> None:
        self._path, self._post = path, post
        self._client: KazooClient | None = None
        self._number = 0
        self._wanted: bytes | None = None
        self._written: bytes | None = None
        self._is_busy = False
        self._trouble = ""

    def put(self, data: bytes) -> None:
        """Write this, now or with the next session."""
        self._wanted = data
        self._write()

    def begin(self, client: KazooClient) -> None:
        """Write by this client, as it is connected."""
        self.abandon()
        self._client = client
        self._write()

    def abandon(self) -> None:
        """Forget the connection."""
        self._number += 1
        self._client, self._written, self._is_busy = None, None, False

    def _write(self) -> None:
        if self._client is None or self._is_busy or self._wanted in (None, self._written):
            return
        assert self._wanted is not None  # looked at above
        if len(self._wanted) > MAX_BYTES:
            self._fail(f"{len(self._wanted)} bytes are more than ZooKeeper takes")
            return
        self._is_busy = True
        self._call(self._client.set_async(self._path, self._wanted), self._was_set, self._wanted)

    def _call(self, result: Any, done: Callable[..., None], *arguments: Any) -> None:
        def reply(number: int, result: Any) -> None:
            if number == self._number and self._client is not None:
                done(self._client, result, *arguments)

        number = self._number
        result.rawlink(lambda result: self._post(partial(reply, number, result)))

    def _was_set(self, client: KazooClient, result: Any, data: bytes) -> None:
        if isinstance(result.exception, NoNodeError):
            self._create(client, data)
        elif result.exception is not None:
            self._end(result.exception, data)
        elif client.client_id is not None and result.value.ephemeralOwner != client.client_id[0]:
            # Of our session before this one, with which it would go.
            self._call(client.delete_async(self._path), lambda client, _: self._create(client, data))
        else:
            self._end(None, data)

    def _create(self, client: KazooClient, data: bytes) -> None:
        self._call(client.create_async(self._path, data, ephemeral=True), self._was_created, data)

    def _was_created(self, client: KazooClient, result: Any, data: bytes) -> None:
        if isinstance(result.exception, NoNodeError):
            parent = self._path.rpartition("/")[0]
            self._call(client.create_async(parent), self._has_parent, data)
        else:
            self._end(result.exception, data)

    def _has_parent(self, client: KazooClient, result: Any, data: bytes) -> None:
        if result.exception is None or isinstance(result.exception, NodeExistsError):
            self._create(client, data)
        else:
            self._end(result.exception, data)

    def _end(self, error: BaseException | None, data: bytes) -> None:
        self._is_busy = False
        if error is None:
            self._written, self._trouble = data, ""
        elif not isinstance(error, _PASSING):
            self._fail(type(error).__name__ if isinstance(error, KazooException) else repr(error))
        if self._wanted is not data:  # something newer came meanwhile
            self._write()

    def _fail(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("%s cannot be written: %s", self._path, trouble)
        self._trouble = trouble
