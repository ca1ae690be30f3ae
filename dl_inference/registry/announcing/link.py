"""The announcer's connection to ZooKeeper: one session after the other, and how the present one stands."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from dl_inference.registry.session import GOODBYE_S, Event, Session

if TYPE_CHECKING:
    from kazoo.client import KazooClient

    from dl_inference.registry.zookeeper import Zookeeper

STOP_S = 2.0


class Link:
    """Only one thread uses it; what the session tells comes from kazoo's threads. Constructing starts nothing.

    Args:
        place: the registry.
        wake: called when something has changed, by kazoo's threads; must not wait.

    Attributes:
        is_connected: requests are answered.
        has_ended: kazoo has given up, as after a refused login: only `renew` helps.
        reason: why the last attempt to connect failed.

    Raises:
        RegistryError: what is needed is not installed.
    """

    def __init__(self, place: Zookeeper, wake: Callable[[], None]) -> None:
        self._place = place
        self._wake = wake
        self.is_connected = self.has_ended = self._is_new = False
        self.reason = ""
        self._sessions = 0
        self._session = self._new_session()

    @property
    def client(self) -> KazooClient:
        """Return what takes requests."""
        return self._session.client

    def start(self) -> None:
        """Begin to connect, without waiting."""
        self._session.start()

    def renew(self) -> None:
        """Begin anew with another session."""
        self._session.stop(STOP_S)
        self._session = self._new_session()
        self._session.start()

    def stop(self) -> bool:
        """End the session; tell whether ZooKeeper has heard of it, so that our nodes are gone."""
        was_connected, begin = self.is_connected, time.monotonic()
        self._session.stop(STOP_S)
        return was_connected and time.monotonic() - begin < GOODBYE_S

    def take_news(self) -> bool:
        """Tell, once of each connection, that it is new: watches do not outlive one, nor nodes a session."""
        is_new = self._is_new
        if is_new:
            self._is_new = False
        return is_new

    def _new_session(self) -> Session:
        self._sessions += 1
        self.is_connected = self._is_new = self.has_ended = False
        return Session(self._place, partial(self._heard, self._sessions))

    def _heard(self, number: int, event: Event, reason: str) -> None:
        """Take what a session tells; kazoo's own threads call it and must not wait."""
        if number != self._sessions:  # a former one
            return
        if event is Event.TROUBLED:
            self.reason = reason
            return
        if event is Event.ENDED:
            self.has_ended = True
        self.is_connected = event is Event.CONNECTED
        self._is_new |= self.is_connected
        self._wake()
