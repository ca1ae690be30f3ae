"""What the native front is told: one JSON document without defaults."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel

from dl_inference.serving import tracing
from dl_inference.serving.latency import LATENCY_BUCKETS_MS
from dl_inference.serving.limits import ServerLimits
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.port_tls import with_tls
from torch_predict.repository import ModelFolder, Version
from torch_predict.signature import Signature


class WorkerConfig(BaseModel):
    """The native front's document; the same fields as ``WorkerConfig`` in dataplane/crates/core/src/config.rs."""

    listen: list[str | dict[str, Any]]
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
    batching: dict[str, Any]
    timeout_ms: int
    stream_idle_timeout_ms: int
    hang_timeout_ms: int
    load_reports: bool
    latency_buckets_ms: tuple[float, ...]
    limits: ServerLimits
    tracing: dict[str, Any] | None
    hands: dict[str, Any] | None


def worker_config(
    options: ServeOptions, folder: ModelFolder, version: Version, metadata: Signature, *, joined: str | None
) -> WorkerConfig:
    """Return what the front of one served version is told.

    Args:
        options: where it listens, and what the model is called, beside the aliases of its settings.
        folder: the model's.
        version: the one that is served.
        metadata: inputs and outputs for ModelMetadata.
        joined: what requests have in common that are one call of the model: `all`, `tags` or `shapes`; None: none are.
    """
    settings = folder.settings
    return WorkerConfig(
        listen=with_tls(options.listen, options.tls, options.tls.native() if options.tls is not None else None),
        admin=options.admin,
        model=options.name or folder.name,
        aliases=settings.aliases,
        version=str(version.number),
        labels=[label for label, number in settings.labels.items() if number == version.number],
        platform=f"pytorch_{version.runtime.name}",
        inputs=[asdict(spec) for spec in metadata.inputs],
        outputs=[asdict(spec) for spec in metadata.outputs],
        max_queue=settings.max_queue,
        max_batch=settings.max_batch,
        batching={
            "joins": joined is not None,
            "max_rows": settings.batching.max_rows,
            "max_delay_ms": settings.batching.max_delay_ms if joined is not None else None,
            "alike": joined or "all",
            "pad_axis": settings.batching.pad.axis if settings.batching.pad is not None else None,
        },
        timeout_ms=settings.timeout_ms,
        stream_idle_timeout_ms=settings.stream_idle_timeout_ms,
        hang_timeout_ms=settings.hang_ms(),
        load_reports=settings.load_reports,
        latency_buckets_ms=LATENCY_BUCKETS_MS,
        limits=settings.limits,
        tracing=tracing.from_environment(os.environ, "dl-inference-model").document(),
        hands={"path": str(options.hands), "poison_ms": settings.poison_ms} if options.hands is not None else None,
    )
