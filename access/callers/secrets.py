"""The files that callers.yaml names: secrets of signed requests, and the public keys of issuers of tokens."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from access.callers.schema import CallersConfig
from access.errors import ConfigError
from access.files import FileError, read_text
from dl_inference.problem import Problem

LEAST_SECRET_BYTES = 32
_MOST_SECRET_BYTES = 4096
_MOST_JWKS_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Contents:
    """What the files say, by the names that the document has for them.

    Attributes:
        secrets: bytes; white space at both ends is none of them.
        jwks: JSON objects.
    """

    secrets: dict[str, bytes]
    jwks: dict[str, dict[str, Any]]


def paths(config: CallersConfig, folder: Path) -> tuple[Path, ...]:
    """Return the files that the document names; relative ones begin in its folder."""
    return tuple(folder / name for name in (*_secrets(config), *_jwks(config)))


def read(config: CallersConfig, folder: Path) -> Contents:
    """Read the files.

    Raises:
        ConfigError: holds a problem for each that cannot be used.
    """
    problems: list[Problem] = []
    secrets, jwks = {}, {}
    for name in _secrets(config):
        try:
            secrets[name] = secret = read_text(folder / name, _MOST_SECRET_BYTES).strip().encode()
        except FileError as error:
            problems.append(Problem(f"secret_file {name}", str(error)))
            continue
        if len(secret) < LEAST_SECRET_BYTES:
            text = f"{len(secret)} bytes are too few for a secret, at least {LEAST_SECRET_BYTES}"
            problems.append(Problem(f"secret_file {name}", text, "`openssl rand -hex 32` makes one"))
    for name in _jwks(config):
        try:
            jwks[name] = json.loads(read_text(folder / name, _MOST_JWKS_BYTES))
        except (FileError, ValueError) as error:
            problems.append(Problem(f"jwks {name}", str(error)))
    if problems:
        raise ConfigError(problems)
    return Contents(secrets, jwks)


def _secrets(config: CallersConfig) -> Iterator[str]:
    for caller in config.callers.values():
        yield from (each.secret_file for each in caller.signing)


def _jwks(config: CallersConfig) -> Iterator[str]:
    yield from (each.jwks for each in config.jwt)
