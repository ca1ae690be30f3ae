"""What the configuration says about the Redis that limits are shared by."""

from typing import Annotated, Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, PlainSerializer, SecretStr, model_validator

from access.fields import Name, Section, problem
from dl_inference.address import fault

DEFAULT_PORT = 6379
MOST_DATABASES = 10_000

_REMEDY = "write redis://HOST:PORT/DATABASE, or rediss:// for TLS; a user and a password may be in it: USER:PASSWORD@"


class Place(NamedTuple):
    """Where a Redis is, and who logs in."""

    host: str
    port: int
    database: int
    is_tls: bool
    username: str | None
    password: str | None

    def __str__(self) -> str:
        """Return the place without who logs in."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' if self.is_tls else ''}://{host}:{self.port}/{self.database}"


def place_of(url: str) -> Place:
    """Return what a URL says.

    Raises:
        ValueError: it is none of a Redis; the text does not repeat it.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss"):
        raise ValueError("its scheme is not redis or rediss")
    if parts.query or parts.fragment:
        raise ValueError("nothing may follow the database")
    port, database = parts.port or DEFAULT_PORT, parts.path.removeprefix("/") or "0"
    host = parts.hostname or ""
    if reason := fault(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"):
        raise ValueError(reason)
    if not (database.isascii() and database.isdecimal() and int(database[:6]) < MOST_DATABASES):
        raise ValueError("its path is not the number of a database")
    username, password = (unquote(it) if it else None for it in (parts.username, parts.password))
    return Place(host, port, int(database), parts.scheme == "rediss", username, password)


def _checked(url: Any) -> Any:
    if not isinstance(url, str | SecretStr):
        raise problem("that is not the address of a Redis", _REMEDY)  # without the value: it may hold a password
    text = url if isinstance(url, str) else url.get_secret_value()
    try:
        place_of(text)
    except ValueError as error:
        reason = str(error) if "port" not in str(error).lower() else "its port is none"
        raise problem(f"that is not the address of a Redis: {reason}", _REMEDY) from None
    return SecretStr(text)


def _shown(url: SecretStr) -> str:
    return str(place_of(url.get_secret_value()))


Url = Annotated[SecretStr, BeforeValidator(_checked), PlainSerializer(_shown)]


class SharedLimits(Section):
    """Limits are shared by a Redis, by who needs them where: `pip install 'dl-inference[redis]'`.

    [What it does, and what follows when it is lost](call-limits.md#by-a-redis).
    """

    redis: Url = Field(
        description="`redis://HOST:PORT/DATABASE`, `rediss://` with TLS; a user and password may be in it, "
        "the password better in `password_file`"
    )
    group: Name = Field("default", description="access services with the same name here share limits")
    password_file: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="file that holds the password, read at each login; relative paths start at the configuration's "
        "folder",
    )
    ca_file: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="`rediss`: certificates of the authorities to trust, PEM; null: the system's"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        place = place_of(self.redis.get_secret_value())
        if place.password is not None and self.password_file is not None:
            raise problem("there is a password in `redis` and a `password_file`", "keep the file")
        if self.ca_file is not None and not place.is_tls:
            raise problem("there is a `ca_file`, but no TLS", "write rediss://")
        return self
