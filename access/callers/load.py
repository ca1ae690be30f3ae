"""callers.yaml -> the document of the data plane, or every problem at once, each with its place."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from access import document
from access.callers.schema import Allowed, Caller, CallersConfig
from access.errors import ConfigError
from access.files import FileError, read_text
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


def for_data_plane(config: CallersConfig) -> dict[str, Any]:
    """Return the CallersConfig document of dataplane/crates/core/src/callers/document.rs."""
    callers = [
        {
            "name": name,
            "keys": [{"id": key.id, "sha256": key.sha256, "expires": _unix_s(key.expires)} for key in caller.keys],
            "certificates": list(caller.certificates),
            **_allowed(caller),
        }
        for name, caller in config.callers.items()
    ]
    return {"callers": callers, "anonymous": config.anonymous and _allowed(config.anonymous)}


def _allowed(caller: Allowed) -> dict[str, Any]:
    return {"allow": [rule.model_dump(mode="json") for rule in caller.allow], "priority": caller.priority}


def _unix_s(moment: datetime | None) -> int | None:
    return None if moment is None else max(0, int(moment.timestamp()))


def _twice(config: CallersConfig) -> Iterator[tuple[document.Path, str, str]]:
    """Find credentials that are those of two callers, and keys of one caller with the same id."""
    keys: dict[str, str] = {}
    certificates: dict[str, str] = {}
    for name, caller in config.callers.items():
        yield from _ids(name, caller)
        for index, key in enumerate(caller.keys):
            path = ("callers", name, "keys", index)
            if (other := keys.setdefault(key.sha256, f"{name}'s {key.id}")) != f"{name}'s {key.id}":
                yield path, f"key {key.id} is the same key as {other}", "make a key for each: `callers rotate`"
        for index, certificate in enumerate(caller.certificates):
            if (other := certificates.setdefault(certificate, name)) != name:
                path = ("callers", name, "certificates", index)
                yield path, f"certificate {certificate} is {other}'s, too", "one certificate is one caller's"


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
