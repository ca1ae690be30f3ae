"""Every setting of the model server: model.yaml of a model folder, and what the process itself needs.

Defaults and units live here only; the native front gets them as one JSON document without defaults.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dl_inference.problem import Problem
from torch_predict.errors import ModelFolderError
from torch_predict.signature import Signature


class ModelSettings(BaseModel):
    """model.yaml: what a model folder's owner may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versions: list[int] | None = Field(
        default=None, min_length=1, description="Versions to serve; default: the latest."
    )
    labels: dict[str, int] = Field(default={}, description="Label -> version, for callers that ask by label.")
    aliases: list[str] = Field(default=[], description='Further names of the model, such as "39" for an old taskId.')
    allow_pickle: bool = Field(default=False, description="Load a whole pickled model, which runs the code inside it.")
    timeout_ms: int = Field(default=60_000, gt=0, description="Deadline of calls that bring none, ms.")
    class_names: list[str] | None = Field(
        default=None, description="data.names of every answer of rank >= 2; default t:0, t:1 ..."
    )

    @field_validator("aliases", mode="before")
    @classmethod
    def _numbers_are_names(cls, value: Any) -> Any:
        # YAML reads 39 as a number; whoever writes it means the task id.
        return [str(v) if type(v) is int else v for v in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _labels_are_served(self) -> ModelSettings:
        if self.versions is not None:
            for label, version in self.labels.items():
                if version not in self.versions:
                    raise ValueError(f"label {label!r} names version {version}, which is not in versions")
        return self


class Limits(BaseModel):
    """Bounds of the native front; the same fields as ``Limits`` in dataplane/crates/core/src/config.rs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_message_bytes: int = Field(default=64 << 20, gt=0, description="Largest gRPC message either way, bytes.")
    max_metadata_bytes: int = Field(
        default=64 << 10, gt=0, description="Largest header list, bytes as HTTP/2 counts them."
    )
    max_metadata_fields: int = Field(default=256, gt=0, description="Most header fields of one request.")
    max_streams: int = Field(default=1024, gt=0, description="Concurrent streams of one connection.")
    max_connections: int = Field(default=4096, gt=0, description="Connections in all.")
    max_connections_per_ip: int = Field(default=4096, gt=0, description="Connections of one remote IP address.")
    max_in_flight: int = Field(default=8192, gt=0, description="Calls in flight; beyond it they are shed.")
    max_held_bytes: int = Field(default=256 << 20, ge=0, description="Request bytes held in the process.")
    header_timeout_ms: int = Field(
        default=10_000, gt=0, description="From accepting a connection to its first headers, ms."
    )
    body_timeout_ms: int = Field(
        default=30_000, gt=0, description="A body that brings < 16 KiB in this time ends the call, ms."
    )
    connection_idle_timeout_ms: int = Field(
        default=3_600_000, gt=0, description="A connection without streams is closed after this time, ms."
    )
    max_connection_age_ms: int = Field(default=86_400_000, gt=0, description="GOAWAY after this age, +-10 %, ms.")
    max_connection_age_grace_ms: int = Field(default=60_000, gt=0, description="How long its calls may still run, ms.")
    frame_credit: int = Field(default=1000, gt=0, description="Control frames before traffic earns more.")
    frame_credit_per_frame: int = Field(
        default=10, gt=0, description="Control frames earned by each request and DATA frame."
    )
    stream_window_bytes: int = Field(default=4 << 20, gt=0, description="HTTP/2 window of a stream, bytes.")
    connection_window_bytes: int = Field(default=16 << 20, gt=0, description="HTTP/2 window of a connection, bytes.")
    max_frame_bytes: int = Field(default=1 << 20, ge=16384, le=16777215, description="SETTINGS_MAX_FRAME_SIZE, bytes.")
    tcp_user_timeout_ms: int = Field(default=30_000, ge=0, description="TCP_USER_TIMEOUT, ms; 0 = the system's.")


class ServerSettings(BaseModel):
    """What the process needs beside the model folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_queue: int = Field(default=1024, gt=0, description="Requests waiting for Python; beyond it RESOURCE_EXHAUSTED.")
    max_batch: int = Field(default=64, gt=0, description="Most requests that Python gets at once.")
    drain_timeout_ms: int = Field(
        default=30_000, gt=0, description="How long calls in flight may run on after SIGTERM, ms."
    )
    stream_idle_timeout_ms: int = Field(
        default=300_000, gt=0, description="An OIP stream that brings no message for this time ends, ms."
    )
    torch_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1, gt=0, description="Threads of one operator."
    )
    torch_device: str = Field(
        default="auto", description="cpu, cuda, cuda:1 ...; auto is cuda where there is one, else cpu."
    )
    limits: Limits = Limits()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ServerSettings:
        """Read ``DL_INFERENCE_<FIELD>``, for example ``DL_INFERENCE_TORCH_THREADS=2``.

        Raises:
            ValueError: a value does not fit; names the variable.
        """
        given = {
            f: environment[name] for f in cls.model_fields if f != "limits" and (name := _variable(f)) in environment
        }
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = _variable(str(first["loc"][0]))
            raise ValueError(f"{name}={environment[name]}: {first['msg']}") from None

    def worker_json(  # noqa: PLR0913  (what differs from model to model)
        self,
        *,
        listen: list[str],
        admin: str | None,
        model: str,
        version: int,
        settings: ModelSettings,
        platform: str,
        metadata: Signature,
    ) -> str:
        """Return the ``WorkerConfig`` document of the native front.

        Args:
            listen: addresses.
            admin: address of the admin port, if any.
            model: the name that the model answers to, beside the aliases of its settings.
            version: the one that is served.
            settings: of the model folder.
            platform: what OIP's ModelMetadata calls the format.
            metadata: inputs and outputs for ModelMetadata.
        """
        return WorkerConfig(
            listen=listen,
            admin=admin,
            model=model,
            aliases=settings.aliases,
            version=str(version),
            labels=[label for label, number in settings.labels.items() if number == version],
            platform=platform,
            inputs=[asdict(spec) for spec in metadata.inputs],
            outputs=[asdict(spec) for spec in metadata.outputs],
            max_queue=self.max_queue,
            max_batch=self.max_batch,
            timeout_ms=settings.timeout_ms,
            stream_idle_timeout_ms=self.stream_idle_timeout_ms,
            limits=self.limits,
        ).model_dump_json()


