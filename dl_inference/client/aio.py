"""The client for asyncio; blocking.py has the one for threads, and what the methods do."""
# ruff: noqa: PLR0913  (the fields of the protocols' requests)

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import numpy.typing as npt

from dl_inference.client import calls, streams
from dl_inference.client.calls import Call
from dl_inference.client.channel import MAX_MESSAGE_BYTES, Metadata, Settings
from dl_inference.client.errors import CallError
from dl_inference.client.prediction import Answer, Prediction
from dl_inference.client.retries import Retries
from dl_inference.client.signing import Signer
from dl_inference.codec import oip
from dl_inference.codec.oip import ModelMetadata, Parameter
from dl_inference.codec.seldon import Kind
from dl_inference.codec.tfs import Signature

T = TypeVar("T")


class AsyncClient:
    """The same client for asyncio.

    It belongs to the event loop of its first call, and raises RuntimeError in any other loop and after a fork.
    Cancelling a task cancels its call, at the server too. Encoding and decoding run in the loop: about 0.1 ms per
    megabyte.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_ms: float = 60_000,
        retries: Retries | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        credentials: grpc.ChannelCredentials | None = None,
        dl_inference_service: bool = False,
        api_key: str | None = None,
        signer: Signer | None = None,
    ) -> None:
        """Make a client with the arguments of `Client`; this needs no running loop."""
        self._settings = Settings(
            address,
            timeout_ms=timeout_ms,
            retries=retries,
            max_message_bytes=max_message_bytes,
            credentials=credentials,
            dl_inference_service=dl_inference_service,
            api_key=api_key,
            signer=signer,
        )
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._methods: dict[str, Any] = {}
        self._is_closed = False

    async def predict_tfs(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        outputs: Sequence[str] = (),
        timeout_ms: float | None = None,
        metadata: Metadata = (),
    ) -> Prediction:
        """As `Client.predict_tfs`."""
        call = calls.predict_tfs(model, inputs, version=version, label=label, signature=signature, outputs=outputs)
        return await self._run(call, timeout_ms, metadata)

    async def predict_seldon(
        self,
        model: str,
        value: Any,
        *,
        version: str | int = "",
        kind: Kind | None = None,
        names: Sequence[str] = (),
        tags: Mapping[str, Any] | None = None,
        timeout_ms: float | None = None,
        metadata: Metadata = (),
    ) -> Prediction:
        """As `Client.predict_seldon`."""
        call = calls.predict_seldon(model, value, version=version, kind=kind, names=names, tags=tags)
        return await self._run(call, timeout_ms, metadata)

    async def predict_oip(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        version: str | int = "",
        outputs: Sequence[str] = (),
        parameters: Mapping[str, Parameter] | None = None,
        timeout_ms: float | None = None,
        metadata: Metadata = (),
    ) -> Prediction:
        """As `Client.predict_oip`."""
        call = calls.predict_oip(model, inputs, version=version, outputs=outputs, parameters=parameters)
        return await self._run(call, timeout_ms, metadata)

    def stream_oip(
        self,
        model: str,
        inputs: AsyncIterable[Mapping[str, npt.ArrayLike]] | Iterable[Mapping[str, npt.ArrayLike]],
        *,
        version: str | int = "",
        outputs: Sequence[str] = (),
        parameters: Mapping[str, Parameter] | None = None,
        max_in_flight: int = 64,
        timeout_ms: float | None = None,
        metadata: Metadata = (),
    ) -> AsyncGenerator[Prediction | CallError, None]:
        """As `Client.stream_oip`, for ``async for``; the inputs may come from an asynchronous iterable."""
        make = functools.partial(calls.streamed_oip, model, version=version, outputs=outputs, parameters=parameters)
        sent = self._settings.prepare(Call(oip.STREAM, b"", lambda data, reply: None), timeout_ms, metadata)
        window = streams.Window(self._settings, sent, make, max_in_flight)
        return streams.answers_aio(
            window, inputs, lambda: self._method(sent.path, is_stream=True), lambda: self._is_closed
        )

    async def signatures_tfs(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout_ms: float | None = None
    ) -> dict[str, Signature]:
        """As `Client.signatures_tfs`."""
        return await self._run(calls.signatures_tfs(model, version, label), timeout_ms)

    async def status_tfs(
        self, model: str, *, version: int | None = None, timeout_ms: float | None = None
    ) -> dict[int, str]:
        """As `Client.status_tfs`."""
        return await self._run(calls.status_tfs(model, version), timeout_ms)

    async def metadata_oip(
        self, model: str, *, version: str | int = "", timeout_ms: float | None = None
    ) -> ModelMetadata:
        """As `Client.metadata_oip`."""
        return await self._run(calls.metadata_oip(model, version), timeout_ms)

    async def ready_oip(self, model: str, *, version: str | int = "", timeout_ms: float | None = None) -> bool:
        """As `Client.ready_oip`."""
        return await self._run(calls.ready_oip(model, version), timeout_ms)

    async def is_serving(self, model: str = "", *, timeout_ms: float | None = None) -> bool:
        """As `Client.is_serving`."""
        return await self._run(calls.is_serving(model), timeout_ms)

    async def send(
        self,
        path: str,
        request: Any,
        answer: Any,
        *,
        model: str | None = None,
        timeout_ms: float | None = None,
        metadata: Metadata = (),
    ) -> Answer[Any]:
        """As `Client.send`."""
        return await self._run(calls.send(path, request, answer, model), timeout_ms, metadata)

    async def close(self) -> None:
        """Close the connection. Calls in flight raise Cancelled, later calls raise RuntimeError."""
        self._is_closed = True
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        """Return the client; leaving the block closes it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    async def _run(self, call: Call[T], timeout_ms: float | None, metadata: Metadata = ()) -> T:
        settings = self._settings
        sent = settings.prepare(call, timeout_ms, metadata)
        method = self._method(sent.path)
        rpc = method(call.request, timeout=sent.timeout_s, metadata=sent.metadata)
        try:
            data = await rpc
        except grpc.aio.AioRpcError as error:
            raise settings.failure(error, sent) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if not self._is_closed or (task is not None and task.cancelling()):
                raise
            # gRPC ends the calls of a channel that is closed as if their tasks had been cancelled.
            raise settings.closed(sent) from error
        return settings.read(call, sent, data, await rpc.trailing_metadata())

    def _method(self, path: str, *, is_stream: bool = False) -> Any:
        if self._is_closed:
            raise RuntimeError("this client is closed")
        loop = asyncio.get_running_loop()
        if self._channel is None:
            self._channel, self._loop = self._open(), loop
        if self._loop is not loop:
            raise RuntimeError("this client belongs to another event loop: make one in each")
        # Without (de)serializers: bytes pass.
        make = self._channel.stream_stream if is_stream else self._channel.unary_unary
        return self._methods.get(path) or self._methods.setdefault(path, make(path))

    def _open(self) -> grpc.aio.Channel:
        settings = self._settings
        if settings.credentials is None:
            return grpc.aio.insecure_channel(settings.address, settings.options)
        return grpc.aio.secure_channel(settings.address, settings.credentials, settings.options)
