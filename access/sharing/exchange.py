"""One exchange with the other access services by a Redis: write the own record, read theirs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from access.errors import AccessError
from access.files import FileError, read_text
from access.sharing.config import Place

if TYPE_CHECKING:
    from redis import Redis

LIFE_S = 3.0
"""A record that is not written again is gone after this time, and so is who wrote it."""
ANSWER_S = 1.0
"""Longest wait for each answer of the Redis."""
MOST_INSTANCES = 1000
MOST_RECORD_BYTES = 1024 * 1024
MOST_BYTES = 64 * 1024 * 1024
"""Of all records together."""
MAX_PASSWORD_BYTES = 4096

_INSTANCE = re.compile(rb"[0-9a-f]{16}")
# The list of who shares goes when nobody has for so long.
_LIST_LIFE_S = 3600


class ExchangeError(AccessError):
    """The Redis cannot be used now."""


class Exchange:
    """By one Redis. Constructing connects to nothing.

    Args:
        place: of the Redis.
        group: of access services.
        instance: this one, 16 hexadecimal digits.
        password_file: read at each login.
        ca_file: certificates of the authorities to trust.
    """

    def __init__(
        self, place: Place, group: str, instance: str, *, password_file: Path | None = None, ca_file: Path | None = None
    ) -> None:
        self._place, self._instance = place, instance.encode()
        self._password_file, self._ca_file = password_file, ca_file
        self._list = f"dl-inference:limits:{group}".encode()
        self._client: Redis | None = None
        self._most_record_bytes = MOST_RECORD_BYTES

    @property
    def most_record_bytes(self) -> int:
        """Return how long a record may be: less where there are many."""
        return self._most_record_bytes

    def swap(self, record: bytes) -> Mapping[str, bytes | None]:
        """Write the own record and return those of the others, by instance; None for what is no text at all.

        At most one byte more than `most_record_bytes` of each is read.

        Raises:
            ExchangeError: it went wrong; every wait has a limit.
        """
        try:
            return self._swap(record)
        except _failures() as error:
            raise ExchangeError(self._said(error)) from error

    def leave(self) -> None:
        """Take the own record away, so that the others need not wait for its end.

        Raises:
            ExchangeError: it went wrong; every wait has a limit.
        """
        if self._client is None:
            return
        try:
            pipe = self._client.pipeline(transaction=False)
            pipe.srem(self._list, self._instance)
            pipe.delete(self._record(self._instance))
            pipe.execute()
            self._client.close()
        except _failures() as error:
            raise ExchangeError(self._said(error)) from error

    def _swap(self, record: bytes) -> dict[str, bytes | None]:
        if self._client is None:
            self._client = self._connect()
        pipe = self._client.pipeline(transaction=False)
        pipe.set(self._record(self._instance), record, px=round(LIFE_S * 1000))
        pipe.sadd(self._list, self._instance)
        pipe.expire(self._list, _LIST_LIFE_S)
        pipe.scard(self._list)
        pipe.srandmember(self._list, MOST_INSTANCES)
        *_, count, members = pipe.execute()
        if count > MOST_INSTANCES:
            raise ExchangeError(f"{count} access services are in {self._list.decode()}, more than {MOST_INSTANCES}")
        others = sorted({*members} - {self._instance})
        self._most_record_bytes = min(MOST_RECORD_BYTES, MOST_BYTES // (len(others) + 1))
        known = [each for each in others if _INSTANCE.fullmatch(each)]
        for each in known:
            pipe.getrange(self._record(each), 0, self._most_record_bytes)
        found = dict(zip(known, pipe.execute(raise_on_error=False), strict=True))
        if gone := [each for each, value in found.items() if value == b""]:
            self._client.srem(self._list, *gone)
        foreign = {repr(each[:40])[2:-1]: None for each in others if each not in found}
        return foreign | {
            each.decode(): value if isinstance(value, bytes) else None for each, value in found.items() if value != b""
        }

    def _record(self, instance: bytes) -> bytes:
        return self._list + b":" + instance

    def _connect(self) -> "Redis":
        try:
            import redis  # noqa: PLC0415  (an extra)
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.retry import Retry  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise ExchangeError(f"{error.name} is not installed: pip install 'dl-inference[redis]'") from error
        place, given = self._place, self._credentials

        class Credentials(redis.CredentialProvider):
            def get_credentials(self) -> Any:
                return given()

        tls: dict[str, Any] = {
            "ssl": True,
            "ssl_check_hostname": True,
            "ssl_ca_certs": self._ca_file and str(self._ca_file),
        }
        return redis.Redis(
            host=place.host,
            port=place.port,
            db=place.database,
            protocol=2,  # older ones than Redis 6 know no other
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 0),
            credential_provider=Credentials() if given() else None,
            **(tls if place.is_tls else {}),
        )

    def _credentials(self) -> tuple[str, ...]:
        place = self._place
        password = place.password
        if self._password_file is not None:
            password = read_text(self._password_file, MAX_PASSWORD_BYTES).rstrip("\r\n")
        if password is None:
            return ()
        return (password,) if place.username is None else (place.username, password)

    def _said(self, error: Exception) -> str:
        """Return what the Redis said, on one line, and no password that it may have repeated."""
        text = "".join(each if each.isprintable() else " " for each in str(error))[:300]
        password = self._place.password
        return text.replace(password, "***") if password else text


def _failures() -> tuple[type[Exception], ...]:
    ours = (OSError, ValueError, FileError)
    try:
        from redis import RedisError  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError:
        return ours
    return (*ours, RedisError)
