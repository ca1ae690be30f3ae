"""The access log: one JSON line for each call, whatever became of it."""

from __future__ import annotations

import http.client
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from calls import FOR_M, ask, tfs_request
from fixtures.access_process import Access, cluster, wait_until
from fixtures.processes import Endpoint, Process
from fixtures.serve_process import Serve, write_model


def test_each_call_leaves_a_line_that_says_what_became_of_it(
    start_endpoint: Callable[..., Endpoint],
    start_access: Callable[..., Access],
    connect: Callable[..., grpc.Channel],
    tmp_path: Path,
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    path = tmp_path / "access.log"
    limited = {"cluster": "fleet", "limits": {"requests_per_s": 0.01}}
    models = {"m": {"cluster": "fleet", "versions": {"7": {"cluster": "fleet"}}}, "limited": limited}
    access = start_access({**cluster([endpoint.address]), "models": models, "access_log": str(path)})
    access.wait_live(endpoint.address)
    channel = connect(access.address)
    versioned = [("x-request-id", "good-1"), ("x-model", "m"), ("x-model-version", "7")]
    assert ask(channel, metadata=versioned).code is grpc.StatusCode.OK
    endpoint.tell("status 14")
    assert ask(channel, metadata=[("x-request-id", "bad-1")]).code is grpc.StatusCode.UNAVAILABLE
    refused = ask(channel, body=tfs_request("nobody"), metadata=[("x-request-id", "lost-1")])
    assert refused.code is grpc.StatusCode.NOT_FOUND

    unknown = ask(channel, path=f"/a.B/{'c' * 300}", metadata=[("x-request-id", "unknown-1")])
    assert unknown.code is grpc.StatusCode.UNIMPLEMENTED

    endpoint.tell("ok")
    for number in (1, 2):
        ask(channel, body=tfs_request("limited"), metadata=[("x-request-id", f"limited-{number}")])

    wait_until(lambda: len(lines(path)) == 6, "six lines are written")
    good, bad, lost, unknown_line, _, over = lines(path)
    size = len(FOR_M) + 5
    expected = {
        "request_id": "good-1",
        "method": "tensorflow.serving.PredictionService/Predict",
        "model": "m",
        "version": "7",
        "endpoint": endpoint.address,
        "attempts": 1,
        "code": "OK",
        "bytes_in": size,
        "bytes_out": size + 6,  # the endpoint is told the version, and sends it back
    }
    assert {key: good[key] for key in expected} == expected
    assert {"error", "http_method", "trace_id", "caller"}.isdisjoint(good)
    assert 0 < good["upstream_ms"] <= good["duration_ms"]
    assert (bad["request_id"], bad["code"], bad["endpoint"]) == ("bad-1", "UNAVAILABLE", endpoint.address)
    assert (lost["request_id"], lost["code"], lost["error"], lost["attempts"]) == ("lost-1", "NOT_FOUND", "no_route", 0)
    assert "upstream_ms" not in lost
    assert (unknown_line["code"], unknown_line["error"]) == ("UNIMPLEMENTED", "unknown_method")
    assert unknown_line["method"] == f"a.B/{'c' * 252}"
    assert (over["request_id"], over["error"], over["model"]) == ("limited-2", "limited", "limited")


def lines(path: Path) -> list[dict[str, Any]]:
    """Return what an access log has."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def get(address: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> int:
    """Return the status of a request over HTTP."""
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("POST" if body is not None else "GET", path, body, headers or {})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_request_over_http_leaves_a_line_for_each_call_with_its_status_and_none_of_its_body_or_query(
    run: Callable[..., Process], tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    write_model(tmp_path / "models" / "m", "hello")
    serve = Serve(run, tmp_path / "models", env={"DL_INFERENCE_ACCESS_LOG": str(path)})
    serve.wait_state("m", "serving")
    where = "/api/v1.0/predictions?key=SECRET"
    headers = {
        "x-model": "m",
        "x-request-id": "json-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        "authorization": "Bearer SECRET",
        "content-type": "application/json",
    }
    assert get(serve.address, where, '{"strData": "SECRET"}', headers) == 200
    assert get(serve.address, where, '{"strData": SECRET', headers | {"x-request-id": "json-2"}) == 400
    assert get(serve.address, "/nowhere/at/all", None, {"x-request-id": "json-3"}) == 404
    assert get(serve.address, "/" + "p" * 300, None, {"x-request-id": "json-4"}) == 404
    wait_until(lambda: len(lines(path)) >= 4, "every request has a line")
    by_id = {each["request_id"]: each for each in lines(path)}
    good, broken, lost, long = (by_id[f"json-{number}"] for number in (1, 2, 3, 4))
    assert (good["method"], good["model"], good["code"]) == ("seldon.protos.Seldon/Predict", "m", "OK")
    assert (good["http_method"], good["http_path"], good["http_status"]) == ("POST", "/api/v1.0/predictions", 200)
    assert good["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert (broken["method"], broken["code"], broken["http_status"]) == ("", "INVALID_ARGUMENT", 400)
    assert broken["trace_id"] == good["trace_id"]
    assert broken["error"] == "bad_request"
    assert long["http_path"] == "/" + "p" * 255
    assert (lost["http_path"], lost["http_status"], lost["code"]) == ("/nowhere/at/all", 404, "UNIMPLEMENTED")
    assert "SECRET" not in path.read_text()


def test_a_file_that_is_renamed_is_made_anew_as_sighup_asks(
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
    assert ask(channel).code is grpc.StatusCode.OK
    wait_until(lambda: len(lines(path)) == 1, "a line is written")
    path.rename(path.with_suffix(".1"))
    access.process.signal(signal.SIGHUP)

    def is_made() -> bool:
        assert ask(channel).code is grpc.StatusCode.OK
        return bool(lines(path))

    wait_until(is_made, "lines come to the new file")


def test_a_line_has_the_time_of_the_last_attempt_alone(
    start_endpoint: Callable[..., Endpoint],
    start_access: Callable[..., Access],
    connect: Callable[..., grpc.Channel],
    tmp_path: Path,
) -> None:
    path = tmp_path / "access.log"
    bad, good = start_endpoint("--echo", "yes"), start_endpoint("--echo", "yes")
    settings = {"attempt_timeout_ms": 300, "policy": "round_robin"}
    access = start_access({**cluster([bad.address, good.address], **settings), "access_log": str(path)})
    access.wait_live(bad.address, good.address)
    channel = connect(access.address)
    bad.tell("hang")

    def retried() -> dict[str, Any] | None:
        assert ask(channel).code is grpc.StatusCode.OK
        return next((line for line in lines(path) if line["attempts"] == 2), None)

    line = wait_until(retried, "a call is tried again")
    assert line["endpoint"] == good.address
    assert line["duration_ms"] >= 300
    assert line["upstream_ms"] <= line["duration_ms"] - 290
