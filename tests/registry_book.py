"""What endpoints say about themselves in a registry, as somebody else reads it."""

from __future__ import annotations

import contextlib
import json
import uuid
from typing import Any

from access_process import wait_until
from kazoo.exceptions import NoNodeError
from registry_client import LIMIT_S, PatientClient


class Book:
    """A registry of its own in a ZooKeeper."""

    def __init__(self, hosts: str) -> None:
        self.url = f"zk://{hosts}/t{uuid.uuid4().hex}"
        self.root = "/" + self.url.rpartition("/")[2]
        self.kazoo = PatientClient(hosts)

    def close(self) -> None:
        """End the session."""
        self.kazoo.end()

    def models(self) -> list[str]:
        """Return the models that have endpoints."""
        return [name for name in self._children(f"{self.root}/models") if self.addresses(name)]

    def addresses(self, model: str) -> list[str]:
        """Return the endpoints of a model."""
        return self._children(f"{self.root}/models/{model}/endpoints")

    def document(self, model: str) -> dict[str, Any] | None:
        """Return what the only endpoint of a model says."""
        with contextlib.suppress(NoNodeError):
            for address in self.addresses(model):
                return json.loads(self.kazoo.get(f"{self.root}/models/{model}/endpoints/{address}")[0])
        return None

    def wait(self, model: str, **fields: Any) -> dict[str, Any]:
        """Wait until the endpoint of a model says these things; return all that it says."""

        def fits() -> Any:
            found = self.document(model)
            return found if found is not None and fields.items() <= found.items() else None

        return wait_until(fits, f"{model} has {fields}: {self.document(model)}", LIMIT_S)

    def _children(self, path: str) -> list[str]:
        with contextlib.suppress(NoNodeError):
            return self.kazoo.get_children(path)
        return []
