"""What both clients share around a call: the channel's options, deadline, metadata, errors."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import DecodeError

from dl_inference.address import fault
from dl_inference.client import calls
from dl_inference.client.calls import Call, Refused
from dl_inference.client.errors import BY_CODE, BadAnswer, CallError, Cancelled, Unknown
from dl_inference.client.prediction import Prediction
from dl_inference.client.retries import Retries
from dl_inference.client.signing import Signer
from dl_inference.codec import oip
from dl_inference.codec.errors import BadTensorError, InputError

T = TypeVar("T")
Metadata = Sequence[tuple[str, str | bytes]]

MAX_MESSAGE_BYTES = 64 << 20
"""What a client sends and takes by default, and what our model servers do (`dl_inference.serving.limits`)."""

# Where a call can show a key of its own.
_KEY_FIELDS = ("x-api-key", "authorization")

# gRPC's servers say GOAWAY to clients that ping more often than this (its default of two strikes).
_KEEPALIVE_MS = 300_000


@dataclass(frozen=True, slots=True)
class Sent:
    """A call on its way.

    Attributes:
        path: of the method.
        metadata: what goes with it.
        timeout_s: of the call, s.
        request_id: the call's.
        begin: when, by time.perf_counter.
    """

    path: str
    metadata: Metadata
    timeout_s: float
    request_id: str
    begin: float

    def begun(self) -> Self:
        """Return it with the time that begins now: a stream is opened later than it is asked for."""
        return replace(self, begin=time.perf_counter())


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client was made with, and what that makes of a call. Opens nothing.

    Raises:
        InputError: the address or a number is none.
    """

    address: str
    timeout_ms: float
    retries: Retries | None
    max_message_bytes: int
    credentials: grpc.ChannelCredentials | None
    dl_inference_service: bool
    api_key: str | None = field(default=None, repr=False)
    signer: Signer | None = None

    def __post_init__(self) -> None:
        """Raise InputError for what is not an address, and for a number out of its range."""
        if reason := _fault(self.address):
            raise InputError(f"address {self.address!r}: {reason}")
        if not 0 < self.max_message_bytes < 2**31:
            raise InputError(f"max_message_bytes: {self.max_message_bytes} is not from 1 to {2**31 - 1}")
        if self.api_key is not None and not is_key(self.api_key):
            raise InputError("api_key: a key has 1 to 4096 printable characters, and no blank at either end")
        if self.signer is not None and (self.retries is not None or self.api_key is not None):
            raise InputError(
                "signer: a signed request cannot be sent again, and shows no key: leave out retries and api_key"
            )
        _seconds(self.timeout_ms)

    @property
    def options(self) -> list[tuple[str, Any]]:
        """Return gRPC's options of the channel."""
        return _options(self.address, self.max_message_bytes, self.retries)

    def prepare(self, call: Call[Any], timeout_ms: float | None, metadata: Metadata) -> Sent:
        """Return how a call is to be sent; its time begins now.

        Raises:
            InputError: the timeout is no positive number.
        """
        request_id, has_model, has_key = "", False, False
        for key, value in metadata:
            if key == "x-request-id":
                request_id = str(value)
            has_model |= key == "x-model"
            has_key |= key in _KEY_FIELDS
        ours = []
        if not request_id:
            request_id = os.urandom(16).hex()
            ours.append(("x-request-id", request_id))
        if call.model and not has_model:
            ours.append(("x-model", call.model))
        if call.version:
            ours.append(("x-model-version", call.version))
        if self.api_key is not None and not has_key:
            ours.append(("x-api-key", self.api_key))
        timeout_s = _seconds(self.timeout_ms if timeout_ms is None else timeout_ms)
        path = calls.DL_INFERENCE.get(call.path, call.path) if self.dl_inference_service else call.path
        if self.signer is not None:
            ours.append(("x-signature", self._signature(self.signer, call, path, dict([*metadata, *ours]))))
        return Sent(path, (*metadata, *ours), timeout_s, request_id, time.perf_counter())

    def _signature(self, signer: Signer, call: Call[Any], path: str, sent: Mapping[str, str | bytes]) -> str:
        if call.path == oip.STREAM:
            raise InputError("a stream is not signed: call with an api_key")
        model, version = str(sent.get("x-model", "")), str(sent.get("x-model-version", ""))
        return signer.header(call.request, path, model=model, version=version)

    def read(self, call: Call[T], sent: Sent, data: bytes, trailers: Any) -> T:
        """Return what an answer says.

        Raises:
            BadAnswer: it is none.
        """
        texts = _texts(trailers)
        took_ms = (time.perf_counter() - sent.begin) * 1000
        request_id = texts.get("x-request-id", sent.request_id)
        try:
            return call.read(data, {"took_ms": took_ms, "request_id": request_id, "trailers": texts})
        except (BadTensorError, DecodeError) as error:
            text = f"{sent.path} was answered with {len(data)} bytes that are not a valid answer: {error}"
            raise BadAnswer(
                text, address=self.address, trailers=texts, request_id=request_id, took_ms=took_ms
            ) from error

    def read_streamed(
        self, call: Call[Prediction | Refused], sent: Sent, begin: float, data: bytes
    ) -> Prediction | CallError:
        """Return what one message of a stream was answered with, which may be its error.

        Args:
            call: of this message.
            sent: the stream.
            begin: when the message was sent.
            data: the answer's bytes.

        Raises:
            BadAnswer: they are none.
        """
        found = self.read(call, replace(sent, begin=begin), data, ())
        if isinstance(found, Prediction):
            return found
        took_ms = (time.perf_counter() - begin) * 1000
        # What our servers say of it, by the names of the trailers that a call of its own would have had.
        told = {name: str(value) for name, value in found.parameters.items() if name.startswith("access-")}
        made: CallError = _BY_NUMBER.get(found.parameters.get("grpc-status"), Unknown)(
            found.message, address=self.address, trailers=told, request_id=sent.request_id, took_ms=took_ms
        )
        return made

    def failure(self, error: Any, sent: Sent) -> CallError:
        """Return our error for gRPC's."""
        code, trailers = error.code().name, _texts(error.trailing_metadata())
        message = error.details() or ""
        if code == "DEADLINE_EXCEEDED" and "access-error" not in trailers:  # gRPC's own text names no limit
            message = f"{message}: no answer within {sent.timeout_s * 1000:.0f} ms"
        took_ms = (time.perf_counter() - sent.begin) * 1000
        made: CallError = BY_CODE.get(code, Unknown)(
            message, address=self.address, trailers=trailers, request_id=sent.request_id, took_ms=took_ms
        )
        return made

    def closed(self, sent: Sent) -> Cancelled:
        """Return our error for a call that ended because its client was closed."""
        took_ms = (time.perf_counter() - sent.begin) * 1000
        return Cancelled("the client was closed", address=self.address, request_id=sent.request_id, took_ms=took_ms)


