"""Follows a registry: its whole state, from memory, at any time, or why there is none.

Callbacks of kazoo's only put jobs into a queue; one thread works on them, whatever the number of endpoints. A lost
connection takes all watches with it: everything is read again before the state counts as good again.
"""

import logging
import queue
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from dl_inference.registry.following.pipeline import Job
from dl_inference.registry.following.presence import Presence
from dl_inference.registry.following.reading import Reader
from dl_inference.registry.following.tree import Reading, printable
from dl_inference.registry.schema import ACCESS
from dl_inference.registry.session import Event, Session
from dl_inference.registry.zookeeper import RegistryError, Zookeeper

log = logging.getLogger(__name__)

# After a refused login, or an ACL that lets us read nothing: somebody may be mending it.
RETRY_S = 10.0
STOP_S = 5.0
# Servers fail for different reasons; the first few say enough.
MAX_REASONS = 3
# Jobs between two looks at the clock; each takes less than 1 ms.
MAX_JOBS = 50


class Follower:
    """Follows one registry. Constructing starts nothing.

    Args:
        place: where it is, without the password.
        password: returns it; asked before every session, so that a changed file counts. May raise RegistryError.
        changed: called in a thread of this object's whenever `read` would give something new.
    """

    def __init__(self, place: Zookeeper, password: Callable[[], str | None], changed: Callable[[], None]) -> None:
        self._place, self._password, self._changed = place, password, changed
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._reader = Reader(place.chroot, self._jobs.put)
        self._presence = Presence(f"{place.chroot}{ACCESS}/{secrets.token_hex(8)}", self._jobs.put)
        self._thread = threading.Thread(target=self._run, name="registry", daemon=True)
        self._settled = threading.Event()
        self._is_stopping = False
        self._outcome: Reading | str = ""
        self._session: Session | None = None
        self._sessions = 0
        self._open_at: float | None = 0.0
        self._is_connected = False
        self._lost_at = ""
        self._refusal = ""
        self._reasons: dict[str, None] = {}

    def start(self) -> None:
        """Begin to follow, without waiting."""
        self._fail()
        self._thread.start()

    def read(self, timeout_s: float) -> Reading:
        """Return the present state.

        Args:
            timeout_s: how long to wait for the first state, or for an error that does not pass by itself.

        Raises:
            RegistryError: there is none; the text says why and since when, without any password.
        """
        if threading.current_thread() is not self._thread:  # `changed` may read, and must not wait for itself
            self._settled.wait(timeout_s)
        outcome = self._outcome
        if isinstance(outcome, str):
            raise RegistryError(outcome)
        return outcome

    def report(self, data: bytes) -> None:
        """Write what we have to say into a node of our own under /access, without waiting, and keep it there."""
        self._jobs.put(partial(self._presence.put, data))

    def stop(self) -> None:
        """End the thread and the session within `STOP_S`, whatever ZooKeeper does; nothing is called afterwards."""
        self._is_stopping = True
        self._jobs.put(lambda: None)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(STOP_S + 1)

    # --- the thread

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                self._step()
            except Exception:  # a fault of ours must not end the following in silence
                log.exception("%s: following begins anew", self._place.url)
                self._restart("a fault of this program, see the log")
        self._close()

    def _step(self) -> None:
        now = time.monotonic()
        if self._open_at is not None and now >= self._open_at:
            self._open_at = None
            self._open()
        if self._reader.tick(now):
            self._publish()
        waits = [self._reader.wait_s(now), None if self._open_at is None else max(0.0, self._open_at - now)]
        try:
            job = self._jobs.get(timeout=min((wait for wait in waits if wait is not None), default=None))
        except queue.Empty:
            return
        job()
        for _ in range(min(self._jobs.qsize(), MAX_JOBS)):
            self._jobs.get()()
        if self._reader.failure:
            self._restart(self._reader.failure)

    def _open(self) -> None:
        self._sessions += 1
        try:
            place = replace(self._place, password=self._password())
            self._session = Session(place, partial(self._on_session, self._sessions))
            self._session.start()
        except RegistryError as error:
            self._restart(str(error))

    def _close(self) -> None:
        session, self._session, self._is_connected = self._session, None, False
        self._sessions += 1  # what the old one still tells counts no more
        if session is not None and not session.stop(STOP_S):
            log.warning("%s: a thread is left that ends by itself", self._place.url)

    def _on_session(self, number: int, event: Event, reason: str) -> None:
        """Take what the session tells, in kazoo's threads."""
        self._jobs.put(partial(self._tell, number, event, reason))

    # --- jobs

    def _tell(self, number: int, event: Event, reason: str) -> None:
        session = self._session
        if number != self._sessions or session is None:
            return
        if event is Event.CONNECTED:
            self._is_connected = True
            self._reader.begin(session.client)
            self._presence.begin(session.client)
        elif event is Event.LOST:
            self._is_connected = False
            self._abandon()
            self._fail()
        elif event is Event.TROUBLED:
            if len(self._reasons) < MAX_REASONS:
                self._reasons[printable(reason)] = None
            if not self._is_connected:
                self._refusal = ""  # nobody answers now who could refuse us
                self._fail()
        else:
            self._restart("; ".join(self._reasons) or "the session ended")

    def _restart(self, reason: str) -> None:
        """Say why there is no state, and begin anew after a while."""
        self._abandon()
        self._close()
        self._open_at = time.monotonic() + RETRY_S * random.uniform(0.7, 1.3)  # not a whole fleet at once
        self._reasons = {}
        self._refusal = reason
        self._fail()
        self._settled.set()

    def _abandon(self) -> None:
        self._reader.abandon()
        self._presence.abandon()

    def _publish(self) -> None:
        reading, is_new = self._reader.reading()
        is_new = is_new or not isinstance(self._outcome, Reading) or self._outcome.faults != reading.faults
        self._outcome = reading
        self._reasons, self._refusal, self._lost_at = {}, "", ""
        self._settled.set()
        if is_new:
            self._announce()

    def _fail(self) -> None:
        """Say that there is no state, why, and since when: the same words until the reason is another."""
        self._lost_at = self._lost_at or datetime.now(UTC).isoformat(timespec="seconds")
        reason = self._refusal or "; ".join(self._reasons) or "no answer"
        before, self._outcome = self._outcome, f"{self._place.url}: unreachable since {self._lost_at}: {reason}"
        if self._outcome != before and self._thread.ident is not None:
            self._announce()

    def _announce(self) -> None:
        if self._is_stopping:
            return
        try:
            self._changed()
        except Exception:  # another's fault, and it must not end the following
            log.exception("%s: who was told of a change failed", self._place.url)
