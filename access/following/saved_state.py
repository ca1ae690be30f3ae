"""The last good state of a source on disk: what an access service starts with while its registry is away."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from access.discovery.base import Announced, Entry
from access.errors import AccessError
from access.fields import Name, Section
from access.files import FileError, read_text
from dl_inference.registry.schema import Protocol as WireProtocol
from dl_inference.registry.schema import ReleaseDocument
from dl_inference.serving.limits import Milliseconds

FORMAT = 1
# 10,000 endpoints in 1,000 models are about 1 MB.
MAX_FILE_BYTES = 256 * 1024 * 1024


class SavedStateError(AccessError):
    """A state that cannot be saved, or a saved one that cannot be used; the message names the file."""


class _Entry(Section):
    endpoints: tuple[Announced, ...]
    timeout_ms: Milliseconds | None
    protocol: WireProtocol | None
    release: ReleaseDocument | None


_ENTRIES = TypeAdapter(dict[Name | Literal["*"], _Entry])  # "*" is ANY_MODEL


class SavedState:
    """The file of one source in `state_dir`.

    Args:
        folder: made when it is missing.
        name: the source's; two sources of one name share a state, as they say the same.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._name = name
        self.path = folder / f"{hashlib.blake2b(name.encode(), digest_size=12).hexdigest()}.json"

    def save(self, entries: Mapping[str, Entry]) -> None:
        """Replace the saved state, atomically.

        Raises:
            SavedStateError: it could not be written; the former one is whole.
        """
        body = _ENTRIES.dump_json({key: _stored(entry) for key, entry in entries.items()}, by_alias=True).decode()
        head = {"format": FORMAT, "name": self._name, "saved_unix_s": round(time.time(), 3), "blake2b": _sum(body)}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own: another service, in another container too, may have been given the same folder.
            descriptor, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(f"{json.dumps(head)}\n{body}\n")
                    file.flush()
                    os.fsync(descriptor)
                os.replace(temporary, self.path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise SavedStateError(f"{self.path}: the last good state cannot be saved: {error.strerror}") from error

    def load(self) -> tuple[dict[str, Entry], float] | None:
        """Return the saved entries, and when they were saved (seconds since the epoch); None when there are none.

        Raises:
            SavedStateError: the file cannot be read, or is not whole.
        """
        if not self.path.exists():
            return None
        try:
            first, _, rest = read_text(self.path, MAX_FILE_BYTES).partition("\n")
            body = rest.removesuffix("\n")
            head: dict[str, Any] = json.loads(first)
            if head["format"] != FORMAT or head["name"] != self._name or head["blake2b"] != _sum(body):
                raise SavedStateError(f"{self.path}: not whole, or of another source; it is not used")
            stored = _ENTRIES.validate_json(body)
            saved_at = float(head["saved_unix_s"])
        except FileError as error:
            raise SavedStateError(str(error)) from error
        except (ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
            raise SavedStateError(f"{self.path}: no saved state: {str(error)[:200]}; it is not used") from error
        return {key: _entry(each) for key, each in stored.items()}, saved_at


def _stored(entry: Entry) -> _Entry:
    return _Entry.model_construct(
        endpoints=tuple(each if isinstance(each, Announced) else Announced(**dict(each)) for each in entry.endpoints),
        timeout_ms=entry.timeout_ms,
        protocol=entry.protocol,
        release=entry.release,
    )


def _entry(stored: _Entry) -> Entry:
    return Entry(stored.endpoints, stored.timeout_ms, stored.protocol, stored.release)


def _sum(body: str) -> str:
    return hashlib.blake2b(body.encode(), digest_size=16).hexdigest()