_BY_NUMBER: dict[Any, type[CallError]] = {
    code.value[0]: BY_CODE[code.name] for code in grpc.StatusCode if code.name in BY_CODE
}


def is_key(text: str) -> bool:
    """Tell whether a text can be sent as a key."""
    return 0 < len(text) <= 4096 and text.isascii() and text.isprintable() and text == text.strip()


def _options(address: str, max_message_bytes: int, retries: Retries | None) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # gRPC would send even what is for 127.0.0.1 to a web proxy of the environment (http_proxy).
        ("grpc.enable_http_proxy", 0),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        # The first after 1 s and then up to 2 minutes apart, by default: long after a server is back.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.enable_retries", int(retries is not None)),
    ]
    if address.startswith("unix:"):
        # gRPC would make an authority of the path, "%2Ftmp%2F...", which many servers refuse.
        options.append(("grpc.default_authority", "localhost"))
    if retries is not None:
        options.append(("grpc.service_config", retries.service_config()))
        # Without it, a request of more than 256 KiB is not kept for a second attempt.
        options.append(("grpc.per_rpc_retry_buffer_size", max_message_bytes))
    return options


def _fault(address: str) -> str | None:
    """Say what gRPC would misunderstand: it takes port 443 where there is none, and http: for a name."""
    return None if address.startswith("dns:") else fault(address)


def _seconds(timeout_ms: float) -> float:
    # Beyond a day it is a mistake of units, and far beyond gRPC's own limit.
    if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int | float) or not 0 < timeout_ms <= 86_400_000:
        raise InputError(f"timeout_ms: {timeout_ms!r} is not a number of ms above 0 and up to a day")
    return timeout_ms / 1000


def _texts(metadata: Any) -> dict[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}
