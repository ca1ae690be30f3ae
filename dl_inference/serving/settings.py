"""Settings that every model server has: those of a model, in model.yaml, and those of the process, by environment.

A server adds keys of its own in a subclass of `CommonSettings`, and variables of its own in one of `ProcessSettings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dl_inference.problem import Problem
from dl_inference.serving.given import NOTHING, Given, limits_of, unknown
from dl_inference.serving.limits import CommonLimits
from dl_inference.variables import variable

FILE = "model.yaml"


class ModelFolderError(Exception):
    """A model folder that cannot be served, with every problem found in it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class CommonSettings(BaseModel):
    """What model.yaml may say, whatever serves the folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versions: list[int] | None = Field(
        default=None, min_length=1, description="Versions to serve; default: the latest."
    )
    labels: dict[str, int] = Field(default={}, description="Label -> version, for callers that ask by label.")
    aliases: list[str] = Field(default=[], description='Further names of the model, such as "39" for an old taskId.')
    timeout_ms: int = Field(
        default=60_000, gt=0, description="Deadline of calls that bring none, and the most any may take, ms."
    )
    max_queue: int = Field(default=1024, gt=0, description="Calls waiting for the model; beyond it RESOURCE_EXHAUSTED.")
    limits: CommonLimits = Field(
        default=CommonLimits(), description="Bounds of messages and connections: docs/limits.md."
    )

    @field_validator("aliases", mode="before")
    @classmethod
    def _numbers_are_names(cls, value: Any) -> Any:
        # YAML reads 39 as a number; whoever writes it means the task id.
        return [str(v) if type(v) is int else v for v in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _labels_are_served(self) -> CommonSettings:
        if self.versions is not None:
            for label, version in self.labels.items():
                if version not in self.versions:
                    raise ValueError(f"label {label!r} names version {version}, which is not in versions")
        return self


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
    document = _document(file)
    problems: list[Problem] = []
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
    except ValidationError as error:
        problems += [_problem(file, settings, origins, detail) for detail in error.errors()]
    if problems:
        raise ModelFolderError(problems)
    return found


def _document(file: Path) -> dict[Any, Any]:
    if not file.is_file():
        return {}
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelFolderError([Problem(str(file), f"is not YAML: {error}", "mend it")]) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ModelFolderError([Problem(str(file), f"holds a {type(document).__name__}", "write 'key: value' lines")])
    return document


def _problem(
    file: Path, settings: type[CommonSettings], origins: Mapping[tuple[str, ...], str], detail: Any
) -> Problem:
    location = tuple(map(str, detail["loc"]))
    place = ".".join(location)
    if detail["type"] == "extra_forbidden":
        known = limits_of(settings) if location[0] == "limits" else settings.model_fields
        return unknown(f"{file}: {place}", location[-1], known)
    if location in origins:
        return Problem(origins[location], str(detail["msg"]), "mend the value")
    return Problem(f"{file}: {place}" if place else str(file), str(detail["msg"]), "mend the value")
