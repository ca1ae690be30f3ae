"""A stream of OIP calls, for both clients: what is on its way, and how each answer finds its message.

Answers come in the order of the messages. Each message has an id, so that an answer that does not belong to the oldest
one is noticed. At most `max_in_flight` messages are on their way: the next input is taken when an answer has come.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Any, NamedTuple

import grpc
import numpy.typing as npt

from dl_inference.client.calls import Call, Refused
from dl_inference.client.channel import Sent, Settings
from dl_inference.client.errors import BadAnswer, CallError
from dl_inference.client.prediction import Prediction
from dl_inference.codec.errors import InputError

Inputs = Mapping[str, npt.ArrayLike]
Streamed = Prediction | CallError
Make = Callable[[Inputs, str], Call[Prediction | Refused]]
"""Makes the call of one message of its inputs and its id."""


class _Message(NamedTuple):
    call: Call[Prediction | Refused]
    begin: float


class Window:
    """The messages of one stream that wait for an answer."""

    def __init__(self, settings: Settings, sent: Sent, make: Make, max_in_flight: int) -> None:
        """Begin without any.

        Raises:
            InputError: max_in_flight is not a number of messages.
        """
        if not isinstance(max_in_flight, int) or max_in_flight < 1:
            raise InputError(f"max_in_flight: {max_in_flight!r} is not a whole number from 1")
        self.settings, self.sent, self.max_in_flight = settings, sent, max_in_flight
        self.failure: BaseException | None = None
        """What the caller's inputs raised. It ends the stream once the messages before it are answered."""
        self._make = make
        self._count = 0
        self._messages: deque[_Message] = deque()

    def send(self, inputs: Inputs) -> bytes:
        """Return the bytes of the next message, which now waits."""
        call = self._make(inputs, f"{self.sent.request_id}-{self._count}")
        self._count += 1
        self._messages.append(_Message(call, time.perf_counter()))
        return call.request

    def receive(self, data: bytes) -> Streamed:
        """Return what the oldest message was answered with.

        Raises:
            BadAnswer: it is no answer, or one of another message.
        """
        if not self._messages:
            raise self._bad("the server answered more messages than were sent")
        call, begin = self._messages.popleft()
        return self.settings.read_streamed(call, self.sent, begin, data)

    def check_end(self) -> None:
        """Raise what ends the stream though the server ended it well."""
        if self.failure is not None:
            raise self.failure
        if self._messages:
            raise self._bad(f"the server ended the stream with {len(self._messages)} messages unanswered")

    def failed(self, error: Any) -> BaseException:
        """Return what the stream ends with, after gRPC's error."""
        return self.settings.failure(error, self.sent) if self.failure is None else self.failure

    def _bad(self, text: str) -> BadAnswer:
        took_ms = (time.perf_counter() - self.sent.begin) * 1000
        return BadAnswer(text, address=self.settings.address, request_id=self.sent.request_id, took_ms=took_ms)


def answers(
    window: Window, inputs: Iterable[Inputs], method: Callable[[], Any], is_closed: Callable[[], bool]
) -> Generator[Streamed, None, None]:
    """Send inputs and yield the answers. The inputs are taken in a thread of gRPC's, as answers must not wait for them.

    Args:
        window: of this stream.
        inputs: of each message.
        method: gRPC's, opened with the first answer that is asked for.
        is_closed: whether the client was closed.
    """
    slots, is_over = threading.Semaphore(window.max_in_flight), threading.Event()

    def requests() -> Iterator[bytes]:
        try:
            source = iter(inputs)
            while True:
                slots.acquire()
                if is_over.is_set():
                    return
                try:
                    each = next(source)
                except StopIteration:
                    return
                yield window.send(each)
        except GeneratorExit:  # gRPC is done with it
            raise
        except BaseException as error:  # gRPC would log it and say UNKNOWN
            window.failure = error

    window.sent = window.sent.begun()
    try:
        rpc = method()(requests(), timeout=window.sent.timeout_s, metadata=window.sent.metadata)
    except ValueError as error:
        if not is_closed():
            raise
        raise window.settings.closed(window.sent) from error
    try:
        for data in rpc:
            slots.release()
            yield window.receive(data)
        window.check_end()
    except grpc.RpcError as error:
        raise window.failed(error) from error
    finally:
        is_over.set()
        slots.release()
        rpc.cancel()


async def answers_aio(
    window: Window,
    inputs: AsyncIterable[Inputs] | Iterable[Inputs],
    method: Callable[[], Any],
    is_closed: Callable[[], bool],
) -> AsyncGenerator[Streamed, None]:
    """As `answers`, in an event loop."""
    slots = asyncio.Semaphore(window.max_in_flight)

    async def requests() -> AsyncIterator[bytes]:
        source = inputs.__aiter__() if isinstance(inputs, AsyncIterable) else _asynchronous(inputs)
        try:
            while True:
                await slots.acquire()
                try:
                    each = await anext(source)
                except StopAsyncIteration:
                    return
                yield window.send(each)
        except Exception as error:
            window.failure = error

    window.sent = window.sent.begun()
    rpc = method()(requests(), timeout=window.sent.timeout_s, metadata=window.sent.metadata)
    try:
        async for data in rpc:
            slots.release()
            yield window.receive(data)
        window.check_end()
    except grpc.aio.AioRpcError as error:
        raise window.failed(error) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if not is_closed() or (task is not None and task.cancelling()):
            raise
        raise window.settings.closed(window.sent) from error
    finally:
        rpc.cancel()


async def _asynchronous(inputs: Iterable[Inputs]) -> AsyncIterator[Inputs]:
    for each in inputs:
        yield each
