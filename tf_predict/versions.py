"""Which versions of the model there are, in what state, and which calls each is answering. Thread-safe."""

from __future__ import annotations

import enum
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc

from tf_predict.config import ModelSettings
from tf_predict.errors import invalid_argument, not_found
from tf_predict.servable import Servable

_TASK_ID = re.compile(r"\+?[0-9]{1,10}")
"""As Java's Integer.parseInt reads it, which dl_inference's access service used."""


class State(enum.IntEnum):
    """tensorflow.serving.ModelVersionStatus.State."""

    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class Status(NamedTuple):
    """What GetModelStatus says of one version: OK, or why loading failed."""

    version: int
    state: State
    code: int = 0
    text: str = ""


@dataclass
class _Version:
    state: State
    servable: Servable | None = None
    calls: int = 0
    failure: str = ""


class Versions:
    """The versions of one model, by number.

    Args:
        name: what the model answers to; model.yaml's aliases come on top.
        settings: the model folder's.
    """

    def __init__(self, name: str, settings: ModelSettings) -> None:
        self._name = name
        self._settings = settings
        self._versions: dict[int, _Version] = {}
        self._changed = threading.Condition()

    @property
    def names(self) -> tuple[str, ...]:
        """Return every name that the model answers to, its own first."""
        return (self._name, *self._settings.aliases)

    def means(self, name: str) -> bool:
        """Whether a name is the model's: one of its names, or one that ends in one of them that is a task id.

        The access service routes the dl_inference service's ``textcnn-69`` by the ``69`` in it, and passes the name on.
        """
        if name in self.names:
            return True
        last = name.rstrip("-").rpartition("-")[2]
        is_task_id = _TASK_ID.fullmatch(last) is not None and 0 < int(last) < 2**31
        return is_task_id and str(int(last)) in self.names

    @property
    def settings(self) -> ModelSettings:
        """Return the model folder's settings."""
        return self._settings

    def configure(self, settings: ModelSettings) -> None:
        """Take over new settings: labels, aliases, timeout."""
        with self._changed:
            self._settings = settings

    def available(self) -> tuple[int, ...]:
        """Return the versions that answer, the latest last."""
        with self._changed:
            return tuple(sorted(n for n, v in self._versions.items() if v.state is State.AVAILABLE))

    def loading(self, number: int) -> None:
        """Say that a version is being loaded."""
        with self._changed:
            self._versions[number] = _Version(State.LOADING)

    def loaded(self, number: int, servable: Servable) -> None:
        """Let a version answer from now on."""
        with self._changed:
            self._versions[number] = _Version(State.AVAILABLE, servable)

    def failed(self, number: int, failure: str) -> None:
        """Say why a version could not be loaded."""
        with self._changed:
            self._versions[number] = _Version(State.END, failure=failure)

    def unload(self, number: int) -> None:
        """Give a version no more calls, wait for those that it has, free its memory. Blocks as long as they take."""
        with self._changed:
            version = self._versions[number]
            version.state = State.UNLOADING
            self._changed.wait_for(lambda: version.calls == 0)
            servable, version.servable = version.servable, None
            version.state = State.END
        if servable is not None:
            servable.close()

    @contextmanager
    def lease(self, spec: Any) -> Iterator[tuple[Servable, int]]:
        """Give the model that a ModelSpec asks for, and its version; it stays loaded meanwhile.

        Raises:
            RequestError: there is no such model, version or label.
        """
        number, version = self._take(spec)
        try:
            assert version.servable is not None  # those that are available have one
            yield version.servable, number
        finally:
            with self._changed:
                version.calls -= 1
                self._changed.notify_all()

    def statuses(self, spec: Any) -> list[Status]:
        """Return the state of the version that a ModelSpec asks for, or of every one, the latest first.

        Raises:
            RequestError: there is no such model or version.
        """
        with self._changed:
            known: Mapping[int, _Version] = self._versions if self.means(spec.name) else {}
            found = [_status(number, known[number]) for number in sorted(known, reverse=True)]
        if spec.WhichOneof("version_choice") == "version":
            wanted = spec.version.value
            found = [status for status in found if status.version == wanted]
            if not found:
                raise not_found(f"Could not find version {wanted} of model {spec.name}")
        if not found:
            raise not_found(f"Could not find any versions of model {spec.name}")
        return found

    def _take(self, spec: Any) -> tuple[int, _Version]:
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        with self._changed:
            known = self.means(spec.name)
            choice = spec.WhichOneof("version_choice")
            if choice is None:
                number = max((n for n, v in self._versions.items() if v.state is State.AVAILABLE), default=None)
                asked = f"Latest({spec.name})"
            else:
                if choice == "version":
                    number = spec.version.value
                else:
                    number = self._labelled(spec.version_label) if known else None
                    if number is None:
                        raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
                asked = f"Specific({spec.name}, {number})"
            version = self._versions.get(number) if known and number is not None else None
            if number is None or version is None or version.state is not State.AVAILABLE:
                raise not_found(f"Servable not found for request: {asked}")
            version.calls += 1
            return number, version

    def _labelled(self, label: str) -> int | None:
        return self._settings.labels.get(label)


def _status(number: int, version: _Version) -> Status:
    code = grpc.StatusCode.UNKNOWN.value[0] if version.failure else 0
    return Status(number, version.state, code, version.failure)
