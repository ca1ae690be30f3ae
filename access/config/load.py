"""Flags, environment and file -> one validated configuration, every problem at once, each with its place."""

import json
import os
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from access import document
from access.config import crosscheck, shape
from access.config.sections import AccessConfig
from access.discovery import RESOLVERS
from access.errors import ConfigError
from access.files import FileError, read_text
from dl_inference.problem import Problem

ENVIRONMENT_PREFIX = "DL_INFERENCE_"
MAX_FILE_BYTES = 16 * 1024 * 1024

# Kubernetes puts DL_INFERENCE_PORT, DL_INFERENCE_SERVICE_HOST and more into every container beside a Service that
# is called dl-inference; none of ours ends like that.
_KUBERNETES = re.compile(r"(.+_)?(SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_.+)?)?)")


# The model servers' own variables, and those about a registry, which an operator may set for everything on a machine.
_MODEL_SERVERS = re.compile(
    r"(TORCH|TENSORFLOW)_.+|MAX_QUEUE|MAX_BATCH|TIMEOUT_MS|STREAM_IDLE_TIMEOUT_MS|REGISTER|ADVERTISE|WEIGHT|CAPACITY|GOODBYE_MS"
)

# Where the registry is and how to get in: for `dl-inference release` and `registry`, and for the source in it.
_REGISTRY = re.compile(r"REGISTRY(_.+)?")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that holds together.

    Attributes:
        config: the values in force.
        path: the file.
        origins: where each given value came from: ``access.yaml:3``, ``environment X`` or ``flag --x``; what is
            not here has its default.
    """

    config: AccessConfig
    path: Path
    origins: Mapping[document.Path, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Return the folder that relative paths start at."""
        return self.path.parent

    def origin(self, path: document.Path) -> str:
        """Say where the value at a path came from."""
        return self.origins.get(path, "default")