class WorkerConfig(BaseModel):
    """The native front's document; the same fields as ``WorkerConfig`` in dataplane/crates/core/src/config.rs."""

    listen: list[str]
    admin: str | None
    model: str
    aliases: list[str]
    version: str
    labels: list[str]
    platform: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    max_queue: int
    max_batch: int
    timeout_ms: int
    stream_idle_timeout_ms: int
    limits: Limits


def read_model_settings(file: Path) -> ModelSettings:
    """Read model.yaml; a missing or empty file means every default.

    Raises:
        ModelFolderError: with every problem of the file.
    """
    if not file.is_file():
        return ModelSettings()
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelFolderError([Problem(str(file), f"is not YAML: {error}", "mend it")]) from None
    if document is None:
        return ModelSettings()
    if not isinstance(document, dict):
        raise ModelFolderError([Problem(str(file), f"holds a {type(document).__name__}", "write 'key: value' lines")])
    try:
        return ModelSettings.model_validate(document)
    except ValidationError as error:
        raise ModelFolderError([_problem(file, detail) for detail in error.errors()]) from None


def _problem(file: Path, detail: Any) -> Problem:
    place = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        known = list(ModelSettings.model_fields)
        near = difflib.get_close_matches(place, known, 1, 0)
        return Problem(f"{file}: {place}", "is not a known key", f"did you mean {near[0]!r}? known: {', '.join(known)}")
    return Problem(f"{file}: {place}" if place else str(file), str(detail["msg"]), "mend the value")


def _variable(field: str) -> str:
    return f"DL_INFERENCE_{field.upper()}"
