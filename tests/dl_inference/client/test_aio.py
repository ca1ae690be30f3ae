"""The client for asyncio: as the other one, and what only it does: cancelling, one loop, many calls at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
import pytest
from echo_server import FEEDBACK, Echo, start

from dl_inference import (
    AsyncClient,
    BadAnswer,
    Cancelled,
    DeadlineExceeded,
    Internal,
    NotFound,
    Retries,
    Unavailable,
    Unimplemented,
    messages,
)

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Echo, str]]:
    handler = Echo()
    running, address = start(handler)
    yield handler, address
    handler.cancelled.set()
    running.stop(0).wait()


@pytest.fixture
def run(server: tuple[Echo, str]) -> Callable[[Callable[[AsyncClient], Awaitable[None]]], None]:
    """Run a coroutine with a client, within a minute."""
    server[0].waiting.clear()
    server[0].cancelled.clear()

    def run(work: Callable[[AsyncClient], Awaitable[None]], **settings) -> None:
        async def main() -> None:
            async with AsyncClient(server[1], **{"timeout_ms": 30_000, **settings}) as client:
                await work(client)

        asyncio.run(asyncio.wait_for(main(), 60))

    return run


async def waiting(echo: Echo) -> None:
    assert await asyncio.to_thread(echo.waiting.wait, 20)


def test_every_method_gives_what_the_other_client_gives(run):
    async def work(client: AsyncClient) -> None:
        for found in (
            await client.predict_tfs("m", {"x": X}, version=3),
            await client.predict_oip("m", {"x": X}, version=3),
            await client.predict_seldon("m", X, tags={"a": 1}),
        ):
            np.testing.assert_array_equal(found.value, X)
            assert (found.attempts, found.endpoint, found.model) == (2, "10.0.0.1:8500", "m")
        assert found.tags == {"a": 1.0}
        assert await client.status_tfs("m") == {6: "END", 7: "AVAILABLE"}
        assert list(await client.signatures_tfs("m")) == ["serving_default"]
        assert (await client.metadata_oip("m")).versions == ("1", "3")
        assert await client.ready_oip("m", version=3)
        answer = await client.send(FEEDBACK, messages.SeldonMessage(strData="x"), messages.SeldonMessage)
        assert answer.message.strData == "x"
        with pytest.raises(Unimplemented):
            await client.is_serving()

    run(work)


def test_errors_are_the_same_classes(run):
    async def work(client: AsyncClient) -> None:
        with pytest.raises(NotFound, match="broken") as caught:
            await client.predict_tfs("NOT_FOUND", {"x": X})
        assert (caught.value.kind, caught.value.attempts, caught.value.request_id) == ("hook", 3, "theirs")
        with pytest.raises(Internal):
            await client.predict_seldon("INTERNAL", X)
        with pytest.raises(BadAnswer, match="the answer is empty"):
            await client.predict_oip("empty", {"x": X})

    run(work)


def test_a_cancelled_task_cancels_its_call_at_the_server(run, server):
    async def work(client: AsyncClient) -> None:
        task = asyncio.create_task(client.predict_tfs("slow", {"x": X}))
        await waiting(server[0])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server[0].cancelled.wait, 20)

    run(work)


def test_a_timeout_of_asyncio_cancels_too(run, server):
    async def work(client: AsyncClient) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.predict_tfs("slow", {"x": X})
        assert await asyncio.to_thread(server[0].cancelled.wait, 20)

    run(work)


def test_a_hanging_server_is_left_at_the_deadline(run):
    async def work(client: AsyncClient) -> None:
        with pytest.raises(DeadlineExceeded, match="no answer within 300 ms"):
            await client.predict_tfs("slow", {"x": X}, timeout_ms=300)

    run(work)


def test_a_hundred_calls_at_once_each_get_their_own_answer(run):
    async def work(client: AsyncClient) -> None:
        arrays = [np.full(100 + number, number) for number in range(100)]
        for found, sent in zip(
            await asyncio.gather(*(client.predict_oip("m", {"x": array}) for array in arrays)), arrays, strict=True
        ):
            np.testing.assert_array_equal(found.value, sent)

    run(work)


def test_without_retries_a_call_is_made_once_and_with_them_again(run, server):
    async def fails(client: AsyncClient) -> None:
        with pytest.raises(Unavailable):
            await client.predict_tfs("fails 1", {"x": X}, metadata=[("x-request-id", "async-once")])
        assert server[0].attempts["async-once"] == 1

    async def works(client: AsyncClient) -> None:
        await client.predict_tfs("fails 1", {"x": X}, metadata=[("x-request-id", "async-twice")])
        assert server[0].attempts["async-twice"] == 2

    run(fails)
    run(works, retries=Retries(max_attempts=2, backoff_ms=10))


def test_closing_ends_the_calls(run, server):
    async def work(client: AsyncClient) -> None:
        task = asyncio.create_task(client.predict_tfs("slow", {"x": X}))
        await waiting(server[0])
        await client.close()
        with pytest.raises(Cancelled):
            await task
        with pytest.raises(RuntimeError, match="this client is closed"):
            await client.predict_tfs("m", {"x": X})

    run(work)


def test_a_client_belongs_to_one_loop(server):
    client = AsyncClient(server[1])

    async def call() -> None:
        await client.predict_seldon("m", "x")

    with asyncio.Runner() as runner:
        runner.run(call())
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            asyncio.run(call())
        runner.run(client.close())
