"""`dl-inference why`: one sentence about one call, from a running access service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.command_line import command

from dl_inference.commands.why import sentence

CALL: dict[str, Any] = {
    "request_id": "4f2a",
    "model": "m",
    "method": "tensorflow.serving.PredictionService/Predict",
    "started_unix_s": 100.0,
    "duration_ms": 312.34,
    "code": "OK",
    "error": None,
    "attempts": 1,
    "legs": [],
}
LEG: dict[str, Any] = {
    "endpoint": "10.0.0.1:8500",
    "started_ms": 0.0,
    "duration_ms": 12.0,
    "code": "OK",
    "outcome": "success",
    "why": "first",
    "cause": None,
}


def test_a_call_that_was_answered_at_once_is_told_with_its_times():
    call = {**CALL, "legs": [{**LEG, "queue_ms": 2.0, "compute_ms": 9.04}]}
    assert sentence(call, 110.0) == (
        "4f2a of model m (tensorflow.serving.PredictionService/Predict), 10 s ago, took 312 ms and ended OK: "
        "10.0.0.1:8500 had it first and answered after 12.0 ms (2.0 ms in its queue, 9.0 ms in the model)."
    )


def test_a_call_is_told_with_its_stages_where_the_endpoint_tells_them():
    stages = {"preprocess_ms": 1.5, "model_ms": 7.04, "postprocess_ms": 0.25}
    call = {**CALL, "legs": [{**LEG, "queue_ms": 2.0, "compute_ms": 9.04, **stages}]}
    told = "(2.0 ms in its queue, 1.5 ms in preprocess, 7.0 ms in model, 0.2 ms in postprocess)."
    assert sentence(call, 110.0).endswith(told)


def test_a_retry_is_told_with_its_cause_and_whom_it_counts_against():
    failed = {**LEG, "code": "UNAVAILABLE", "outcome": "hard", "duration_ms": 300.0}
    retried = {**LEG, "endpoint": "b:1", "started_ms": 300.2, "why": "retry", "cause": "stream_reset"}
    told = sentence({**CALL, "attempts": 2, "legs": [failed, retried]}, 110.0)
    assert "10.0.0.1:8500 had it first and ended it with UNAVAILABLE after 300 ms, which counts against it; " in told
    assert told.endswith("b:1 got it after 300 ms because of stream_reset and answered after 12.0 ms.")


def test_a_hedge_is_told_with_who_was_cancelled():
    lost = {**LEG, "code": "CANCELLED", "outcome": "neutral"}
    won = {**LEG, "endpoint": "b:1", "started_ms": 5.0, "why": "hedge"}
    told = sentence({**CALL, "attempts": 2, "legs": [lost, won]}, 110.0)
    assert "was cancelled after 12.0 ms because the other answered first; " in told
    assert "b:1 was asked, too, after 5.0 ms, because that took long and answered" in told


def test_a_call_that_no_endpoint_had_says_so():
    told = sentence({**CALL, "code": "NOT_FOUND", "error": "no_route", "attempts": 0}, 110.0)
    assert told.endswith("ended NOT_FOUND (no_route): no endpoint had it.")


def test_more_attempts_than_are_remembered_are_counted():
    told = sentence({**CALL, "attempts": 5, "legs": [LEG, LEG, LEG]}, 110.0)
    assert "; 2 more attempts followed; " in told


@pytest.mark.parametrize("wrong", ["a b", "", "x" * 65])
def test_what_is_no_request_id_is_refused(wrong):
    result = command("why", wrong)
    assert result.exit_code == 2
    assert "1 to 64" in result.stderr


def test_why_of_nobody_says_what_to_look_for(free_port: Callable[[], int]):
    result = command("why", "4f2a", "--admin", f"127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "is a service running there?" in result.stderr
