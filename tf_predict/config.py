"""Every setting of the TensorFlow server: model.yaml of a model folder, and what the process itself needs."""

from __future__ import annotations

import os

from pydantic import Field

from dl_inference.serving.settings import CommonSettings, ProcessSettings


class ModelSettings(CommonSettings):
    """model.yaml: what a model folder's owner may say about it."""

    max_queue: int = Field(default=1024, gt=0, description="Calls running and waiting; beyond it RESOURCE_EXHAUSTED.")


class ServerSettings(ProcessSettings):
    """What the process needs beside the model folder."""

    tensorflow_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1, gt=0, description="Threads of one operator."
    )
