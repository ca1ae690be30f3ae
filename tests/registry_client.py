"""A test's own client of ZooKeeper: it asks again where a connection is lost, for the tests kill what it talks to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NodeExistsError, NoNodeError
from kazoo.retry import KazooRetry

# A busy machine takes its time; what is promised about time is asserted where it is tested.
LIMIT_S = 30.0


class PatientClient(KazooClient):
    """Kazoo's client, connected, whose calls outlive lost connections and expired sessions for `LIMIT_S`."""

    def __init__(self, hosts: str, **options: Any) -> None:
        """Connect."""
        pace = {"max_tries": -1, "delay": 0.05, "max_delay": 0.2, "max_jitter": 0.2}
        connecting, asking = KazooRetry(**pace), KazooRetry(**pace, deadline=LIMIT_S)
        super().__init__(hosts, connection_retry=connecting, command_retry=asking, **options)
        self.start(LIMIT_S)

    def end(self) -> None:
        """End the session, and with it what it announced."""
        self.stop()
        self.close()

    def put(self, path: str, data: bytes, *, ephemeral: bool = False) -> None:
        """Write a node, made where it is missing."""
        try:
            self.set(path, data)
        except NoNodeError:
            self.create(path, data, ephemeral=ephemeral, makepath=True)

    def exists(self, *args: Any, **options: Any) -> Any:
        """Return the node's stat, or None."""
        return self.retry(super().exists, *args, **options)

    def get(self, *args: Any, **options: Any) -> Any:
        """Return the node's data and stat."""
        return self.retry(super().get, *args, **options)

    def get_children(self, *args: Any, **options: Any) -> Any:
        """Return the names below a node."""
        return self.retry(super().get_children, *args, **options)

    def set(self, *args: Any, **options: Any) -> Any:
        """Write a node that is there."""
        return self.retry(super().set, *args, **options)

    def ensure_path(self, *args: Any, **options: Any) -> Any:
        """Make a node and those above it where they are missing."""
        return self.retry(super().ensure_path, *args, **options)

    def create(self, *args: Any, **options: Any) -> Any:
        """Make a node."""
        return self._once(super().create, NodeExistsError, *args, **options)

    def delete(self, *args: Any, **options: Any) -> Any:
        """Take a node away."""
        return self._once(super().delete, NoNodeError, *args, **options)

    def _once(self, call: Callable[..., Any], done: type[KazooException], *args: Any, **options: Any) -> Any:
        attempts = 0

        def attempt() -> Any:
            nonlocal attempts
            attempts += 1
            try:
                return call(*args, **options)
            except done:
                if attempts == 1:
                    raise
                return None  # an earlier attempt did it, and its answer was lost with the connection

        return self.retry(attempt)
