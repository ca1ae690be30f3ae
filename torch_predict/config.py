"""Every setting of the model server: model.yaml of a model folder, and what the process itself needs.

Defaults and units live here and in `dl_inference.serving`; the native front gets them without defaults.
"""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field, StringConstraints

from dl_inference.serving.limits import ServerLimits
from dl_inference.serving.settings import CommonSettings, ProcessSettings

MAX_INSTANCES = 64

Device = Annotated[str, StringConstraints(pattern=r"^(auto|[a-z]+(:\d+)?)$")]


class ModelSettings(CommonSettings):
    """model.yaml: what a model folder's owner may say about it."""

    allow_pickle: bool = Field(default=False, description="Load a whole pickled model, which runs the code inside it.")
    class_names: list[str] | None = Field(
        default=None, description="data.names of every answer of rank >= 2; default t:0, t:1 ..."
    )
    instances: int | None = Field(
        default=None, ge=1, le=MAX_INSTANCES, description="Processes of each version; default: one, or --replicas."
    )
    device: Device | Annotated[list[Device], Field(min_length=1)] = Field(
        default="auto", description="cpu, cuda, cuda:1 ...; of a list, each process gets the next one."
    )
    max_batch: int = Field(default=64, gt=0, description="Most requests that Python gets at once.")
    stream_idle_timeout_ms: int = Field(
        default=300_000, gt=0, description="An OIP stream that brings no message for this time ends, ms."
    )
    limits: ServerLimits = Field(
        default=ServerLimits(), description="Bounds of messages, connections and calls: docs/limits.md."
    )

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
