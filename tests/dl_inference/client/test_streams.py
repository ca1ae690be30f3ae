"""ModelStreamInfer by both clients: order, errors of one message, what ends a stream, and how much is on its way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from echo_server import Echo, start

from dl_inference import (
    AsyncClient,
    BadAnswer,
    CallError,
    Cancelled,
    Client,
    DeadlineExceeded,
    InputError,
    InvalidArgument,
    NotFound,
    Prediction,
    Unknown,
)

LONG_S = 30


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Echo, str]]:
    handler = Echo()
    running, address = start(handler)
    yield handler, address
    handler.cancelled.set()
    handler.go.set()
    running.stop(0).wait()


@pytest.fixture
def echo(server: tuple[Echo, str]) -> Echo:
    for event in (server[0].waiting, server[0].cancelled, server[0].go):
        event.clear()
    return server[0]


Collect = Callable[..., list[Any]]


@pytest.fixture(params=["threads", "asyncio"])
def collect(request: pytest.FixtureRequest, server: tuple[Echo, str]) -> Collect:
    """Return all results of a stream, of the one client or the other; what it raises comes through."""

    def blocking(model: str, inputs: Any, **options: Any) -> list[Any]:
        with Client(server[1], timeout_ms=LONG_S * 1000) as client:
            return list(client.stream_oip(model, inputs, **options))

    def asynchronous(model: str, inputs: Any, **options: Any) -> list[Any]:
        async def main() -> list[Any]:
            async with AsyncClient(server[1], timeout_ms=LONG_S * 1000) as client:
                return [each async for each in client.stream_oip(model, inputs, **options)]

        return asyncio.run(asyncio.wait_for(main(), 2 * LONG_S))

    return blocking if request.param == "threads" else asynchronous


def number(value: int) -> dict[str, Any]:
    return {"x": np.full((1, 2), value, np.float32)}


def test_a_stream_gives_one_result_for_each_input_in_their_order(collect: Collect, echo: Echo):
    found = collect("m", map(number, range(200)), version=3, parameters={"a": 1})
    assert [each.value.tolist() for each in found] == [[[float(n)] * 2] for n in range(200)]
    last = found[-1]
    assert (last.value.dtype, last.model, last.version, last.meta) == (np.float32, "m", "3", {"a": 1})
    assert last.request_id == echo.metadata["x-request-id"]
    assert 0 < last.took_ms < LONG_S * 1000
    assert collect("m", []) == []


@pytest.mark.parametrize("model", ["m", "old triton"])
def test_the_error_of_one_message_is_a_result_and_ends_nothing(collect: Collect, echo: Echo, model: str):
    found = collect(model, [number(0), {"fail": [1]}, number(2)], metadata=[("x-request-id", "r-1")])
    assert [type(each) for each in found] == [Prediction, Unknown, Prediction]
    assert isinstance(found[1], CallError)
    assert (found[1].message, found[1].request_id) == ("refused", "r-1")
    assert found[2].value[0, 0] == 2


def test_our_servers_say_of_a_messages_error_what_the_trailers_of_a_call_would(collect: Collect):
    (found,) = collect("ours", [{"fail": [1]}])
    assert (type(found), found.kind, found.number) == (InvalidArgument, "hook", -7)
    assert str(found).startswith("INVALID_ARGUMENT (hook, number -7): refused")


def test_answers_without_tritons_envelope_are_read_too(collect: Collect, echo: Echo):
    found = collect("mlserver", map(number, range(3)), version="v1")
    assert [each.value[0, 0] for each in found] == [0, 1, 2]


@pytest.mark.parametrize(
    ("model", "error", "text"),
    [
        ("NOT_FOUND", NotFound, "broken: NOT_FOUND"),
        ("mixed up", BadAnswer, "answers the message 'other' in place of"),
        ("twice", BadAnswer, "more messages than were sent"),
        ("leaves", BadAnswer, "ended the stream with 1 messages unanswered"),
    ],
)
def test_what_ends_the_stream_is_raised(collect: Collect, echo: Echo, model: str, error: type[CallError], text: str):
    with pytest.raises(error, match=text) as caught:
        collect(model, [number(0)])
    assert caught.value.address


def test_what_the_inputs_raise_comes_after_the_results_before(echo: Echo, server: tuple[Echo, str]):
    def inputs(bad: Callable[[], dict[str, Any]]) -> Iterator[dict[str, Any]]:
        yield number(0)
        yield number(1)
        yield bad()

    def broken() -> dict[str, Any]:
        raise KeyError("of the caller")

    with Client(server[1]) as client:
        for bad, error in ((broken, KeyError), (lambda: {"x": [1, "a", None, 2j]}, InputError)):
            found = []
            with pytest.raises(error):
                found.extend(client.stream_oip("m", inputs(bad)))
            # extend keeps what came before
            assert [each.value[0, 0] for each in found] == [0, 1]


def test_what_asynchronous_inputs_raise_is_raised(collect: Collect, echo: Echo):
    def inputs() -> Iterator[dict[str, Any]]:
        yield number(0)
        raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        collect("m", inputs())


def test_no_more_inputs_are_taken_than_may_be_on_their_way(echo: Echo, server: tuple[Echo, str]):
    taken = 0
    more = threading.Event()

    def inputs() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for count in range(20):
            taken += 1
            if taken > 3:
                more.set()
            yield number(count)

    with Client(server[1]) as client, closing(client.stream_oip("holds", inputs(), max_in_flight=3)) as stream:
        first: list[Any] = []
        thread = threading.Thread(target=lambda: first.append(next(stream)))
        thread.start()
        assert echo.waiting.wait(LONG_S)
        assert not more.wait(0.5)  # none can come: nothing is answered
        echo.go.set()
        thread.join(LONG_S)
        assert len([*first, *stream]) == taken == 20
    for wrong in (0, -1, 1.5):
        with pytest.raises(InputError, match="max_in_flight"):
            client.stream_oip("m", [], max_in_flight=wrong)


def test_a_result_does_not_wait_for_the_next_input(echo: Echo, server: tuple[Echo, str]):
    answered = threading.Event()

    def inputs() -> Iterator[dict[str, Any]]:
        yield number(0)
        assert answered.wait(LONG_S)
        yield number(1)

    with Client(server[1]) as client:
        stream = client.stream_oip("m", inputs())
        assert next(stream).value[0, 0] == 0
        answered.set()
        assert next(stream).value[0, 0] == 1
        with pytest.raises(StopIteration):
            next(stream)


def test_leaving_a_stream_cancels_it(echo: Echo, server: tuple[Echo, str]):
    with Client(server[1]) as client:
        for _ in client.stream_oip("m", (number(0) for _ in iter(int, 1)), max_in_flight=2):
            break
        assert echo.cancelled.wait(LONG_S)


def test_leaving_an_asynchronous_stream_cancels_it(echo: Echo, server: tuple[Echo, str]):
    async def endless():
        while True:
            yield number(0)

    async def main() -> None:
        async with AsyncClient(server[1]) as client:
            stream = client.stream_oip("m", endless(), max_in_flight=2)
            assert (await anext(stream)).value[0, 0] == 0
            await stream.aclose()
            assert await asyncio.to_thread(echo.cancelled.wait, LONG_S)
            echo.cancelled.clear()
            echo.waiting.clear()
            task = asyncio.create_task(anext(client.stream_oip("holds", endless())))
            assert await asyncio.to_thread(echo.waiting.wait, LONG_S)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(echo.cancelled.wait, LONG_S)

    asyncio.run(asyncio.wait_for(main(), 3 * LONG_S))


def test_a_stream_ends_at_its_deadline(collect: Collect, echo: Echo):
    with pytest.raises(DeadlineExceeded, match="no answer within 300 ms"):
        collect("holds", [number(0)], timeout_ms=300)
    with pytest.raises(InputError, match="timeout_ms"):
        collect("m", [], timeout_ms=0)


def test_closing_the_client_ends_a_stream_and_its_thread(echo: Echo, server: tuple[Echo, str]):
    takers = []

    def endless() -> Iterator[dict[str, Any]]:
        while True:
            takers.append(threading.current_thread())
            yield number(0)

    client = Client(server[1])
    stream = client.stream_oip("holds", endless(), max_in_flight=1)
    closer = threading.Thread(target=lambda: (echo.waiting.wait(LONG_S), client.close()))
    closer.start()
    with pytest.raises(Cancelled):
        next(stream)
    closer.join(LONG_S)
    takers[0].join(LONG_S)  # it waited for a result that cannot come
    assert not takers[0].is_alive()
    assert len(takers) == 1
    with pytest.raises(RuntimeError, match="closed"):
        next(client.stream_oip("m", [number(0)]))
