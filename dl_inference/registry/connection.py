"""A connection to the registry for one command: every wait has a limit, every failure is one sentence.

Who follows the registry for as long as it runs does not come here: see `following`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from dl_inference.registry.zookeeper import RegistryError, Zookeeper, missing

if TYPE_CHECKING:
    from kazoo.client import KazooClient, TransactionRequest

    from dl_inference.registry.session import Event, Session

log = logging.getLogger("registry")

# A frozen server does not let go of a session; the process ends all the same.
CLOSE_S = 2.0
# A signal that another thread takes, or the main thread just before it waits, is heard after this at the latest.
LOOK_S = 0.25
# Requests under way: kazoo's thread is woken by a byte in a pipe for each, and from about 270 on who asks waits for it.
WINDOW = 128


class AnswerLostError(RegistryError):
    """The connection was lost after a change was sent: it may have been made or not."""


class ChangedError(RegistryError):
    """What a change was made for is not there any more: somebody else was faster."""


@dataclass(frozen=True, slots=True)
class Node:
    """What is at a path.

    Attributes:
        data: its bytes.
        version: one more with every change of the data.
        ephemeral: whether it goes with the session that made it.
        created: Unix time, s.
        fault: why its data may not be read; empty where they may.
    """

    data: bytes
    version: int
    ephemeral: bool
    created: float
    fault: str = ""


class Connection:
    """Reads and changes, each of which is answered or fails within `timeout_ms`."""

    def __init__(self, place: Zookeeper, timeout_ms: int) -> None:
        self.place = place
        self._timeout_s = timeout_ms / 1000
        # Set while requests are answered, and when they never will be.
        self._settled = threading.Event()
        self._has_ended = False
        self._reason = ""
        self._session: Session | None = None

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            RegistryError: nobody answers in time, the login is refused, or kazoo is not installed.
        """
        try:
            from dl_inference.registry.session import Session  # noqa: PLC0415  (kazoo is an extra)
        except ModuleNotFoundError as error:
            raise missing(error) from error
        self._session = Session(self.place, self._heard)
        try:
            self._session.start()
            self._await_settled(self._timeout_s)
        except (RegistryError, KeyboardInterrupt):
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the session; a server that does not answer is not waited for."""
        session, self._session = self._session, None
        if session is not None:
            session.stop(CLOSE_S)

    def path(self, path: str) -> str:
        """Return where a path of `dl_inference.registry.schema` is."""
        return self.place.chroot + path

    def get(self, paths: Sequence[str]) -> list[Node | None]:
        """Return what is at each path of `dl_inference.registry.schema`; None where nothing is.

        What may not be read is there all the same: its `Node` has a `fault`.
        """
        found = self._read("get_async", [self.path(path) for path in paths], may_be_denied=True)
        denied = [path for path, each in zip(paths, found, strict=True) if isinstance(each, RegistryError)]
        # Who may not read a node may still look whose it is.
        stats = dict(zip(denied, self._read("exists_async", [self.path(path) for path in denied]), strict=True))
        return [
            _node(b"", stats[path], str(each))
            if isinstance(each, RegistryError)
            else each and _node(each[0] or b"", each[1])
            for path, each in zip(paths, found, strict=True)
        ]

    def children(self, paths: Sequence[str], *, skip_denied: bool = False) -> list[list[str] | None]:
        """Return the sorted names below each path; None where nothing is.

        Args:
            paths: of `dl_inference.registry.schema`.
            skip_denied: where the names may not be read, return None and name the path in the log.
        """
        found = self._read("get_children_async", [self.path(path) for path in paths], may_be_denied=skip_denied)
        for path, each in zip(paths, found, strict=True):
            if isinstance(each, RegistryError):
                log.warning("%s is skipped: %s", path, each)
        return [None if each is None or isinstance(each, RegistryError) else sorted(each) for each in found]

    def catch_up(self) -> None:
        """Make the server that we are connected to know all that was changed before."""
        self._read("sync_async", [self.place.chroot])

    def make_parents(self, paths: Iterable[str]) -> None:
        """Create what is missing above each path."""
        parents = sorted({self.path(path).rpartition("/")[0] for path in paths})
        # The first alone: what all of them are under is not made by each.
        self._read("ensure_path_async", parents[:1])
        self._read("ensure_path_async", parents[1:])

    def change(self, operations: Callable[[TransactionRequest], None]) -> None:
        """Change several nodes, or none of them.

        Args:
            operations: is given the transaction and adds to it; the paths are those that `path` gives.

        Raises:
            ChangedError: a version, or what is there and what not, is another than expected.
            AnswerLostError: it may have been made.
            RegistryError: not allowed, not possible, or no answer in time.
        """
        from kazoo import exceptions  # noqa: PLC0415  (an extra)

        transaction = self._running.transaction()
        operations(transaction)
        (results,) = self._wait([transaction.commit_async()], self._timeout_s)
        if isinstance(results, _lost()):
            raise AnswerLostError(
                f"{self.place.url}: the connection was lost while a change was made: look what is there"
            )
        if isinstance(results, Exception):
            raise self._error(results)
        innocent = (exceptions.RolledBackError, exceptions.RuntimeInconsistency)
        failures = [each for each in results if isinstance(each, Exception) and not isinstance(each, innocent)]
        if not failures:
            return
        moved = (exceptions.BadVersionError, exceptions.NodeExistsError, exceptions.NoNodeError)
        if all(isinstance(each, moved) for each in failures):
            raise ChangedError(f"{self.place.url}: another program changed it in the meantime: try again")
        raise self._error(failures[0])

    @property
    def _running(self) -> KazooClient:
        if self._session is None:
            raise RuntimeError("a connection is used within its `with`")
        return self._session.client

    def _heard(self, event: Event, reason: str) -> None:
        """Take what the session tells; kazoo's thread calls it, and it must not block."""
        if event.name == "TROUBLED":
            self._reason = reason[:300]
            return
        self._has_ended = event.name == "ENDED"
        if event.name == "LOST":
            self._settled.clear()
        else:
            self._settled.set()

    def _await_settled(self, timeout_s: float) -> None:
        if not _has_come(self._settled.wait, time.monotonic() + timeout_s) or self._has_ended:
            raise self._unreachable()

    def _read(self, request: str, paths: Sequence[str], *, may_be_denied: bool = False) -> list[Any]:
        """Ask about each path, again after a lost connection, until all is answered; None for what is not there.

        Where `may_be_denied`, what may not be read is a RegistryError in the list.
        """
        found: list[Any] = []
        deadline = time.monotonic() + self._timeout_s
        while len(found) < len(paths):
            ask = getattr(self._running, request)
            window = paths[len(found) : len(found) + WINDOW]
            answers = self._wait([ask(path) for path in window], deadline - time.monotonic())
            if any(isinstance(each, _lost()) for each in answers):
                self._await_settled(deadline - time.monotonic())
                continue
            found += [self._value(each, may_be_denied) for each in answers]
            deadline = time.monotonic() + self._timeout_s
        return found

    def _value(self, found: Any, may_be_denied: bool) -> Any:
        from kazoo.exceptions import NoAuthError, NoNodeError  # noqa: PLC0415  (an extra)

        if isinstance(found, NoNodeError):
            return None
        if may_be_denied and isinstance(found, NoAuthError):
            return self._error(found)
        if isinstance(found, Exception):
            raise self._error(found)
        return found

    def _wait(self, requests: Sequence[Any], timeout_s: float) -> list[Any]:
        """Return the answer, or the error, of each request."""
        deadline = time.monotonic() + timeout_s
        for request in requests:
            if not _has_come(request.wait, deadline):
                raise self._unreachable()
        return [request.value if request.successful() else request.exception for request in requests]

    def _unreachable(self) -> RegistryError:
        if self._has_ended:
            return RegistryError(f"{self.place.url}: the login is refused, or what it needs fails: {self._reason}")
        login = "the login may be refused" if self.place.username or self.place.sasl else ""
        reason = f" ({self._reason or login})" if self._reason or login else ""
        return RegistryError(
            f"no answer from {self.place.url} within {self._timeout_s * 1000:.0f} ms{reason}: is ZooKeeper running"
            " there? --registry-timeout-ms waits longer"
        )

    def _error(self, error: Exception) -> RegistryError:
        from kazoo import exceptions  # noqa: PLC0415  (an extra)

        if isinstance(error, exceptions.NoAuthError):
            return RegistryError(
                f"{self.place.url}: not allowed: log in as who made it, by DL_INFERENCE_REGISTRY_USERNAME and _PASSWORD"
                " (a wrong password is told in no other way)"
            )
        if isinstance(error, exceptions.NotEmptyError):
            return RegistryError(f"{self.place.url}: there is something below a node that should go: look at it first")
        return RegistryError(f"{self.place.url}: {type(error).__name__} {error}".rstrip())


def _has_come(wait: Callable[[float], bool], deadline: float) -> bool:
    """Wait in steps: Python hears of a Ctrl-C that comes at the same moment as a step when that is over."""
    while not wait(max(0.0, min(LOOK_S, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            return False
    return True


def _node(data: bytes, stat: Any, fault: str = "") -> Node | None:
    return stat and Node(data, stat.version, stat.ephemeralOwner != 0, stat.ctime / 1000, fault)


def _lost() -> tuple[type[Exception], ...]:
    """Return what a request is answered with that may have been lost on its way."""
    from kazoo import exceptions  # noqa: PLC0415  (an extra)

    return (
        exceptions.ConnectionLoss,
        exceptions.SessionExpiredError,
        exceptions.OperationTimeoutError,
        exceptions.SessionMovedError,
    )
