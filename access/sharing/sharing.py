"""Limits shared by a Redis, while the service runs: a thread exchanges, and the control loop looks whether it does.

No call waits for any of it: the data plane has its parts, and the last ones hold until others are said.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from access.sharing import records
from access.sharing.config import SharedLimits, place_of
from access.sharing.exchange import LIFE_S, Exchange, ExchangeError
from access.sharing.shares import Calm, Key, least, shares

log = logging.getLogger("access")

EVERY_S = 1.0
STOP_S = 2.0
"""Longest wait for the thread at the end: for the answer that it waits for, and its goodbye."""
_MOST_SAID = 5


class Plane(Protocol):
    """What is needed of `dl_inference._native.Proxy`, which documents it."""

    def wanted_limits(self, over_s: float, least: float) -> list[tuple[str, str, str, float]]: ...  # noqa: D102
    def share_limits(self, rest: float | None, parts: Sequence[tuple[str, str, str, float]]) -> None: ...  # noqa: D102


class Sharing:
    """Sharing by one Redis. Constructing starts nothing.

    Args:
        config: says which, and with whom.
        folder: where its relative paths start.
        plane: the data plane.
        instances: among how many access services limits are divided while the Redis is lost.
    """

    def __init__(self, config: SharedLimits, folder: Path, plane: Plane, instances: Callable[[], int]) -> None:
        self.config = config
        place = place_of(config.redis.get_secret_value())
        self._name = str(place)
        self._exchange = Exchange(
            place,
            config.group,
            secrets.token_hex(8),
            password_file=folder / config.password_file if config.password_file else None,
            ca_file=folder / config.ca_file if config.ca_file else None,
        )
        self._plane, self._instances = plane, instances
        self._thread = threading.Thread(target=self._run, name="shared-limits", daemon=True)
        self._stopping = threading.Event()
        # Held while parts are said, so that those of an exchange never come after the end of it was said.
        self._lock = threading.Lock()
        self._calm: Calm | None = None
        self._count = 1
        self._good_at: float | None = None
        self._error = "no answer yet"
        self._faults: dict[str, str] = {}
        self._is_ok: bool | None = None
        self._lost_since: float | None = None
        self._began = self._asked_at = time.monotonic()

    def start(self) -> None:
        """Begin to exchange, without waiting."""
        self._began = self._asked_at = time.monotonic()
        self._thread.start()

    def leave(self) -> None:
        """Begin to end, without waiting; the parts that hold now stay."""
        self._stopping.set()

    def stop(self) -> None:
        """End, and divide limits by `instances` again."""
        self.leave()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
        with self._lock:
            self._plane.share_limits(None, [])

    def look(self) -> None:
        """See whether limits are still shared; when no longer, divide them. The control loop calls it."""
        with self._lock:
            now = time.monotonic()
            is_ok = self._good_at is not None and now - self._good_at <= LIFE_S
            is_early = self._is_ok is None and now - self._began <= LIFE_S
            if is_ok == self._is_ok or (is_early and not is_ok):
                return
            before, self._is_ok = self._is_ok, is_ok
            if not is_ok:
                self._calm, self._lost_since = None, round(time.time(), 3)
                self._plane.share_limits(None, [])
            else:
                self._lost_since = None
        if is_ok:
            again = "again " if before is False else ""
            log.info("%s: %d access services share limits %sin group %s", self._name, self._count, again, self._group)
        else:
            log.warning("%s", self._warning())

    def warnings(self) -> list[str]:
        """Return what an operator should know now."""
        return [self._warning()] if self._is_ok is False else []

    def status(self) -> dict[str, Any]:
        """Return what /status shows."""
        is_ok = self._is_ok is True
        return {
            "redis": self._name,
            "group": self._group,
            "ok": is_ok,
            "instances": self._count if is_ok else None,
            "lost_since_unix_s": self._lost_since,
            "error": None if is_ok else self._error,
            "refused_records": len(self._faults),
        }

    @property
    def _group(self) -> str:
        return self.config.group

    def _warning(self) -> str:
        return (
            f"{self._name} is lost ({self._error}): each access service allows 1/{self._instances()} of every limit, "
            "as `instances` says, until it is back; see that it runs, can be reached from here and lets us in"
        )

    # --- in the thread

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = time.monotonic() + EVERY_S
            try:
                self._once()
            except ExchangeError as error:
                self._error = str(error)
            except Exception as error:  # what it answers may be anything
                text = f"{type(error).__name__} where it was read"
                if text != self._error:
                    log.exception("%s: sharing limits failed; it is tried again", self._name)
                self._error = text
        try:
            self._exchange.leave()
        except ExchangeError as error:
            log.debug("%s: no goodbye: %s", self._name, error)

    def _once(self) -> None:
        began = time.monotonic()
        rows = self._plane.wanted_limits(began - self._asked_at, least(self._count))
        self._asked_at = began
        most = self._exchange.most_record_bytes
        own = {(caller, model, limit): part for caller, model, limit, part in rows}
        found = self._exchange.swap(records.dump(own, most))
        others = self._parsed(found)
        with self._lock:
            # By now the own record may be gone again, and its part with the others.
            if self._stopping.is_set() or time.monotonic() - began > LIFE_S:
                raise ExchangeError(f"an exchange took more than {LIFE_S:.0f} s")
            if self._calm is None:
                self._calm = Calm(1 / self._instances())
            self._count = len(others) + 1
            rest, parts = self._calm.next(*shares(own, others))
            self._plane.share_limits(rest, [(*key, part) for key, part in parts.items()])
            self._good_at = began

    def _parsed(self, found: Any) -> list[dict[Key, float]]:
        """Return the demands of the others; what is no record is left out, and said once."""
        good, faults = [], {}
        most = self._exchange.most_record_bytes
        for instance, data in found.items():
            try:
                if data is None:
                    raise records.RecordError("no access service writes such a thing")
                good.append(records.parse(data, most))
            except records.RecordError as error:
                faults[instance] = str(error)
        new = [(name, why) for name, why in faults.items() if name not in self._faults]
        for name, why in new[:_MOST_SAID]:
            log.warning(
                "%s: the record of %s in group %s is left out: %s; see who else writes there",
                self._name,
                name,
                self._group,
                why,
            )
        self._faults = faults
        return good
