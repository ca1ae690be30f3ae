"""Priorities that the configuration gives: what reaches the endpoint, and who is shed first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from e2e.calls import FOR_M, ask, tfs_request
from fixtures.access_process import TFS, wait_until
from fixtures.http2_peer import Stream, echo


def test_a_priority_of_the_route_reaches_the_endpoint_and_a_caller_can_only_lower_it(
    start_access: Any, start_scripted: Any, connect: Callable[..., grpc.Channel]
) -> None:
    seen = []

    def serve(stream: Stream) -> None:
        seen.append(dict(stream.wait_headers()).get("x-priority"))
        echo(stream)

    endpoints = [start_scripted(serve).address]
    models = {
        name: {"endpoints": endpoints, "priority": given}
        for name, given in {"low": "low", "high": "high", "own": None}.items()
    }
    channel = connect(start_access({"models": models}).address)
    for model, asked, is_sent in [
        ("low", None, "low"),
        ("low", "high", "low"),
        ("high", None, "high"),
        ("high", "low", "low"),
        ("own", None, None),
        ("own", "high", "high"),
    ]:
        metadata = [] if asked is None else [("x-priority", asked)]
        assert ask(channel, body=tfs_request(model), metadata=metadata).code is grpc.StatusCode.OK
        assert seen.pop() == is_sent, (model, asked)


def test_calls_of_a_route_of_low_priority_are_shed_first(
    start_access: Any, start_endpoint: Any, connect: Callable[..., grpc.Channel]
) -> None:
    endpoint = start_endpoint()
    endpoint.tell("hang")
    model = {"endpoints": [endpoint.address], "priority": "low", "max_in_flight": 10}
    access = start_access({"models": {"m": model}})
    access.wait_live_model("m")
    channel = connect(access.address)
    held = [channel.unary_unary(TFS).future(FOR_M, timeout=20) for _ in range(7)]
    wait_until(lambda: endpoint.counts()[0] == 7, "seven calls are in flight")
    assert ask(channel, metadata=[("x-priority", "high")]).error == "shed"
    for call in held:
        call.cancel()
