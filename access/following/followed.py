"""Something that is read again when its files change, and whose last good value outlives every bad reading."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from access.errors import AccessError
from access.files import fingerprint

Value = TypeVar("Value")

log = logging.getLogger("access")

MAX_FILE_BYTES = 16 * 1024 * 1024

# A file that is still being written gets this many looks in a row to come to rest.
MAX_UNSETTLED_LOOKS = 20


class Followed(Generic[Value]):
    """One configuration file or discovery source.

    Args:
        name: in logs, metrics and status.
        read: returns the present value, or raises `AccessError`.
        paths: the files that the value depends on; asked again after each reading.
        count: told of every reading that ended well or badly: ``Proxy.count_reload``.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], Value],
        paths: Callable[[], Sequence[Path]],
        *,
        count: Callable[[str, bool], None] = lambda name, ok: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.error: str | None = None
        self._read, self._paths, self._count, self._now = read, paths, count, now
        self._value: Value | None = None
        self._good_at = self._same_at = 0.0
        self._failed_at: float | None = None
        self._reads = {True: 0, False: 0}
        self._seen: tuple[str, ...] = ()
        self._candidate: tuple[str, ...] = ()
        self._unsettled_looks = 0
        self._poked = threading.Event()

    @property
    def value(self) -> Value:
        """Return the last good value; there is one once `start` has returned."""
        if self._value is None:
            raise AccessError(f"{self.name} has not been read yet")
        return self._value

    @property
    def paths(self) -> Sequence[Path]:
        """Return the files to watch now."""
        return self._paths()

    def start(self) -> None:
        """Read for the first time.

        Raises:
            AccessError: there is no good value to fall back to.
        """
        self._seen = self._candidate = self._look()
        self._value = self._read()
        self._good_at = self._same_at = self._now()

    def start_with(self, value: Value, good_at: float, error: str) -> None:
        """Go on with a value from elsewhere, as if it had been read before the error.

        Args:
            value: holds until a reading ends well.
            good_at: when it was read, seconds since the epoch; 0: never.
            error: what came of reading now.
        """
        self._value, self._good_at, self.error = value, good_at, error
        self._failed_at = self._now()

    def poke(self) -> None:
        """Make the next `look` read again; any thread may call it."""
        self._poked.set()

    def is_settling(self) -> bool:
        """Tell whether a change was seen that may not be over yet: look again soon."""
        return self._unsettled_looks > 0

    def look(self, *, force: bool = False) -> bool:
        """Read again if poked, or if the files changed since the last reading and two looks in a row saw the same.

        Args:
            force: read in any case, at once.

        Returns:
            Whether there is a new good value.
        """
        seen = self._look()
        if self._poked.is_set():
            self._poked.clear()  # before reading: what changes meanwhile pokes again
            force = True
        if not force:
            if seen == self._seen:
                self._unsettled_looks = 0
                self._same_at = self._now()
                return False
            if seen != self._candidate and self._unsettled_looks < MAX_UNSETTLED_LOOKS:
                self._candidate = seen
                self._unsettled_looks += 1
                return False
        self._unsettled_looks = 0
        self._seen = self._candidate = seen
        return self._read_again()

    def status(self) -> dict[str, Any]:
        """Return what /status shows; times are UTC."""
        return {
            "name": self.name,
            "ok": self.error is None,
            "error": self.error,
            "last_good": (self._good_at and datetime.fromtimestamp(self._good_at, UTC).isoformat(timespec="seconds"))
            or None,
            "last_good_unix_s": round(self._good_at, 3),
            "failed_since_unix_s": self._failed_at and round(self._failed_at, 3),
            "reloads_ok": self._reads[True],
            "reloads_failed": self._reads[False],
        }

    def _read_again(self) -> bool:
        before = self._paths()
        try:
            value = self._read()
        except AccessError as error:
            if self.error is None:
                self._failed_at = self._now()
                self._good_at = max(self._good_at, self._same_at)  # a value ages from when it was last known to hold
                log.error("%s: the last good state stays: %s", self.name, error)
            elif str(error) != self.error:
                log.info("%s: still: %s", self.name, error)
            self.error = str(error)
            self._done(False)
            if self._paths() != before:  # a rejected configuration also waits for the files that it names
                self._seen = self._candidate = self._look()
            return False
        if self.error is not None:
            log.info("%s: good again", self.name)
        self.error, self._failed_at, self._value = None, None, value
        self._good_at = self._same_at = self._now()
        self._done(True)
        return True

    def _done(self, ok: bool) -> None:
        self._reads[ok] += 1
        self._count(self.name, ok)

    def _look(self) -> tuple[str, ...]:
        return tuple(fingerprint(path, MAX_FILE_BYTES) for path in self._paths())
