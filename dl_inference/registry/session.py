"""One session with ZooKeeper, as those see it who must never wait: it tells what happens, and ends within a limit.

kazoo says why it cannot connect only in its log, asks on without an end, and waits long for a server that hangs;
`Session` tells the reasons, the end of kazoo's thread (a refused login ends it), and cuts a connection that does not
close.
"""

import enum
import logging
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kazoo.exceptions import ConnectionClosedError, ConnectionLoss, SessionExpiredError
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.states import KazooState

from dl_inference.registry.zookeeper import Zookeeper, client

log = logging.getLogger(__name__)

# A host that swallows packets costs this at most before the next one is tried; a LAN's connect takes 1 ms.
CONNECT_S = 3.0
# A server answers to a goodbye in a round trip, or it hangs.
GOODBYE_S = 1.0


class Event(enum.Enum):
    """What a session tells. The calls come from kazoo's threads: they must return at once."""

    CONNECTED = "requests are answered from now on; no watch of an earlier time is left"
    LOST = "requests fail from now on; kazoo tries to connect again"
    TROUBLED = "an attempt to connect failed, for the reason told"
    ENDED = "nothing comes any more: the login was refused, or kazoo failed"


Tell = Callable[[Event, str], None]


class Session:
    """A kazoo client with its threads: `client` takes requests at any time.

    Raises:
        RegistryError: kazoo, or what a login needs, is not installed.
    """

    def __init__(self, place: Zookeeper, tell: Tell) -> None:
        """Make it; `start` connects."""
        self._place, self._tell = place, tell
        self._lost_at: float | None = None
        self._zxid_before = 0
        self._handler = _Handler(tell, self._on_attempt)
        self.client = client(place, handler=self._handler, logger=_reasons(tell))
        self.client.add_listener(self._on_state)

    def start(self) -> None:
        """Begin to connect, without waiting."""
        self.client.start_async()

    def stop(self, timeout_s: float) -> bool:
        """Close the session and end its threads.

        Args:
            timeout_s: at most; after `GOODBYE_S` the connection is cut.

        Returns:
            Whether every thread has ended; one that is left ends by itself, at the latest after `CONNECT_S` for each
            host, and tells nothing.
        """
        self._handler.is_stopping = True
        closer = threading.Thread(target=self._close, name="zookeeper-close", daemon=True)
        closer.start()
        closer.join(GOODBYE_S)
        if closer.is_alive():
            self._handler.cut()
            closer.join(timeout_s - GOODBYE_S)
        return not closer.is_alive()

    def _close(self) -> None:
        try:
            self.client.stop()
            self.client.close()
        except Exception as error:  # kazoo raises its own, and plain ones, when a thread of its hangs
            log.warning("the session with ZooKeeper did not close: %s", error)

    def _on_state(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self._lost_at = None
            if self._zxid_before:
                # A server that is merely behind the others catches up first.
                self.client.sync_async(self._place.chroot).rawlink(self._on_caught_up)
            self._tell(Event.CONNECTED, "")
        else:
            self._lost_at = self._lost_at or time.monotonic()
            self._tell(Event.LOST, "")

    def _on_attempt(self) -> None:
        """Forget how far ZooKeeper was, once our session must be over: it refuses who has seen more than it has."""
        is_over = self._lost_at is not None and time.monotonic() - self._lost_at >= self._place.session_timeout_s
        if is_over and self.client.last_zxid:
            self._zxid_before, self.client.last_zxid = self.client.last_zxid, 0

    def _on_caught_up(self, result: Any) -> None:
        before, now = self._zxid_before, self.client.last_zxid
        if isinstance(result.exception, ConnectionLoss | SessionExpiredError | ConnectionClosedError):
            return  # the next connection's reply tells
        self._zxid_before = 0
        if now < before:
            log.warning(
                "%s went back from change %#x to %#x: it was emptied, or has an old backup. What is there is read"
                " again, and what we announce is announced again; releases since then are lost: see `dl-inference"
                " release show`",
                self._place.url,
                before,
                now,
            )


class _Queue(queue.SimpleQueue[Any]):
    """A queue without the counting of tasks, which nobody asks for."""

    def task_done(self) -> None:
        """Do nothing."""


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """kazoo's threads and connections: they can be cut, and one that ends too early is noticed."""

    queue_impl = _Queue

    def __init__(self, tell: Tell, attempt: Callable[[], None]) -> None:
        super().__init__()
        self.is_stopping = False
        self._tell, self._attempt = tell, attempt
        self._connection: socket.socket | None = None
        self._is_cut = False

    def create_connection(self, address: tuple[str, int], timeout: float = CONNECT_S, **options: Any) -> socket.socket:
        """Connect, in less time than a whole session has; kazoo's own leaves a socket open where TLS fails."""
        self._attempt()
        made = socket.create_connection(address, timeout=min(timeout, CONNECT_S))
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if options.get("use_ssl"):
                context = ssl.create_default_context(cafile=options["ca"])
                if options["certfile"]:
                    context.load_cert_chain(options["certfile"], options["keyfile"])
                made = context.wrap_socket(made, server_hostname=options["hostname"])
            self._connection = made
            if self._is_cut:
                raise ConnectionAbortedError("stopping")
        except BaseException:
            made.close()
            raise
        return made

    def select(
        self, readable: Sequence[Any], writable: Sequence[Any], _: Sequence[Any], timeout: float | None = None
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Wait as ``select.select`` does; kazoo's own makes an epoll instance for each of five waits a request."""
        poll = select.poll()
        events = {each.fileno(): (each, select.POLLIN) for each in readable}
        events |= {each.fileno(): (each, select.POLLOUT) for each in writable}
        for number, (_each, wanted) in events.items():
            poll.register(number, wanted)
        # A connection that broke is ready either way: the next read or write says how.
        ready = [events[number] for number, _ in poll.poll(None if timeout is None else timeout * 1000)]
        read = [each for each, wanted in ready if wanted == select.POLLIN]
        return read, [each for each, wanted in ready if wanted == select.POLLOUT], []

    def cut(self) -> None:
        """End the connection at once, and every later one."""
        self._is_cut = True
        if self._connection is not None:
            try:
                # Not by TLS's own way, which waits for the other side.
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)
            except OSError as error:
                log.debug("closed already: %s", error)

    def spawn(self, func: Callable[..., Any], *args: Any, **options: Any) -> threading.Thread:
        """Start a thread of kazoo's, all of which are to run until `stop`."""

        def watched() -> None:
            try:
                func(*args, **options)
            except Exception as error:  # whatever it is, kazoo's thread is gone, and its log has the rest
                self._tell(Event.TROUBLED, f"{type(error).__name__}: {error}")
            if not self.is_stopping:
                self._tell(Event.ENDED, "")

        thread: threading.Thread = super().spawn(watched)
        return thread


class _Reasons(logging.Handler):
    """Passes kazoo's warnings on; in a program's own log they would come with every attempt."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text == "Transition to CONNECTING":  # no reason
            return
        first = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if isinstance(first, BaseException) and first.__cause__ is not None:
            text += f" ({first.__cause__})"
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        self._tell(Event.TROUBLED, text)


def _reasons(tell: Tell) -> logging.Logger:
    logger = logging.Logger("kazoo of a session", logging.WARNING)  # without a parent: heard here only
    logger.addHandler(_Reasons(tell))
    return logger