def load(path: Path, *, flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Loaded:
    """Read the configuration.

    Args:
        path: access.yaml.
        flags: top-level keys given on the command line; they win over everything.
        environment: variables; ``os.environ`` when not given. ``DL_INFERENCE_LIMITS__MAX_STREAMS`` is
            ``limits.max_streams``; values are written as in the file.

    Raises:
        ConfigError: holds every problem found.
    """
    try:
        text = read_text(path, MAX_FILE_BYTES)
    except FileError as error:
        raise ConfigError([Problem(str(path), str(error).removeprefix(f"{path}: "))]) from error
    parsed = document.parse(text, path.name)
    layers = _Layers(parsed.data, {place: f"{path.name}:{line}" for place, line in parsed.lines.items()})
    layers.add_environment(os.environ if environment is None else environment)
    layers.add_flags(flags or {})
    problems = [*parsed.problems, *layers.problems]
    if (
        not parsed.data and parsed.problems
    ):  # the text could not be read: whatever it leaves out is no problem of its own
        raise ConfigError(problems)
    try:
        config = AccessConfig.model_validate(layers.data)
    except ValidationError as error:
        problems += [_problem(details, layers) for details in error.errors(include_url=False)]
    problems += [
        Problem(_place(layers, finding.path) or path.name, finding.message, finding.remedy)
        for finding in crosscheck.findings(layers.data)
    ]
    if problems:
        raise ConfigError(sorted(dict.fromkeys(problems), key=_by_line))
    return Loaded(config, path, layers.origins)


def load_without_file(
    defaults: Mapping[str, Any], *, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> AccessConfig:
    """Return a configuration without a file, for who brings the routes himself.

    Args:
        defaults: top-level keys in place of the configuration's own defaults.
        flags: as in `load`.
        environment: as in `load`.

    Raises:
        ConfigError: holds every problem found.
    """
    layers = _Layers(dict(defaults), {})
    layers.add_environment(os.environ if environment is None else environment)
    layers.add_flags(flags)
    problems = layers.problems
    try:
        config = AccessConfig.model_validate(layers.data)
    except ValidationError as error:
        problems += [_problem(details, layers) for details in error.errors(include_url=False)]
    if problems:
        raise ConfigError(problems)
    return config


class _Layers:
    """The file's data with environment and flags laid over it."""

    def __init__(self, data: dict[str, Any], origins: dict[document.Path, str]) -> None:
        self.data = data
        self.origins = origins
        self.problems: list[Problem] = []

    def add_environment(self, environment: Mapping[str, str]) -> None:
        for variable, text in sorted(environment.items()):
            name = variable.removeprefix(ENVIRONMENT_PREFIX)
            if name == variable or _KUBERNETES.fullmatch(name) or _MODEL_SERVERS.fullmatch(name):
                continue
            if _REGISTRY.fullmatch(name):
                continue
            path = self._path(variable, name.lower().split("__"))
            if path is not None:
                self._set(path, _value(text, path), f"environment {variable}")

    def add_flags(self, flags: Mapping[str, Any]) -> None:
        for key, value in flags.items():
            self._set((key,), value, f"flag --{key.replace('_', '-')}")

    def _path(self, variable: str, words: Sequence[str]) -> document.Path | None:
        """Return the path that a variable names: keys of sections, then names of models or clusters in the file."""
        path: document.Path = ()
        for word in words:
            found = shape.section(shape.at(path))
            known = list(found.model_fields) if found else list(document.find(self.data, path) or ())
            keys = [key for key in known if re.sub(r"[^a-z0-9]", "_", str(key).lower()) == word]
            if len(keys) != 1 or shape.at((*path, keys[0])) is None:
                place = f"environment {variable}"
                reason = f"{word!r} fits {' and '.join(keys)}" if keys else f"there is no {word!r} {_inside(path)}"
                self.problems.append(Problem(place, reason, shape.nearest(word, map(str, known))))
                return None
            path = (*path, keys[0])
        return path

    def _set(self, path: document.Path, value: Any, origin: str) -> None:
        target: Any = self.data
        for step in path[:-1]:
            if not isinstance(target.get(step), dict):
                target[step] = {}
            target = target[step]
        target[path[-1]] = value
        for place in [each for each in self.origins if each[: len(path)] == path]:
            del self.origins[place]
        self.origins.update(dict.fromkeys(_nested(value, path), origin))


def _inside(path: document.Path) -> str:
    return f"in {document.place_of(path)}" if path else "in the configuration"


def _value(text: str, path: document.Path) -> Any:
    """Return what a variable's text means where it goes: 69 is a number, unless a name is wanted."""
    value = document.scalar(text)
    is_text = shape.plain(shape.at(path)) is str
    return text if is_text and value is not None and not isinstance(value, str) else value


def _nested(value: Any, path: document.Path) -> Iterator[document.Path]:
    yield path
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _nested(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _nested(item, (*path, index))


def _place(layers: _Layers, path: document.Path) -> str:
    """Say where a path is, or where it would have to be: the origin of the nearest value around it."""
    for length in range(len(path), -1, -1):
        if origin := layers.origins.get(path[:length]):
            return f"{origin} {document.place_of(path)}".rstrip()
    return document.place_of(path)


def _by_line(problem: Problem) -> tuple[str, int]:
    """Order problems as a reader of the file meets them."""
    match = re.match(r"(.*?):(\d+)( |$)", problem.place)
    return (match[1], int(match[2])) if match else (problem.place, 0)


def _problem(details: ErrorDetails, layers: _Layers) -> Problem:
    """Turn one of pydantic's errors into ours: its place in the file, what is wrong, what to do."""
    path = _path_in_data(details["loc"], layers.data)
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    place = _place(layers, path)
    if kind == "access":
        return Problem(place, context["message"], context["remedy"])
    if kind == "extra_forbidden":
        found = shape.section(shape.at(details["loc"][:-1]))
        return Problem(
            place, f"unknown key {path[-1]!r}", shape.nearest(str(path[-1]), found.model_fields if found else ())
        )
    if kind == "missing":
        return Problem(place, f"{path[-1]} is missing", _description(details["loc"]))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = value.get("kind") if isinstance(value, Mapping) else None
        message = f"there is no source of kind {tag!r}" if tag is not None else "`kind` is missing"
        return Problem(place, message, shape.nearest(str(tag), RESOLVERS))
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
    found = shape.section(shape.at(location[:-1])) if location else None
    field = found.model_fields.get(str(location[-1])) if found else None
    return (field.description or "") if field else ""


def _path_in_data(location: document.Path, data: Any) -> document.Path:
    """Leave out what pydantic adds to a path: the kind after a discovery source, ``[key]`` after a bad key."""
    path: document.Path = ()
    for step in location:
        if step == "[key]":
            continue
        if isinstance(data, Mapping) and step not in data and data.get("kind") == step:
            continue
        path = (*path, step)
        data = document.find({"": data}, ("", step))
    return path
