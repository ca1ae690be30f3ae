"""Limits of models: what is refused, what is told, and what is given back. One access service for all tests."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from e2e.calls import Answer, answer, ask, tfs_request
from e2e.conftest import OPTIONS
from fixtures.access_process import OIP_STREAM, TFS, Access, wait_until
from fixtures.http2_peer import Endpoint, Stream, dial, echo, message, request_head
from fixtures.processes import Process

SLOW = 0.001
"""Requests per second: no token comes back during a test."""
CANCEL = 8
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
Code = grpc.StatusCode


class Served:
    """An access service before an endpoint that does what ``x-do`` of a call says: echo, fail, or wait for `go`."""

    def __init__(self, folder: Path) -> None:
        self.go = threading.Event()
        self.endpoint = Endpoint(self._serve)
        self.programs: list[Process] = []
        rate = {"requests_per_s": SLOW}
        self.models: dict[str, dict[str, Any]] = {
            "free": {},
            "slow": {"limits": {**rate, "burst": 3}},
            "narrow": {"limits": {"in_flight": 1}},
            "heavy": {"limits": {"bytes_per_s": 4096}},
            "streamed": {"limits": {**rate, "burst": 3}},
            "versioned": {"limits": {**rate, "burst": 2}, "versions": {"2": {"cluster": "fleet"}}},
            "known": {"limits": {**rate, "burst": 1}},
            "changed": {"limits": {**rate, "burst": 3}},
            "web": {"limits": {**rate, "burst": 1}},
            "greedy": {"limits": {"in_flight": 2}},
        }
        self.access = Access(self._run, folder, self.config())
        self.access.wait_live(self.endpoint.address)
        self.channel = grpc.insecure_channel(self.access.address, options=OPTIONS)

    def config(self, **more: Any) -> dict[str, Any]:
        fleet = {"endpoints": [self.endpoint.address], "max_in_flight": 4, "max_attempts": 1}
        models = {name: {"cluster": "fleet", **model} for name, model in self.models.items()}
        return {"clusters": {"fleet": fleet}, "models": models, **more}

    def ask(self, model: str, do: str = "echo", **more: Any) -> Answer:
        metadata = [("x-do", do), *more.pop("metadata", ())]
        return ask(self.channel, body=tfs_request(model, more.pop("size", 0)), metadata=metadata, **more)

    def start(self, model: str, do: str, **more: Any) -> Any:
        return self.channel.unary_unary(TFS).future(tfs_request(model), metadata=[("x-do", do)], **more)

    def limits(self, model: str) -> dict[str, Any]:
        found = next(each for each in self.access.status()["models"] if each["name"] == model)
        limits: dict[str, Any] = found["limits"]
        return limits

    def wait_free(self, model: str) -> None:
        wait_until(lambda: self.limits(model)["in_flight_now"] == 0, f"no call of {model} is in flight")

    def close(self) -> None:
        self.go.set()
        self.channel.close()
        for program in self.programs:
            program.kill()
        self.endpoint.close()

    def _run(self, command: Any) -> Process:
        self.programs.append(Process(command))
        return self.programs[-1]

    def _serve(self, stream: Stream) -> None:
        do = dict(stream.wait_headers()).get("x-do", "echo")
        if do == "hang":
            self.go.wait(20)
        if do == "reset":
            stream.reset(CANCEL)
        elif do == "fail":
            stream.send_headers([(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "9")], True)
        else:
            echo(stream)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("limits"))
    yield served
    served.close()


def test_a_model_over_its_rate_is_refused_with_the_time_to_wait(served: Served) -> None:
    assert [served.ask("slow").code for _ in range(3)] == [Code.OK] * 3
    got = served.ask("slow")
    assert (got.code, got.error, got.attempts) == (Code.RESOURCE_EXHAUSTED, "limited", 0)
    wait_ms = int(got.trailers["grpc-retry-pushback-ms"])
    assert 900_000 < wait_ms <= 1_000_000
    assert got.message.startswith("model slow may have requests_per_s 0.001 (burst 3); try again in ")
    assert served.ask("free").code is Code.OK
    assert served.limits("slow")["refused"] == {"requests_per_s": 1}
    assert served.access.counter("dl_limited_total", caller="", model="slow", limit="requests_per_s") == 1
    assert served.access.counter("dl_errors_total", kind="limited") >= 1


@pytest.mark.parametrize("end", ["answer", "error", "endpoint's reset", "deadline", "cancel", "reset", "disconnect"])
def test_a_place_in_flight_is_given_back_however_the_call_ends(served: Served, end: str) -> None:
    if end in ("answer", "error", "endpoint's reset"):
        do = {"answer": "echo", "error": "fail"}.get(end, "reset")
        for _ in range(3):
            assert served.ask("narrow", do).error != "limited"
        return served.wait_free("narrow")
    served.go.clear()
    timeout = 0.3 if end == "deadline" else 20
    peer = dial(served.access.address)
    if end in ("reset", "disconnect"):
        stream = peer.open(request_head(TFS, ("x-do", "hang")))
        stream.send(message(tfs_request("narrow")), end=True)
    else:
        call = served.start("narrow", "hang", timeout=timeout)
    wait_until(lambda: served.limits("narrow")["in_flight_now"] == 1, "the call is in flight")
    got = served.ask("narrow")
    if end != "deadline":  # which may be over by now
        assert got.error == "limited"
        assert "in_flight 1" in got.message
        assert "grpc-retry-pushback-ms" not in got.trailers
    if end == "reset":
        stream.reset(CANCEL)
    elif end == "cancel":
        call.cancel()
    if end == "disconnect":
        peer.abort()
    else:
        peer.close()
    served.wait_free("narrow")
    assert served.ask("narrow").code is Code.OK
    served.go.set()
    return None


def test_bytes_are_counted_and_a_message_over_them_is_waited_for(served: Served) -> None:
    assert served.ask("heavy", size=60_000).code is Code.OK
    got = served.ask("heavy")
    assert got.error == "limited"
    assert "bytes_per_s 4096" in got.message
    assert 8_000 < int(got.trailers["grpc-retry-pushback-ms"]) < 15_000


def test_each_message_of_a_stream_counts(served: Served) -> None:
    go_on = threading.Event()

    def messages() -> Iterator[bytes]:
        for number in range(6):
            if number == 3:
                go_on.wait(20)
            yield b"\x0a\x08streamed"

    call = served.channel.stream_stream(OIP_STREAM)(messages(), metadata=[("x-do", "echo")], timeout=20)
    wait_until(lambda: served.endpoint.calls[-1:] and served.limits("streamed")["refused"], "it came")
    go_on.set()
    with pytest.raises(grpc.RpcError):
        list(call)
    assert dict(call.trailing_metadata())["access-error"] == "limited"
    assert served.limits("streamed")["refused"] == {"requests_per_s": 1}


def test_all_versions_of_a_model_share_its_limits(served: Served) -> None:
    two = [("x-model-version", "2"), ("x-model", "versioned")]
    assert served.ask("versioned").code is Code.OK
    assert served.ask("versioned", metadata=two).code is Code.OK
    assert served.ask("versioned", metadata=two).error == "limited"
    assert served.ask("versioned").error == "limited"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/web/infer", b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}'),
        ("/api/v1.0/predictions", b'{"data":{"ndarray":[[1.0]]}}'),
    ],
)
def test_a_refusal_over_http_says_when_to_try_again(served: Served, path: str, body: bytes) -> None:
    while served.ask("web").error != "limited":
        pass
    headers = {"content-type": "application/json", "x-model": "web"}
    request = urllib.request.Request(f"http://{served.access.address}{path}", body, headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    assert refused.value.code == 429
    assert 900 < int(refused.value.headers["retry-after"]) <= 1000
    assert "requests_per_s" in refused.value.read().decode()
    refused.value.close()


def test_a_question_about_a_model_is_no_call_of_it(served: Served) -> None:
    for _ in range(3):
        got = ask(served.channel, STATUS, tfs_request("known"), metadata=[("x-do", "echo")])
        assert got.error != "limited"
    assert served.ask("known").code is Code.OK
    assert served.ask("known").error == "limited"


def test_a_change_of_a_limit_keeps_what_was_taken(served: Served) -> None:
    assert [served.ask("changed").error for _ in range(4)] == [None, None, None, "limited"]
    served.models["changed"]["limits"]["burst"] = 5
    served.access.configure(served.config())
    assert [served.ask("changed").error for _ in range(3)] == [None, None, "limited"]
    served.models["changed"]["limits"]["burst"] = 12
    served.access.configure(served.config(instances=2))
    assert served.limits("changed")["instances"] == 2
    got = [served.ask("changed") for _ in range(2)]
    assert got[-1].error == "limited"
    assert "1/2" in got[-1].message
    served.access.configure(served.config())


def test_a_model_within_its_limit_leaves_room_for_the_others_of_its_cluster(served: Served) -> None:
    served.go.clear()
    calls = [served.start("greedy", "hang", timeout=20) for _ in range(8)]
    wait_until(lambda: served.limits("greedy")["refused"]["in_flight"] == 6, "all but two are refused")
    assert served.ask("free").code is Code.OK, "the cluster has room for four calls"
    served.go.set()
    ended = [answer(call) for call in calls]
    assert sorted(str(each.error) for each in ended) == ["None"] * 2 + ["limited"] * 6


def test_limits_for_all_models_hold_for_those_without_their_own(served: Served) -> None:
    more: Mapping[str, Any] = {"model_limits": {"requests_per_s": SLOW, "burst": 1}}
    served.access.configure(served.config(**more))
    assert served.limits("free")["burst"] == 1
    assert served.limits("greedy")["requests_per_s"] is None
    assert served.ask("free").code is Code.OK
    assert served.ask("free").error == "limited"
