"""Every setting of the model server: model.yaml of a model folder, and what the process itself needs.

Defaults and units live here and in `dl_inference.serving`; the native front gets them without defaults.
"""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict, Field

from dl_inference.serving.limits import ServerLimits
from dl_inference.serving.settings import CommonSettings, ProcessSettings


class Golden(BaseModel):
    """What holds for the expected answers in samples/expected.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    required: bool = Field(default=True, description="Whether a version whose answers differ is kept from calls.")
    rtol: float = Field(default=1e-3, ge=0, description="What numbers may differ by, as a part of the expected one.")
    atol: float = Field(default=1e-5, ge=0, description="What they may differ by beside that.")


class ModelSettings(CommonSettings):
    """model.yaml: what a model folder's owner may say about it."""

    allow_pickle: bool = Field(default=False, description="Load a whole pickled model, which runs the code inside it.")
    class_names: list[str] | None = Field(
        default=None, description="data.names of every answer of rank >= 2; default t:0, t:1 ..."
    )
    max_batch: int = Field(default=64, gt=0, description="Most requests that Python gets at once.")
    stream_idle_timeout_ms: int = Field(
        default=300_000, gt=0, description="An OIP stream that brings no message for this time ends, ms."
    )
    allow_signature_change: bool = Field(
        default=False, description="Let a version take over whose inputs or outputs differ: docs/safe-releases.md."
    )
    golden: Golden = Field(
        default=Golden(), description="Comparison with the expected answers of the samples: docs/safe-releases.md."
    )
    limits: ServerLimits = Field(
        default=ServerLimits(), description="Bounds of messages, connections and calls: docs/limits.md."
    )


class ServerSettings(ProcessSettings):
    """What the process needs beside the model folder."""

    torch_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1, gt=0, description="Threads of one operator."
    )
    torch_device: str = Field(
        default="auto", description="cpu, cuda, cuda:1 ...; auto is cuda where there is one, else cpu."
    )
