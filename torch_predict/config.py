"""Every setting of the model server: model.yaml of a model folder, and what the process itself needs.

Defaults and units live here and in `dl_inference.serving`; the native front gets them without defaults.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from dl_inference.serving.limits import ServerLimits
from dl_inference.serving.settings import CommonSettings, ProcessSettings

MAX_INSTANCES = 64

Device = Annotated[str, StringConstraints(pattern=r"^(auto|[a-z]+(:\d+)?)$")]


class PadSettings(BaseModel):
    """How requests that differ in the size of one axis are made equal, so that they can be joined."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    axis: int = Field(ge=1, le=31, description="Which; 0 are the rows.")
    value: float = Field(default=0, description="What is put behind the shorter ones.")


class BatchingSettings(BaseModel):
    """How requests are joined for one call of the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Join requests where the model shows that its answers are made row by row; always; never.",
    )
    max_rows: int = Field(default=64, ge=1, le=65_536, description="Most rows of one call of the model.")
    max_delay_ms: int | None = Field(
        default=None,
        ge=0,
        le=60_000,
        description="How long a request waits for others, ms; default: as long as it pays, which the server learns.",
    )
    allowed_rows: tuple[int, ...] = Field(
        default=(), description="Sizes that batches are rounded up to, ascending, max_rows last; default: any."
    )
    pad: PadSettings | None = Field(
        default=None, description="The axis in which requests may differ, {axis, value}; default: none."
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> BatchingSettings:
        sizes = self.allowed_rows
        if sizes and (list(sizes) != sorted({*sizes}) or sizes[0] < 1 or sizes[-1] != self.max_rows):
            raise ValueError(f"allowed_rows {[*sizes]} must ascend from 1 or more to max_rows, {self.max_rows}")
        return self


class ModelSettings(CommonSettings):
    """model.yaml: what a model folder's owner may say about it."""

    allow_pickle: bool = Field(default=False, description="Load a whole pickled model, which runs the code inside it.")
    class_names: list[str] | None = Field(
        default=None, description="data.names of every answer of rank >= 2; default t:0, t:1 ..."
    )
    instances: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INSTANCES,
        description="Processes of each version; default: one, or what `serve` is told.",
    )
    device: Device | Annotated[list[Device], Field(min_length=1)] = Field(
        default="auto", description="cpu, cuda, cuda:1 ...; of a list, each process gets the next one."
    )
    threads: int | None = Field(
        default=None,
        gt=0,
        description="Threads of one operator, in each process; default: the cores, divided among all processes.",
    )
    python: str | None = Field(
        default=None,
        min_length=1,
        description="Interpreter of its processes, with packages of its own; relative to the model folder.",
    )
    compile: bool = Field(
        default=False, description="Compile the model by torch.compile, with the samples, before it is ready."
    )
    max_batch: int = Field(default=64, gt=0, description="Most requests that Python gets at once.")
    batching: BatchingSettings = Field(
        default=BatchingSettings(), description="How requests are joined for one call of the model: docs/batching.md."
    )
    stream_idle_timeout_ms: int = Field(
        default=300_000, gt=0, description="An OIP stream that brings no message for this time ends, ms."
    )
    settings: dict[str, JsonValue] = Field(
        default={}, description="What processor.py reads with torch_predict.settings(); whatever JSON can hold."
    )
    poison_ms: int = Field(
        default=600_000,
        gt=0,
        description="Under `serve`: how long a request is refused that has killed two processes, ms.",
    )
    hang_timeout_ms: int | None = Field(
        default=None,
        ge=0,
        description="A process that works for this time and answers nothing is replaced, ms; 0: never; default: "
        "10 x timeout_ms.",
    )
    max_memory: ByteSize | None = Field(
        default=None,
        ge=1024**2,
        description="A process that is larger is replaced: 4GiB, 500MB ...; its children count.",
    )
    max_age_s: int | None = Field(default=None, gt=0, description="A process that is older is replaced, s.")
    limits: ServerLimits = Field(
        default=ServerLimits(), description="Bounds of messages, connections and calls: docs/limits.md."
    )

    def hang_ms(self) -> int:
        """Return how long a process may work and answer nothing, ms; 0: as long as it likes.

        By then every call that it works on has been answered by its deadline ten times over, while a model that is
        merely slow, or compiles, goes on.
        """
        return 10 * self.timeout_ms if self.hang_timeout_ms is None else self.hang_timeout_ms

    def device_of(self, instance: int) -> str:
        """Return the device of one of the processes, counted from 0."""
        devices = [self.device] if isinstance(self.device, str) else self.device
        return devices[instance % len(devices)]


class ServerSettings(ProcessSettings):
    """What the process needs beside the model folder."""

    torch_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1, gt=0, description="Threads of one operator."
    )
    torch_device: str = Field(
        default="auto", description="cpu, cuda, cuda:1 ...; auto is cuda where there is one, else cpu."
    )
