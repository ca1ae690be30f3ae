"""What the access service remembers of the last calls, as `dl-inference why` tells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
from e2e.calls import ask
from fixtures.access_process import Access, cluster
from fixtures.command_line import command
from fixtures.processes import Endpoint


def told(access: Access, request_id: str) -> dict[str, Any]:
    result = command("why", request_id, "--admin", access.admin, "--json")
    assert result.exit_code == 0, result.stderr
    call: dict[str, Any] = json.loads(result.stdout)
    return call


def test_why_tells_of_each_attempt_and_of_what_it_does_not_know(
    start_access: Callable[..., Access], start_endpoint: Callable[..., Endpoint], connect: Callable[..., grpc.Channel]
) -> None:
    good, bad = start_endpoint("--echo", "yes"), start_endpoint("--echo", "yes")
    access = start_access(cluster([good.address, bad.address]))
    access.wait_live(good.address, bad.address)
    channel = connect(access.address)
    empty = command("why", "4f2a", "--admin", access.admin)
    assert (empty.exit_code, "the recorder is empty" in empty.stderr) == (1, True)
    bad.tell("rst")
    answers = [ask(channel, metadata=[("x-request-id", f"call-{number}")]) for number in range(2)]
    (retried,) = [number for number, each in enumerate(answers) if each.attempts == 2]
    call = told(access, f"call-{retried}")
    assert (call["model"], call["code"], call["error"], call["attempts"]) == ("m", "OK", None, 2)
    assert [(leg["endpoint"], leg["code"], leg["why"], leg["cause"]) for leg in call["legs"]] == [
        (bad.address, "UNAVAILABLE", "first", None),
        (good.address, "OK", "retry", "stream_reset"),
    ]
    assert [leg["outcome"] == "success" for leg in call["legs"]] == [False, True]
    (first,) = told(access, f"call-{1 - retried}")["legs"]
    assert first["endpoint"] == good.address
    sentence = command("why", f"call-{retried}", "--admin", access.admin).stdout
    assert "because of stream_reset" in sentence.replace("\n", " ")
    unknown = command("why", "another", "--admin", access.admin)
    assert (unknown.exit_code, "among the last 2," in unknown.stderr) == (1, True)
    refused = ask(channel, body=b"\x0a\x03\x0a\x01x", metadata=[("x-request-id", "nowhere")])
    assert refused.error == "no_route"
    assert (told(access, "nowhere")["error"], told(access, "nowhere")["legs"]) == ("no_route", [])
