"""Changes of callers.yaml by commands: read, changed and written as a whole, so that nobody ever reads half of it."""

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from access import document
from access.callers.load import MAX_FILE_BYTES, of_text
from access.callers.schema import moment
from access.errors import AccessError
from access.files import FileError, read_text
from dl_inference.registry.releases import whole_file
from dl_inference.registry.zookeeper import RegistryError

PREFIX = "dlk_"
"""What every key begins with, so that people and scanners know one where it should not be."""

_LOCK_S = 5.0
_COMMENT = re.compile(r"^\s*#|\s#\s", re.MULTILINE)


def make_key() -> str:
    """Make a key: 32 random bytes, which is why a fast digest is enough to keep it by."""
    return PREFIX + secrets.token_urlsafe(32)


class Editing:
    """The file, as it will be written.

    Attributes:
        data: what it says, and will say.
        has_comments: whether the file has comments, which the new one will not have.
    """

    def __init__(self, data: dict[str, Any], *, has_comments: bool) -> None:
        self.data = data
        self.has_comments = has_comments

    def add(self, name: str, allow: Sequence[dict[str, Any]], more: dict[str, Any]) -> None:
        """Add a caller without keys.

        Raises:
            AccessError: there is one of that name.
        """
        callers = self.data.setdefault("callers", {})
        if name in callers:
            raise AccessError(f"there is a caller {name}: `callers rotate {name}` makes it another key")
        callers[name] = {**more, "allow": list(allow)}

    def add_key(self, name: str, expires: datetime | None) -> tuple[str, str]:
        """Make a caller a key; return its id and the key, which is nowhere else.

        Raises:
            AccessError: there is no such caller.
        """
        key = make_key()
        entry: dict[str, Any] = {"id": self._new_id(name), "sha256": hashlib.sha256(key.encode()).hexdigest()}
        if expires is not None:
            entry["expires"] = _written(expires)
        caller = self._caller(name)
        caller["keys"] = [*(caller.get("keys") or ()), entry]
        return entry["id"], key

    def limit_keys(self, name: str, end: datetime) -> list[str]:
        """Let every key that a caller has now expire, at the latest then; return the ids of those that change."""
        changed = []
        for key in self._caller(name).get("keys") or ():
            expires = moment(key.get("expires"))
            if expires is None or expires > end:
                key["expires"] = _written(end)
                changed.append(str(key.get("id")))
        return changed

    def revoke(self, name: str, key_id: str | None) -> None:
        """Remove a key, or the caller.

        Raises:
            AccessError: there is no such thing.
        """
        caller = self._caller(name)
        if key_id is None:
            del self.data["callers"][name]
            return
        keys = caller.get("keys") or []
        left = [key for key in keys if key.get("id") != key_id]
        if len(left) == len(keys):
            known = ", ".join(str(key.get("id")) for key in keys) or "none"
            raise AccessError(f"{name} has no key {key_id}; it has {known}")
        caller["keys"] = left

    def _caller(self, name: str) -> dict[str, Any]:
        callers = self.data.get("callers") or {}
        if name not in callers:
            raise AccessError(f"there is no caller {name}: `callers ls` lists them")
        caller: dict[str, Any] = callers[name]
        return caller

    def _new_id(self, name: str) -> str:
        """Count on: an id is in logs, and is not given again while a later key is there."""
        ids = [str(key.get("id")) for key in self._caller(name).get("keys") or ()]
        numbers = [int(match[1]) for each in ids if (match := re.fullmatch(r"k(\d{1,9})", each))]
        return f"k{max(numbers, default=0) + 1}"


@contextlib.contextmanager
def editing(path: Path, *, may_be_new: bool = False) -> Iterator[Editing]:
    """Change the file: other writers wait, and it is written once the changes are made, if it can be used then.

    Args:
        path: the file; one that a symbolic link means is changed where it is.
        may_be_new: whether it is made where there is none; only its owner may read it then.

    Raises:
        AccessError: it cannot be read or written, or could not be used.
    """
    path = path.resolve()
    try:
        with whole_file.locked(path, _LOCK_S):
            is_new = may_be_new and not path.exists()
            text = "" if is_new else read_text(path, MAX_FILE_BYTES)
            of_text(text, path.name)
            edited = Editing(document.parse(text, path.name).data, has_comments=bool(_COMMENT.search(text)))
            yield edited
            changed = yaml.safe_dump(
                edited.data, sort_keys=False, default_flow_style=None, width=10_000, allow_unicode=True
            )
            of_text(changed, path.name)
            if is_new:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            whole_file.replace(path, changed.encode())
    except RegistryError as error:
        raise AccessError(str(error)) from error
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror}") from error


def until(text: str, now: datetime) -> datetime:
    """Return the time that a text means: a day, a time, or how long from now: ``90d``, ``12h``, ``30m``, ``45s``.

    Raises:
        ValueError: it means none.
    """
    if match := re.fullmatch(r"(\d{1,6})([dhms])", text):
        unit = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}[match[2]]
        return (now + timedelta(**{unit: int(match[1])})).replace(microsecond=0)
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
