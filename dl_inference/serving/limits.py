"""Every bound of a program that listens: what one connection, one message, and all calls together may take.

The only place that knows their names and ranges, and the model servers' defaults, from which docs/limits.md is written.
The access service has defaults of its own, and further limits (`access.config.sections`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

KIB, MIB = 1 << 10, 1 << 20

MAX_MS = 86_400_000
"""The most that any time may be: more than any connection wants, and sums of it stay far from overflow."""

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Milliseconds = Annotated[int, Field(ge=1, le=MAX_MS)]
MillisecondsOrOff = Annotated[int, Field(ge=0, le=MAX_MS)]
Priority = Literal["high", "normal", "low"]
"""How much calls matter beside others."""
MessageBytes = Annotated[int, Field(ge=KIB, le=2**31 - 1)]
MetadataBytes = Annotated[int, Field(ge=KIB, le=MIB)]
ConnectionBytes = Annotated[int, Field(ge=256 * KIB, le=2**40)]
MetadataFields = Annotated[int, Field(ge=16, le=10_000)]
HeldBytes = Annotated[int, Field(ge=MIB, le=2**40)]
FrameBytes = Annotated[int, Field(ge=16_384, le=16_777_215)]  # RFC 9113#6.5.2
WindowBytes = Annotated[int, Field(ge=65_535, le=2**31 - 1)]  # RFC 9113#6.9.2: no window begins below it

OF_THE_ACCESS_SERVICE = (
    "route_scan_limit_bytes",
    "max_retry_bytes",
    "max_unread_bytes",
    "connect_timeout_ms",
    "max_connections_per_endpoint",
    "keepalive_ms",
    "keepalive_timeout_ms",
)
"""Limits of the access service only. Variables of these names may be set for every program of a machine; a model server
passes them over."""


_ORIGIN = re.compile(
    r"\*|[a-z][a-z0-9+.-]*://[a-z0-9.-]+(:[0-9]{1,5})?|[a-z][a-z0-9+.-]*://\[[0-9a-f:.]+\](:[0-9]{1,5})?"
)


def _origin(text: str) -> str:
    """Return an origin as browsers send it; no other text would ever be equal to one."""
    if not _ORIGIN.fullmatch(text):
        reason = "{origin} is not an origin: write it as browsers send it, as https://example.com:8443, or *"
        raise PydanticCustomError("origin", reason, {"origin": repr(text)})
    return text


Origin = Annotated[str, AfterValidator(_origin)]


class CommonLimits(BaseModel):
    """Limits that every model server has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_message_bytes: MessageBytes = Field(64 * MIB, description="largest gRPC message in either direction, bytes")
    max_metadata_bytes: MetadataBytes = Field(64 * KIB, description="largest header list, bytes as HTTP/2 counts them")
    max_streams: Count = Field(1024, description="calls in flight on one connection")
    connection_idle_timeout_ms: Milliseconds = Field(
        3_600_000, description="a connection without calls is closed after this time, ms"
    )
    max_connection_age_ms: Milliseconds = Field(
        MAX_MS, description="a connection is asked to reconnect at this age (±10 %), ms"
    )
    max_connection_age_grace_ms: Milliseconds = Field(
        60_000, description="how long the calls of an aged connection may still run, ms"
    )
    max_frame_bytes: FrameBytes = Field(
        MIB, description="largest HTTP/2 frame asked for (SETTINGS_MAX_FRAME_SIZE), bytes"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any) -> Any:
        if isinstance(value, bool):  # pydantic would take true for 1
            raise PydanticCustomError("limit", "a limit is a whole number, not true or false")
        return value


class ServerLimits(CommonLimits):
    """Limits of a program on our data plane: the same fields as ``Limits`` in its configuration, no others."""

    max_metadata_fields: MetadataFields = Field(256, description="most header fields of one request")
    max_connection_bytes: ConnectionBytes = Field(
        4 * MIB,
        description="of one connection, bytes: half for its calls' metadata, half for answers that wait to be written",
    )
    max_connections: Count = Field(4096, description="connections in all")
    max_connections_per_ip: Count = Field(
        4096, description="connections of one remote IP address; unix sockets are not counted"
    )
    max_in_flight: Count = Field(8192, description="calls in flight in the process; more are shed")
    max_held_bytes: HeldBytes = Field(256 * MIB, description="request bytes held in the process; more calls are shed")
    header_timeout_ms: Milliseconds = Field(
        10_000, description="from accepting a connection to its first request headers, ms"
    )
    body_timeout_ms: Milliseconds = Field(
        30_000, description="a request body that brings fewer than 16 KiB in this time ends the call, ms"
    )
    frame_credit: Count = Field(1000, description="control frames a connection may send before traffic earns it more")
    frame_credit_per_frame: Count = Field(10, description="control frames earned by each request and DATA frame")
    stream_window_bytes: WindowBytes = Field(4 * MIB, description="flow-control window of one call, bytes")
    connection_window_bytes: WindowBytes = Field(16 * MIB, description="flow-control window of one connection, bytes")
    tcp_user_timeout_ms: MillisecondsOrOff = Field(
        30_000, description="sent bytes unacknowledged for this time end a connection, ms; 0 = the system's"
    )
    cors_origins: tuple[Origin, ...] = Field(
        (),
        max_length=100,
        description="origins of web pages that may call over HTTP and read the answers, `https://example.com`, or `*`",
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if isinstance(value, str):  # flags and variables have one text
            return tuple(part.strip() for part in value.split(","))
        return tuple(value) if isinstance(value, list) else value
