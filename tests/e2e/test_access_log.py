"""The access log: one JSON line for each call, whatever became of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import grpc
from calls import FOR_M, ask, tfs_request
from fixtures.access_process import Access, cluster, wait_until
from fixtures.processes import Endpoint


def test_each_call_leaves_a_line_that_says_what_became_of_it(
    start_endpoint: Callable[..., Endpoint],
    start_access: Callable[..., Access],
    connect: Callable[..., grpc.Channel],
    tmp_path: Path,
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    path = tmp_path / "access.log"
    access = start_access({**cluster([endpoint.address]), "access_log": str(path)})
    access.wait_live(endpoint.address)
    channel = connect(access.address)
    assert ask(channel, metadata=[("x-request-id", "good-1")]).code is grpc.StatusCode.OK
    endpoint.tell("status 14")
    assert ask(channel, metadata=[("x-request-id", "bad-1")]).code is grpc.StatusCode.UNAVAILABLE
    refused = ask(channel, body=tfs_request("nobody"), metadata=[("x-request-id", "lost-1")])
    assert refused.code is grpc.StatusCode.NOT_FOUND

    def lines() -> list[dict[str, object]]:
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    wait_until(lambda: len(lines()) == 3, "three lines are written")
    good, bad, lost = lines()
    size = len(FOR_M) + 5
    expected = {
        "request_id": "good-1",
        "method": "tensorflow.serving.PredictionService/Predict",
        "model": "m",
        "endpoint": endpoint.address,
        "attempts": 1,
        "code": "OK",
        "bytes_in": size,
        "bytes_out": size,
    }
    assert {key: good[key] for key in expected} == expected
    assert "error" not in good
    assert (bad["request_id"], bad["code"], bad["endpoint"]) == ("bad-1", "UNAVAILABLE", endpoint.address)
    assert (lost["request_id"], lost["code"], lost["error"], lost["attempts"]) == ("lost-1", "NOT_FOUND", "no_route", 0)
