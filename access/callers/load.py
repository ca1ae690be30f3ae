"""callers.yaml -> the document of the data plane, or every problem at once, each with its place."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from access import document
from access.callers.schema import Allowed, Caller, CallersConfig, Secret
from access.callers.secrets import Contents
from access.config.sections import CallLimits
from access.errors import ConfigError
from access.files import FileError, read_text
from access.state import call_limits
from dl_inference.problem import Problem

MAX_FILE_BYTES = 16 * 1024 * 1024


def load(path: Path) -> CallersConfig:
    """Read the file.

    Raises:
        ConfigError: holds every problem found.
    """
    try:
        text = read_text(path, MAX_FILE_BYTES)
    except FileError as error:
        remedy = "`dl-inference callers add NAME` makes the file"
        raise ConfigError([Problem(str(path), str(error).removeprefix(f"{path}: "), remedy)]) from error
    return of_text(text, path.name)


def of_text(text: str, name: str) -> CallersConfig:
    """Return what a text says; `name` is its file's in problems.

    Raises:
        ConfigError: holds every problem found.
    """
    parsed = document.parse(text, name)
    if parsed.problems:
        raise ConfigError(parsed.problems)
    try:
        config = CallersConfig.model_validate(parsed.data)
    except ValidationError as error:
        raise ConfigError([_problem(each, parsed, name) for each in error.errors(include_url=False)]) from error
    twice = [Problem(_place(path, parsed, name), message, remedy) for path, message, remedy in _twice(config)]
    if twice:
        raise ConfigError(twice)
    return config


def for_data_plane(config: CallersConfig, contents: Contents | None = None, *, instances: int = 1) -> dict[str, Any]:
    """Return the CallersConfig document of dataplane/crates/core/src/callers/document.rs.

    Args:
        config: the document.
        contents: of the files that it names; None where it is only asked who may do what.
        instances: access services that share the limits.
    """

    def limits(given: CallLimits | None) -> dict[str, Any] | None:
        return None if given is None else call_limits(given, instances)

    callers = [
        {
            "name": name,
            "keys": [{"id": key.id, "sha256": key.sha256, "expires": _unix_s(key.expires)} for key in caller.keys],
            "certificates": list(caller.certificates),
            "signing": [] if contents is None else [_secret(each, contents) for each in caller.signing],
            "tokens": [] if contents is None else [each.model_dump() for each in caller.tokens],
            "limits": limits(caller.limits),
            "model_limits": {
                name: limits(each) for name, each in (caller.limits.models if caller.limits else {}).items()
            },
            **_allowed(caller),
        }
        for name, caller in config.callers.items()
    ]
    jwt = [] if contents is None else [{**each.model_dump(), "jwks": contents.jwks[each.jwks]} for each in config.jwt]
    return {"callers": callers, "anonymous": config.anonymous and _allowed(config.anonymous), "jwt": jwt}


def _secret(secret: Secret, contents: Contents) -> dict[str, Any]:
    return {
        "id": secret.id,
        "secret": contents.secrets[secret.secret_file].hex(),
        "expires": _unix_s(secret.expires),
    }


def _allowed(caller: Allowed) -> dict[str, Any]:
    return {"allow": [rule.model_dump(mode="json") for rule in caller.allow], "priority": caller.priority}


def _unix_s(moment: datetime | None) -> int | None:
    return None if moment is None else max(0, int(moment.timestamp()))


def _twice(config: CallersConfig) -> Iterator[tuple[document.Path, str, str]]:
    """Find credentials that are those of two callers, and keys of one caller with the same id."""
    keys: dict[str, str] = {}
    secrets: dict[str, str] = {}
    certificates: dict[str, str] = {}
    for name, caller in config.callers.items():
        yield from _ids(name, caller)
        for index, key in enumerate(caller.keys):
            path = ("callers", name, "keys", index)
            if (other := keys.setdefault(key.sha256, f"{name}'s {key.id}")) != f"{name}'s {key.id}":
                yield path, f"key {key.id} is the same key as {other}", "make a key for each: `callers rotate`"
        for index, secret in enumerate(caller.signing):
            if (other := secrets.setdefault(secret.id, name)) != name or _is_twice(secret.id, caller):
                path = ("callers", name, "signing", index)
                yield path, f"a secret of {other} is called {secret.id}, too", "give each an id of its own"
        yield from _issuers(name, caller, config)
        for index, certificate in enumerate(caller.certificates):
            if (other := certificates.setdefault(certificate, name)) != name:
                path = ("callers", name, "certificates", index)
                yield path, f"certificate {certificate} is {other}'s, too", "one certificate is one caller's"


def _is_twice(secret_id: str, caller: Caller) -> bool:
    return sum(each.id == secret_id for each in caller.signing) > 1


def _issuers(name: str, caller: Caller, config: CallersConfig) -> Iterator[tuple[document.Path, str, str]]:
    known = [each.issuer for each in config.jwt]
    for index, token in enumerate(caller.tokens):
        if known.count(token.issuer) != 1:
            what = "no" if token.issuer not in known else "several"
            yield ("callers", name, "tokens", index), f"jwt has {what} {token.issuer}", "name it once under jwt"


def _ids(name: str, caller: Caller) -> Iterator[tuple[document.Path, str, str]]:
    for each, count in Counter(key.id for key in caller.keys).items():
        if count > 1:
            yield ("callers", name, "keys"), f"{count} keys have the id {each}", "give each an id of its own"


def _problem(details: ErrorDetails, parsed: document.Document, name: str) -> Problem:
    path = tuple(step for step in details["loc"] if step != "[key]")
    kind, context = details["type"], details.get("ctx", {})
    place = _place(path, parsed, name)
    if kind == "access":
        return Problem(place, context["message"], context["remedy"])
    if kind == "extra_forbidden":
        return Problem(place, f"unknown key {path[-1]!r}", "docs/callers.md lists the keys")
    if kind == "missing":
        return Problem(place, f"{path[-1]} is missing")
    return Problem(place, details["msg"].removeprefix("Input ")[:200])


def _place(path: document.Path, parsed: document.Document, name: str) -> str:
    for length in range(len(path), 0, -1):
        if line := parsed.lines.get(path[:length]):
            return f"{name}:{line} {document.place_of(path)}"
    return f"{name} {document.place_of(path)}".rstrip()
