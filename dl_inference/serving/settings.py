"""Settings that every model server has: those of a model, in model.yaml, and those of the process, by environment.

A server adds keys of its own in a subclass of `CommonSettings`, and variables of its own in one of `ProcessSettings`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dl_inference.problem import Problem

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
        given = {field: environment[name] for field in cls.model_fields if (name := _variable(field)) in environment}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = _variable(str(first["loc"][0]))
            raise ValueError(f"{name}={environment[name]}: {first['msg']}") from None


Settings = TypeVar("Settings", bound=CommonSettings)


def read_model_settings(file: Path, settings: type[Settings]) -> Settings:
    """Read model.yaml; a missing or empty file means every default.

    Args:
        file: model.yaml.
        settings: what it may say.

    Raises:
        ModelFolderError: with every problem of the file.
    """
    try:
        return settings.model_validate(_document(file))
    except ValidationError as error:
        raise ModelFolderError([_problem(file, settings, detail) for detail in error.errors()]) from None


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


def _problem(file: Path, settings: type[CommonSettings], detail: Any) -> Problem:
    place = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        known = list(settings.model_fields)
        near = difflib.get_close_matches(place, known, 1, 0)
        return Problem(f"{file}: {place}", "is not a known key", f"did you mean {near[0]!r}? known: {', '.join(known)}")
    return Problem(f"{file}: {place}" if place else str(file), str(detail["msg"]), "mend the value")


def _variable(field: str) -> str:
    return f"DL_INFERENCE_{field.upper()}"
