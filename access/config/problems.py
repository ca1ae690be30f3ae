"""What pydantic and the cross-checks find wrong in a configuration, as problems with their place and remedy."""

import json
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from access import document, listening
from access.config import crosscheck, key_types
from access.config.layers import Layers
from access.discovery import RESOLVERS
from dl_inference.problem import Problem


def of_values(error: ValidationError, layers: Layers) -> list[Problem]:
    """Return what is wrong with single values."""
    return [_problem(details, layers) for details in error.errors(include_url=False)]


def of_agreement(layers: Layers, name: str) -> list[Problem]:
    """Return what does not fit together; what has no place is a problem of the file `name`."""
    return [
        Problem(layers.place(finding.path) or name, finding.message, finding.remedy)
        for finding in crosscheck.findings(layers.data)
    ]


def by_line(problem: Problem) -> tuple[str, int]:
    """Order problems as a reader of the file meets them."""
    match = re.match(r"(.*?):(\d+)( |$)", problem.place)
    return (match[1], int(match[2])) if match else (problem.place, 0)


def _problem(details: ErrorDetails, layers: Layers) -> Problem:
    """Turn one of pydantic's errors into ours: its place in the file, what is wrong, what to do."""
    path = _path_in_data(details["loc"], layers.data)
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    place = layers.place(path)
    if kind == "access":
        return Problem(place, context["message"], context["remedy"])
    if kind == "extra_forbidden":
        found = key_types.section(key_types.type_at(details["loc"][:-1]))
        return Problem(
            place, f"unknown key {path[-1]!r}", key_types.nearest(str(path[-1]), found.model_fields if found else ())
        )
    if kind == "missing":
        return Problem(place, f"{path[-1]} is missing", _description(details["loc"]))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = value.get("kind") if isinstance(value, Mapping) else None
        message = f"there is no source of kind {tag!r}" if tag is not None else "`kind` is missing"
        return Problem(place, message, key_types.nearest(str(tag), RESOLVERS))
    shown = json.dumps(value) if value is None or isinstance(value, bool) else reprlib.repr(value)
    return Problem(place, f"{shown} {_reason(details['msg'])}", _description(details["loc"]))


def _reason(message: str) -> str:
    message = message.removeprefix("Input ")
    for known, ours in (
        ("should be a valid dictionary", "should be a mapping of keys to values"),
        ("should be a valid tuple", "should be a list"),
        ("should be a valid string", "should be a text (put it in quotes)"),
        ("should be a valid integer", "should be a whole number"),
    ):
        if message.startswith(known):
            return ours
    return message[:1].lower() + message[1:]


def _description(location: document.Path) -> str:
    found = key_types.section(key_types.type_at(location[:-1])) if location else None
    field = found.model_fields.get(str(location[-1])) if found else None
    return (field.description or "") if field else ""


def _path_in_data(location: document.Path, data: Any) -> document.Path:
    """Leave out what pydantic adds to a path: the kind after a source or a port, ``[key]`` after a bad key."""
    path: document.Path = ()
    for step in location:
        if step in ("[key]", *listening.KINDS):
            continue
        if isinstance(data, Mapping) and step not in data and data.get("kind") == step:
            continue
        path = (*path, step)
        data = document.find({"": data}, ("", step))
    return path
