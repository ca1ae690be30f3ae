"""Every setting of the model server: model.yaml of a model folder, and what the process itself needs.

Defaults and units live here only; the native front gets them as one JSON document without defaults.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dl_inference.serving.settings import CommonSettings, ProcessSettings
from torch_predict.signature import Signature


class ModelSettings(CommonSettings):
    """model.yaml: what a model folder's owner may say about it."""

    allow_pickle: bool = Field(default=False, description="Load a whole pickled model, which runs the code inside it.")
    class_names: list[str] | None = Field(
        default=None, description="data.names of every answer of rank >= 2; default t:0, t:1 ..."
    )


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
    route_scan_limit_bytes: int = Field(
        default=64 << 20, gt=0, description="Not used by a model server, which routes nothing."
    )
    max_retry_bytes: int = Field(default=0, ge=0, description="Not used by a model server, which retries nothing.")
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
    connect_timeout_ms: int = Field(
        default=5_000, gt=0, description="Not used by a model server, which connects to nothing."
    )
    max_connections_per_endpoint: int = Field(default=1, gt=0, description="Not used by a model server.")
    keepalive_ms: int = Field(default=0, ge=0, description="Not used by a model server.")
    keepalive_timeout_ms: int = Field(default=20_000, gt=0, description="Not used by a model server.")
    tcp_user_timeout_ms: int = Field(default=30_000, ge=0, description="TCP_USER_TIMEOUT, ms; 0 = the system's.")


class ServerSettings(ProcessSettings):
    """What the process needs beside the model folder."""

    max_queue: int = Field(default=1024, gt=0, description="Requests waiting for Python; beyond it RESOURCE_EXHAUSTED.")
    max_batch: int = Field(default=64, gt=0, description="Most requests that Python gets at once.")
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
