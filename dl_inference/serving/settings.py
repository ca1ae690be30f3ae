"""Settings that every model server has: those of a model, in model.yaml, and those of the process, by environment.

A server adds keys of its own in a subclass of `CommonSettings`, and variables of its own in one of `ProcessSettings`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dl_inference.problem import Problem
from dl_inference.serving.given import NOTHING, Given, limits_of, unknown
from dl_inference.serving.limits import CommonLimits, Priority
from dl_inference.variables import variable

FILE = "model.yaml"


class ModelFolderError(Exception):
    """A model folder that cannot be served, with every problem found in it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class LatestPolicy(BaseModel):
    """Serve the latest versions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latest: int = Field(gt=0, description="How many.")


class SpecificPolicy(BaseModel):
    """Serve certain versions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    specific: list[int] = Field(min_length=1, description="Which.")


class Golden(BaseModel):
    """What holds for the expected answers in samples/expected.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    required: bool = Field(default=True, description="Whether a version whose answers differ is kept from calls.")
    rtol: float = Field(default=1e-3, ge=0, description="What numbers may differ by, as a part of the expected one.")
    atol: float = Field(default=1e-5, ge=0, description="What they may differ by beside that.")


class CommonSettings(BaseModel):
    """What model.yaml may say, whatever serves the folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versions: list[int] | None = Field(
        default=None, min_length=1, description="Versions to serve; default: the latest."
    )
    version_policy: Literal["latest", "all"] | LatestPolicy | SpecificPolicy | None = Field(
        default=None, description="In place of versions: latest, {latest: 2}, all, or {specific: [1, 3]}."
    )
    labels: dict[str, int] = Field(default={}, description="Label -> version, for callers that ask by label.")
    aliases: list[str] = Field(default=[], description='Further names of the model, such as "39" for an old taskId.')
    timeout_ms: int = Field(
        default=60_000, gt=0, description="Deadline of calls that bring none, and the most any may take, ms."
    )
    priority: Priority | None = Field(
        default=None, description="Under `serve`: how much its calls matter at most; default: as callers say."
    )
    max_queue: int = Field(default=1024, gt=0, description="Calls waiting for the model; beyond it RESOURCE_EXHAUSTED.")
    load_timeout_ms: int = Field(
        default=600_000, gt=0, description="How long a version may take to be ready; then it is killed, ms."
    )
    max_load_memory_bytes: int | None = Field(
        default=None, gt=0, description="Most resident memory of a process until it is ready; default: what there is."
    )
    load: Literal["at_start", "on_demand"] | None = Field(
        default=None,
        description="Under `serve`: load the model at the start, or by the first call that needs it; default: as "
        "`serve` is told, else at_start.",
    )
    idle_unload_s: int | None = Field(
        default=None,
        gt=0,
        description="Under `serve`: a model that is loaded on demand is unloaded when no call has needed it for this "
        "time, s; default: as `serve` is told, else never.",
    )
    load_reports: bool = Field(
        default=True, description="Say in the trailers of each call how loaded the model is: docs/health.md."
    )
    allow_signature_change: bool = Field(
        default=False, description="Let a version take over whose inputs or outputs differ: docs/safe-releases.md."
    )
    golden: Golden = Field(
        default=Golden(), description="Comparison with the expected answers of the samples: docs/safe-releases.md."
    )
    limits: CommonLimits = Field(
        default=CommonLimits(), description="Bounds of messages and connections: docs/limits.md."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        wanted = cls.model_fields[str(info.field_name)].annotation
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        is_section = isinstance(wanted, type) and issubclass(wanted, BaseModel)  # which looks at its own keys
        is_free = is_section or wanted is bool or info.field_name == "settings"
        if not is_free and any(isinstance(each, bool) for each in inner):
            raise ValueError("true and false are neither numbers nor names; put a name in quotes")
        return value

    @field_validator("aliases", mode="before")
    @classmethod
    def _numbers_are_names(cls, value: Any) -> Any:
        # YAML reads 39 as a number; whoever writes it means the task id.
        return [str(v) if type(v) is int else v for v in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _labels_are_served(self) -> CommonSettings:
        if self.versions is not None and self.version_policy is not None:
            raise ValueError("versions and version_policy say the same thing twice: keep one of the two")
        named = self.named_versions
        for label, version in self.labels.items():
            if named is not None and version not in named:
                raise ValueError(f"label {label!r} names version {version}, which is not in versions")
        return self

    @property
    def named_versions(self) -> list[int] | None:
        """Return the versions that are asked for by number; None: it depends on which there are."""
        policy = self.version_policy
        return policy.specific if isinstance(policy, SpecificPolicy) else self.versions

    @property
    def latest_versions(self) -> int | None:
        """Return how many of the latest versions are asked for, where none is by number; None: all there are."""
        policy = self.version_policy
        if policy == "all":
            return None
        return policy.latest if isinstance(policy, LatestPolicy) else 1


class ProcessSettings(BaseModel):
    """What a process needs beside the model folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    drain_timeout_ms: int = Field(
        default=30_000, gt=0, description="How long calls in flight may run on after SIGTERM, ms."
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read ``DL_INFERENCE_<FIELD>``, for example ``DL_INFERENCE_DRAIN_TIMEOUT_MS=5000``.

        Raises:
            ValueError: a value does not fit; names the variable.
        """
        given = {field: environment[name] for field in cls.model_fields if (name := variable(field)) in environment}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = variable(str(first["loc"][0]))
            raise ValueError(f"{name}={environment[name]}: {first['msg']}") from None

    def completed(self, **others: Any) -> Self:
        """Return these with other values where no variable says anything; None leaves the default."""
        unsaid = others.keys() - self.model_fields_set
        return self.model_copy(update={name: others[name] for name in unsaid if others[name] is not None})


Settings = TypeVar("Settings", bound=CommonSettings)


def read_model_settings(file: Path, settings: type[Settings], given: Given = NOTHING) -> Settings:
    """Read model.yaml; a missing or empty file means every default.

    Args:
        file: model.yaml.
        settings: what it may say.
        given: what replaces its values.

    Raises:
        ModelFolderError: with every problem of the file and of what was given.
    """
    lines: dict[tuple[str, ...], int] = {}
    problems: list[Problem] = []
    document = _document(file, lines, problems)
    origins: dict[tuple[str, ...], str] = {}
    for path, text, origin in given.values(settings, problems):
        origins[path] = origin
        *around, key = path
        section = document
        for step in around:
            section = section.setdefault(step, {})
        if isinstance(section, dict):  # else the file's own value there is a problem that is found below
            section[key] = text
    try:
        found = settings.model_validate(document)
    except RecursionError:
        problems.append(Problem(str(file), "holds an alias that is part of itself", "write the value out"))
    except ValidationError as error:
        problems += [_problem(file, settings, (origins, lines), detail) for detail in error.errors()]
    if problems:
        raise ModelFolderError(problems)
    return found


def _document(file: Path, lines: dict[tuple[str, ...], int], problems: list[Problem]) -> dict[Any, Any]:
    """Return what the file holds; fill `lines` with where each key and item of it stands."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        remedy = "let the server's user read it, and enter its folder"
        raise ModelFolderError([Problem(str(file), f"cannot be read: {error.strerror}", remedy)]) from None
    except UnicodeDecodeError as error:
        raise ModelFolderError([Problem(str(file), f"is not UTF-8: {error}", "save it as UTF-8")]) from None
    try:
        document = yaml.safe_load(text)
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ModelFolderError([Problem(str(file), f"is not YAML: {error}", "correct this line")]) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ModelFolderError([Problem(str(file), f"holds a {type(document).__name__}", "write 'key: value' lines")])
    for path, line, node in _nodes(root):
        lines.setdefault(path, line)
        if node.tag == "tag:yaml.org,2002:int" and _ODD_NUMBER.fullmatch(node.value):
            read_as = yaml.safe_load(node.value)
            place = f"{file}:{line}: {'.'.join(path)}"
            text = f"YAML reads {node.value} as {read_as}"
            problems.append(
                Problem(place, text, f"write {read_as}, or the number that is meant without a zero in front")
            )
    return document


_ODD_NUMBER = re.compile(r"[-+]?0[0-7_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+")
"""Octal numbers and those to the base of 60, which hardly anybody means."""


def _nodes(root: Any) -> Iterator[tuple[tuple[str, ...], int, Any]]:
    """Yield path, line and node of each key's value and each item; what aliases repeat, once."""
    seen = set()
    left: list[tuple[tuple[str, ...], int, Any]] = [((), root.start_mark.line + 1, root)]
    while left:
        path, line, node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield path, line, node
        if isinstance(node, yaml.MappingNode):
            pairs = ((str(key.value), key.start_mark.line, value) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            pairs = ((str(index), each.start_mark.line, each) for index, each in enumerate(node.value))
        else:
            continue
        left += [((*path, step), at + 1, value) for step, at, value in pairs]


def _problem(
    file: Path,
    settings: type[CommonSettings],
    known: tuple[Mapping[tuple[str, ...], str], Mapping[tuple[str, ...], int]],
    detail: Any,
) -> Problem:
    origins, lines = known
    location = tuple(map(str, detail["loc"]))
    line = next((lines[location[:end]] for end in range(len(location), 0, -1) if location[:end] in lines), None)
    at = f"{file}:{line}" if line else str(file)
    place = ".".join(location)
    if detail["type"] == "extra_forbidden":
        names = limits_of(settings) if location[0] == "limits" else settings.model_fields
        return unknown(f"{at}: {place}", location[-1], names)
    message = str(detail["msg"]).removeprefix("Value error, ")
    if location in origins:
        return Problem(origins[location], message, "correct the value")
    return Problem(f"{at}: {place}" if place else at, message, "correct the value")
