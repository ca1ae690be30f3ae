"""Keep a server's endpoint documents in ZooKeeper for as long as they should be there.

One thread does all that goes over the network; no call of the server's waits for it but where the caller gives a
limit. What is wrong with the registry is logged once, and tried again for as long as the server runs: serving never
depends on it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kazoo.exceptions import AuthFailedError
from kazoo.handlers.threading import KazooTimeoutError

from dl_inference.registry.announcing.agenda import Agenda
from dl_inference.registry.announcing.link import Link
from dl_inference.registry.announcing.nodes import CONNECTION_ERRORS, Nodes, NotNowError
from dl_inference.registry.schema import EndpointDocument, endpoint_path

if TYPE_CHECKING:
    from dl_inference.registry.zookeeper import Zookeeper

log = logging.getLogger("registry")

PACE_S = 0.2
"""Shortest time between two rounds, whatever happens: two programs that undo each other's work stay harmless."""
PATIENCE_S = 3.0
"""A connection that is away for less is not worth a line: ZooKeeper elects a leader in that time."""
LOOK_S = 1.0
FIRST_DELAY_S = 1.0
MAX_DELAY_S = 30.0


class Announcer:
    """Keeps endpoint documents present. Constructing starts nothing; every method may be called in any thread.

    Args:
        place: the registry.
        program: name and version, for the documents.
        linger_s: how long a document that is no longer wanted says goodbye before it goes.

    Raises:
        RegistryError: what is needed is not installed.
    """

    def __init__(self, place: Zookeeper, *, program: str = "", linger_s: float = 1.0) -> None:
        self.instance = uuid.uuid4().hex
        self._place = place
        self._program = program
        self._thread: threading.Thread | None = None
        self._agenda = Agenda(linger_s)
        # Guards the start of the thread: none after the end.
        self._starting = threading.Lock()
        self._is_closing = False
        # What kazoo's threads say: they must not wait, not even for a lock.
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._touched: deque[str] = deque()
        # Of the thread alone.
        self._link = Link(place, self._wake.set)
        self._writer = Nodes(place, self.instance, self._touch)
        self._said = ""
        self._has_succeeded = self._is_taken_away = False
        self._delay_s = FIRST_DELAY_S
        self._away_since: float | None = None
        self._renews_at: float | None = None

    # --- what the server says

    def announce(self, documents: Iterable[EndpointDocument]) -> None:
        """Take the whole set of what should be there; what was there before and is not in it says goodbye and goes.

        `instance`, `program` and `since` of the documents are filled in here. Returns at once.
        """
        self._agenda.want({self._path(document): document for document in documents})
        with self._starting:
            if self._thread is None and not self._agenda.is_empty and not self._is_closing:
                self._thread = threading.Thread(target=self._run, name="registry", daemon=True)
                self._thread.start()
        self._wake.set()

    def goodbye(self, limit_s: float) -> bool:
        """Let every document say `draining` from now on; wait until that is written.

        Args:
            limit_s: the longest to wait. It may be called again to wait on.

        Returns:
            Whether it is written; False also where nothing was ever announced.
        """
        with self._starting:
            if self._thread is None:
                return False
        self._agenda.leave()
        self._hurry.set()
        self._wake.set()
        return self._agenda.await_settled(limit_s)

    def close(self, limit_s: float) -> bool:
        """Take everything away and end the connection.

        Args:
            limit_s: the longest to wait. What could not be taken away goes when ZooKeeper ends the session.

        Returns:
            Whether it was done, and in time.
        """
        with self._starting:
            self._is_closing = True
        self._hurry.set()
        self._wake.set()
        if self._thread is None:
            return True
        self._thread.join(limit_s)
        if self._has_succeeded and not self._is_taken_away:
            log.warning(
                "registry %s does not answer: what is announced there goes when the session ends, in %.0f s",
                self._place.url,
                self._place.session_timeout_s,
            )
        return self._is_taken_away

    def _path(self, document: EndpointDocument) -> str:
        return self._place.chroot + endpoint_path(document.model, document.address)

    # --- the thread

    def _run(self) -> None:
        self._link.start()
        while not self._is_closing:
            self._wake.clear()
            try:
                wait_s = self._round()
            except Exception:  # a fault of ours must neither end a server nor leave it unannounced for good
                log.exception("registry %s: a fault of this program; trying again", self._place.url)
                wait_s = self._next_delay()
            self._hurry.clear()
            self._hurry.wait(PACE_S)
            self._wake.wait(wait_s)
        self._is_taken_away = self._link.stop()

    def _round(self) -> float:
        """Do what there is to do; return after how many seconds to look again if nothing happens before."""
        if not self._link.is_connected or self._link.has_ended:
            return self._without_connection()
        self._away_since = None
        problem = ""
        for path in self._due():
            if self._is_closing:
                break
            try:
                self._settle(path)
            except NotNowError as error:
                problem = problem or str(error)
            except KazooTimeoutError:
                problem = f"no answer within {self._place.session_timeout_s:.0f} s"
                break
            except (*CONNECTION_ERRORS, AuthFailedError):
                return LOOK_S  # what kazoo tells of the connection wakes us earlier
        if problem:
            self._say(f"registry {self._place.url}: {problem}; trying again")
            return self._next_delay()
        return self._rest()

    def _due(self) -> list[str]:
        if self._link.take_news():
            self._agenda.unsettle_all()
        while self._touched:
            self._agenda.unsettle(self._touched.popleft())
        return self._agenda.due()

    def _settle(self, path: str) -> None:
        """Bring one node to what it should be; raises as `Nodes.put`."""
        task = self._agenda.task(path)
        if task.is_going:
            self._writer.remove(self._link.client, path)
        else:
            stamp = {"instance": self.instance, "program": self._program, "since": task.since}
            update = stamp if task.is_staying else {**stamp, "state": "draining"}
            written = task.document.model_copy(update=update)
            self._writer.put(self._link.client, path, written, may_create=task.is_staying)
        self._agenda.done(task)

    def _rest(self) -> float:
        """Say that all is well if it was not; return for how long there is nothing to do."""
        self._delay_s = FIRST_DELAY_S
        count = self._agenda.wanted_count()
        if count and (self._said or not self._has_succeeded):
            log.info("registry %s: announced %d endpoint%s", self._place.url, count, "" if count == 1 else "s")
            self._said, self._has_succeeded = "", True
        end_s = self._agenda.next_end_s()
        return MAX_DELAY_S if end_s is None else end_s

    def _say(self, problem: str) -> None:
        """Log the first problem since all was well; it lasts, so what follows is detail."""
        log.log(logging.DEBUG if self._said else logging.WARNING, "%s", problem)
        self._said = problem

    def _next_delay(self) -> float:
        delay_s = self._delay_s * random.uniform(0.6, 1.4)  # jittered, so that a fleet does not come back in one wave
        self._delay_s = min(MAX_DELAY_S, 2 * self._delay_s)
        return delay_s

    # --- the connection

    def _without_connection(self) -> float:
        """Say that there is none when that lasts; begin anew where kazoo has given up, as after a refused login."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        if self._link.has_ended:
            return self._begin_anew(now)
        if now - self._away_since >= PATIENCE_S:
            self._say(
                f"registry {self._place.url} cannot be reached ({self._link.reason or 'no answer'}); trying again"
            )
        return LOOK_S

    def _begin_anew(self, now: float) -> float:
        if self._renews_at is None:
            who = f" as {self._place.username}" if self._place.username else ""
            is_refused = "AUTH_FAILED" in self._link.reason
            reason = f"the login{who} was refused" if is_refused else f"cannot be used: {self._link.reason}"
            self._say(f"registry {self._place.url}: {reason}; nothing is announced, trying again")
            self._renews_at = now + self._next_delay()
        if now < self._renews_at:
            return self._renews_at - now
        self._renews_at = None
        self._link.renew()
        return LOOK_S

    def _touch(self, event: Any) -> None:
        """Take note of a node that changed; kazoo's own thread calls it and must not wait."""
        if event.path:
            self._touched.append(event.path)
            self._wake.set()
