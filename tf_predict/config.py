"""Every setting of the TensorFlow server: model.yaml of a model folder, and what the process itself needs."""

from __future__ import annotations

import os

from pydantic import Field

from dl_inference.serving.settings import CommonSettings, ProcessSettings

MAX_MESSAGE_BYTES = 64 << 20
"""Largest gRPC message either way, as in the PyTorch server."""


class ModelSettings(CommonSettings):
    """model.yaml: what a model folder's owner may say about it."""


class ServerSettings(ProcessSettings):
    """What the process needs beside the model folder."""

    max_queue: int = Field(default=1024, gt=0, description="Calls in the process; beyond it RESOURCE_EXHAUSTED.")
    tensorflow_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1, gt=0, description="Threads of one operator."
    )
