"""What a request may name and what it may not: methods by their exact paths, and never an address."""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from collections.abc import Callable

import grpc
import pytest
from e2e.calls import FOR_M
from fixtures.access_process import TFS, Access, cluster, wait_until
from fixtures.http2_peer import Endpoint, Gone, Stream, dial, message, request_head

from access.config.sections import AccessConfig


@pytest.mark.parametrize(
    "path",
    [
        TFS[1:],
        f"/{TFS}",
        f"{TFS}/",
        f"{TFS}?x=1",
        "/a/../tensorflow.serving.PredictionService/Predict",
        "*",
        "/",
        TFS.upper(),
    ],
    ids=["no slash", "two slashes", "a slash behind", "a query", "dots", "an asterisk", "a slash", "capitals"],
)
def test_a_path_that_is_not_exactly_a_methods_reaches_no_endpoint(
    start_access: Callable[..., Access], start_scripted: Callable[..., Endpoint], path: str
) -> None:
    endpoint = start_scripted()
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    with dial(access.address) as caller:
        call = caller.open(request_head(path))
        with contextlib.suppress(Gone):  # it may be told already
            call.send(message(FOR_M), end=True)
        wait_until(lambda: call.gone or call.has_ended, "it is told")
        # PROTOCOL_ERROR where it is no path at all, else UNIMPLEMENTED.
        assert call.gone.code == 1 if call.gone else call.status()["grpc-status"] == "12"
        good = caller.open(request_head(TFS))
        good.send(message(FOR_M), end=True)
        assert good.status()["grpc-status"] == "0"
    assert len(endpoint.calls) == 1


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\0b"], ids=["CR LF", "LF", "NUL"])
def test_metadata_with_control_characters_reaches_no_endpoint(
    start_access: Callable[..., Access], start_scripted: Callable[..., Endpoint], value: str
) -> None:
    endpoint = start_scripted()
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    with dial(access.address) as caller:
        call = caller.open(request_head(TFS, ("x-bad", value)))
        call.wait_gone()
    assert not endpoint.calls


def test_no_metadata_is_ever_an_address(
    start_access: Callable[..., Access], start_scripted: Callable[..., Endpoint]
) -> None:
    endpoint = start_scripted()
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, dial(access.address) as caller:
        elsewhere.setblocking(False)
        target = f"127.0.0.1:{elsewhere.getsockname()[1]}"
        names = (
            "host x-forwarded-host x-original-host forwarded x-endpoint access-endpoint x-target grpc-target x-upstream"
        )
        for name in [*names.split(), ":authority"]:
            given = {**dict(request_head(TFS)), name: target}
            call = caller.open(list(given.items()))
            call.send(message(FOR_M), end=True)
            assert call.status()["access-endpoint"] == endpoint.address, name
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_a_cancel_reaches_the_endpoint_within_10_ms(
    start_access: Callable[..., Access], start_scripted: Callable[..., Endpoint], connect: Callable[[str], grpc.Channel]
) -> None:
    gone_at: list[float] = []

    def hang(stream: Stream) -> None:
        stream.wait_gone()
        gone_at.append(time.monotonic())

    endpoint = start_scripted(hang)
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    took = []
    with dial(access.address) as caller:
        for number in range(1, 22):
            call = caller.open(request_head(TFS))
            call.send(message(FOR_M), end=True)
            wait_until(lambda number=number: len(endpoint.calls) == number, "the call is upstream")
            cancelled = time.monotonic()
            call.reset(8)
            wait_until(lambda number=number: len(gone_at) == number, "it is cancelled upstream")
            took.append(gone_at[-1] - cancelled)
    # Of 21, as this and other programs share the machine.
    assert statistics.median(took) < 0.01


def test_the_admin_port_is_this_machines_alone_unless_said() -> None:
    assert str(AccessConfig.model_validate({"models": {}}).admin).startswith("127.0.0.1:")
