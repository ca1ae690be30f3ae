"""grpc-js and tonic, with all that their users do, through the access service to an endpoint that keeps what it got."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.access_process import Access, wait_until
from fixtures.certificates import make_authority
from fixtures.lacking import lacking
from fixtures.processes import ROOT, Process
from recorder import MANY, MANY_BYTES, TOGETHER, Recorder
from stand_in import BROKEN

HERE = Path(__file__).parent
COMMANDS: dict[str, list[str | Path]] = {
    "grpc-js": ["node", HERE / "grpc_js_peer.js", ROOT / ".peers" / "grpc-js"],
    "tonic": [ROOT / ".peers" / "tonic" / "target" / "release" / "tonic-peer"],
}
CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 1, 3, 4, 5
EXHAUSTED, FAILED_PRECONDITION, UNAVAILABLE = 8, 9, 14
# What a scenario's last call gets back, which shows that the connection goes on.
ECHO = [1, 2]
# The last is nearly limits.max_message_bytes.
SIZES = [0, 1, 65_536, 1_000_000, 16_000_000]
# A request's and an answer's, with what is around the content.
TOO_LARGE = (17_000_029, 17_000_014)
# More than a million compressed bytes of three letters.
PACKED_BYTES = 10_000
AGE_MS, RUN_MS = 250, 1000
FIND_S = 30
MODELS = ("m", "39", "broken", "slow", "dropped", "cut", "together", "wide", "many", "sent", "taken")


class Client:
    """A client's program, which runs one scenario after the other."""

    def __init__(self, name: str, run: Callable[..., Process]) -> None:
        self.name = name
        self._run = run
        self._process: Process | None = None
        self._begun = 0

    def start(self, scenario: str, *words: object) -> None:
        """Start a scenario; its first word is an address."""
        if self._process is None or self._process.has_ended:
            self._process = self._run(COMMANDS[self.name])
        self._begun = self._process.line_count()
        self.tell(" ".join(str(word) for word in (scenario, *words)))

    def tell(self, line: str) -> None:
        assert self._process is not None
        self._process.send_line(line)

    def wait_line(self, pattern: str) -> str:
        """Wait for a line that the scenario prints; return the group in it."""
        assert self._process is not None
        return self._process.wait_line(pattern, after=self._begun, timeout_s=FIND_S)[1]

    def end(self) -> Any:
        """Wait until the scenario is over; return what it found."""
        return json.loads(self.wait_line("^found (.*)$"))

    def find(self, scenario: str, *words: object) -> Any:
        """Run a scenario; return what it found."""
        self.start(scenario, *words)
        return self.end()


class Log:
    """The access log's lines about this test's calls."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = {model: len(self._of(model)) for model in MODELS}

    def wait(self, model: str) -> dict[str, Any]:
        """Wait until the only call of a model is in it."""
        new = wait_until(lambda: self._of(model)[self._before[model] :], f"{model} is in the access log")
        assert len(new) == 1
        entry: dict[str, Any] = new[0]
        return entry

    def _of(self, model: str) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self._path.read_text().splitlines()]
        return [entry for entry in entries if entry["model"] == model]


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.stop()


@pytest.fixture(scope="module", params=COMMANDS)
def program(request: pytest.FixtureRequest, run_shared: Callable[..., Process]) -> Client:
    if not (ROOT / ".peers" / request.param / ".installed").exists():
        lacking(f"no client with {request.param}: make peers, with node and npm, and cargo")
    return Client(request.param, run_shared)


@pytest.fixture
def client(program: Client, recorder: Recorder) -> Client:
    recorder.clear()
    return program


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clients")
    make_authority(folder)
    return folder


@pytest.fixture(scope="module")
def config(recorder: Recorder, folder: Path) -> dict[str, Any]:
    tls = {"certificate": f"{folder}/server.pem", "key": f"{folder}/server-key.pem"}
    recorders = {"endpoints": [recorder.address]}
    return {
        "listen": ["127.0.0.1:0", "127.0.0.1:0", f"unix:{folder}/a.sock", {"address": "127.0.0.1:0", "tls": tls}],
        "access_log": f"{folder}/access.log",
        "clusters": {"fleet": recorders, "impatient": {**recorders, "timeout_ms": 300}},
        "models": {**{name: {"cluster": "fleet"} for name in MODELS}, "short": {"cluster": "impatient"}},
    }


@pytest.fixture(scope="module")
def access(shared_access: Callable[[Mapping[str, Any]], Access], config: dict[str, Any], recorder: Recorder) -> Access:
    access = shared_access(config)
    access.wait_live(recorder.address)
    return access


@pytest.fixture(scope="module")
def ages(shared_access: Callable[[Mapping[str, Any]], Access], recorder: Recorder) -> Access:
    """One that asks every connection to go while a scenario runs."""
    models = {"m": {"endpoints": [recorder.address]}}
    access = shared_access({"limits": {"max_connection_age_ms": AGE_MS}, "models": models})
    access.wait_live_model("m")
    return access


@pytest.fixture
def log(access: Access, folder: Path) -> Log:
    return Log(folder / "access.log")


@pytest.fixture
def connections(access: Access, client: Client) -> Callable[[], int]:
    """Give how many connections the test's scenario has opened, once it has closed them."""

    def closed() -> int:
        wait_until(lambda: access.counter("dl_connections") == 0, "no caller is connected")
        return int(access.counter("dl_connections_closed_total"))

    before = closed()
    return lambda: closed() - before


@functools.cache
def digest(size: int) -> str:
    """Return SHA-256 of what the clients send."""
    at = np.arange(size, dtype=np.uint32)
    return hashlib.sha256((at * 31 + (at >> 8) * 7).astype(np.uint8).tobytes()).hexdigest()


def test_every_protocol_answers_and_errors_say_code_text_and_trailers(client: Client, access: Access) -> None:
    broken = [FAILED_PRECONDITION, BROKEN]
    unknown = "no route for model stranger; nearest known: taken, broken, dropped"
    assert client.find("protocols", access.address) == {
        "tfs": [[3, 5], "m"],
        "dl_inference tfs": [[3, 5], "m"],
        "signatures": ["type.googleapis.com/tensorflow.serving.SignatureDefMap", True],
        "seldon": [1.5, 2.5],
        "dl_inference seldon": [1.5, 2.5],
        "oip": ECHO,
        "dl_inference oip": ECHO,
        "health": "SERVING",
        "stranger": [NOT_FOUND, unknown, "no_route", "from-here"],
        "broken": broken,
        "failing": broken,
    }


def test_each_message_of_a_stream_is_answered_before_the_next(
    client: Client, access: Access, recorder: Recorder
) -> None:
    ids = [str(number) for number in range(50)]
    assert client.find("streams", access.address) == {
        "whole": [ids, 0, ""],
        "failing": [["0", "1"], FAILED_PRECONDITION, BROKEN],
    }
    assert [each.id for each in recorder.got] == [*ids, "0", "1", "2"]
    assert recorder.half_closed.is_set()


def test_a_watch_hears_of_a_model_that_comes(client: Client, access: Access, config: dict[str, Any]) -> None:
    new = f"new-{client.name}"
    client.start("watch", access.address, new)
    assert client.wait_line("^state (.*)$") == "SERVICE_UNKNOWN"
    config["models"][new] = {"cluster": "fleet"}
    access.configure(config)
    assert client.end() == ["SERVICE_UNKNOWN", "SERVING"]


def test_an_endpoint_waits_while_the_caller_reads_nothing(client: Client, access: Access, recorder: Recorder) -> None:
    client.start("slow_reader", access.address)
    client.wait_line("^(paused)$")
    seen = -1
    while seen != recorder.sent:
        seen = recorder.sent
        # That nothing more is taken can only be waited for.
        time.sleep(0.2)
    assert seen < MANY
    client.tell("go on")
    assert client.end() == {"code": 0, "answers": [[MANY_BYTES, number] for number in range(MANY)]}
    assert recorder.sent == MANY


def test_a_cancelled_call_ends_at_the_endpoint_and_the_connection_goes_on(
    client: Client, access: Access, recorder: Recorder, log: Log, connections: Callable[[], int]
) -> None:
    client.start("cancels", access.address)
    client.wait_line("^(called)$")
    wait_until(lambda: recorder.got, "the endpoint has the call")
    assert not recorder.got[0].ended.is_set()
    client.tell("cancel")
    # tonic tells who drops a call no code: that it was dropped is all there is to see.
    told = {"grpc-js": CANCELLED, "tonic": True}[client.name]
    assert client.end() == {"unary": told, "stream": told, "after": ECHO}
    assert recorder.models() == ["dropped", "cut", "m"]
    for got in recorder.got:
        assert got.ended.wait(10), got
    assert connections() == 1
    assert log.wait("dropped")["code"] == "CANCELLED"
    # node ends a stream before it resets it: the endpoint may be done in between.
    assert log.wait("cut")["code"] in {"grpc-js": ["CANCELLED", "OK"], "tonic": ["CANCELLED"]}[client.name]


def test_a_deadline_ends_the_call_here_and_there(client: Client, access: Access, recorder: Recorder) -> None:
    # tonic cancels its own call, and says that, where the service's answer does not come first.
    passed = {"grpc-js": [DEADLINE_EXCEEDED], "tonic": [CANCELLED, DEADLINE_EXCEEDED]}[client.name]
    found = client.find("deadlines", access.address)
    code, text = found.pop("service")
    assert found.pop("passed") in passed
    assert found == {"after": ECHO}
    assert code == DEADLINE_EXCEEDED
    assert re.fullmatch(rf"deadline exceeded; endpoint {recorder.address} had the call for \d+ ms", text)
    assert recorder.models() == ["slow", "short", "m"]
    slow, short, after = (each.left_s for each in recorder.got)
    assert 0 < slow <= 0.3
    assert 0 < short <= 0.3
    assert 20 < after <= 30
    assert recorder.got[0].ended.wait(10)


def test_messages_of_every_size_pass_up_and_down(client: Client, access: Access, recorder: Recorder) -> None:
    sent, came = (f"message of {size} bytes is over the limit of 16777216 (max_message_bytes)" for size in TOO_LARGE)
    assert client.find("sizes", access.address, *SIZES) == {
        "same": [[size, True] for size in SIZES],
        "request": [EXHAUSTED, sent],
        "answer": [EXHAUSTED, f"endpoint {recorder.address}: {came}"],
        "after": ECHO,
    }
    expected = [(size, digest(size)) for size in SIZES]
    assert [(each.size, each.digest) for each in recorder.got][: len(SIZES)] == expected
    assert [each.model for each in recorder.got[len(SIZES) :]] == ["wide", "m"]


def test_metadata_passes_both_ways_and_too_many_fields_are_refused(
    client: Client, access: Access, recorder: Recorder, connections: Callable[[], int]
) -> None:
    # node joins what came in two fields, as HTTP allows.
    twice = {"grpc-js": ["one, two"], "tonic": ["one", "two"]}[client.name]
    seen = {"text": [4000], "twice": twice, "binary": [True]}
    found = client.find("metadata", access.address)
    code, text = found.pop("fields")
    assert found == {"answer": ECHO, "first": seen, "last": seen, "after": ECHO}
    assert code == INVALID_ARGUMENT
    assert re.fullmatch(r"20\d metadata fields, limit 128 \(max_metadata_fields\)", text)
    assert len(recorder.got) == 2
    said = [(key, value) for key, value in recorder.got[0].metadata if key.startswith("x-say-")]
    assert sorted(said, key=str) == [
        ("x-say-raw-bin", bytes(range(256))),
        ("x-say-text", "t" * 4000),
        ("x-say-twice", "one"),
        ("x-say-twice", "two"),
    ]
    assert connections() == 1


def test_over_long_metadata_is_refused_and_the_limit_is_named(
    client: Client, access: Access, recorder: Recorder, connections: Callable[[], int]
) -> None:
    found = client.find("long_metadata", access.address)
    assert (found["after"], len(recorder.got), connections()) == (ECHO, 1, 1)
    code, text = found["long"]
    assert code == EXHAUSTED
    assert "limits.max_metadata_bytes" in text


def test_windows_and_header_tables_of_every_size_work(
    client: Client, access: Access, recorder: Recorder, connections: Callable[[], int]
) -> None:
    # A window of 255 bytes is used up and granted anew for each 255.
    windows = {255: 20_000, 65_535: 300_000, 1 << 20: 2_000_000, 1 << 24: 2_000_000}
    words = [(window, table, size) for window, size in windows.items() for table in (0, 100, 65_536)]
    found = client.find("settings", access.address, *(f"{a}:{b}:{c}" for a, b, c in words))
    assert found == [3] * len(words), list(zip(words, found, strict=True))
    expected = [(size, digest(size)) for _, _, size in words for _ in range(3)]
    assert [(each.size, each.digest) for each in recorder.got] == expected
    assert connections() == len(words)


def test_64_calls_run_at_once_on_one_connection(
    client: Client, access: Access, recorder: Recorder, connections: Callable[[], int]
) -> None:
    # The endpoint answers when it has all of them.
    assert client.find("concurrent", access.address, TOGETHER) == TOGETHER
    assert sorted(int(each.id) for each in recorder.got) == list(range(TOGETHER))
    assert connections() == 1


def test_compressed_messages_pass_as_they_are(client: Client, access: Access, recorder: Recorder, log: Log) -> None:
    assert client.find("gzip", access.address) == [True, True]
    size = 1_000_000
    assert [(each.model, each.size) for each in recorder.got] == [("sent", size), ("taken", size)]
    sent, taken = log.wait("sent"), log.wait("taken")
    assert sent["bytes_in"] < PACKED_BYTES < size < sent["bytes_out"]
    assert taken["bytes_out"] < PACKED_BYTES < size < taken["bytes_in"]


def test_a_list_of_addresses_and_a_unix_socket_are_targets(client: Client, access: Access, folder: Path) -> None:
    first, second = access.addresses[:2]
    targets = {
        "grpc-js": [f"ipv4:{first},{second}", f"ipv4:127.0.0.1:9,{second}", f"unix:{folder}/a.sock", f"dns:{first}"],
        "tonic": [f"{first},{second}", f"unix:{folder}/a.sock", f"unix://{folder}/a.sock"],
    }[client.name]
    assert client.find("targets", first, *targets) == [ECHO] * (1 + len(targets))


def test_tls_is_spoken_with_who_trusts_the_authority(client: Client, access: Access, folder: Path) -> None:
    found = client.find("tls", access.addresses[3], folder / "ca.pem")
    assert found == {"same": True, "untrusted": UNAVAILABLE}


def test_no_call_is_lost_while_aged_connections_are_closed(client: Client, ages: Access, recorder: Recorder) -> None:
    before = ages.counter("dl_connections_closed_total", reason="age")
    found = client.find("ages", ages.address, RUN_MS)
    # tonic fails what it has not sent when a server, ours or another, asks it to reconnect: it may be called again.
    unsent = {"grpc-js": [], "tonic": [[CANCELLED, "operation was canceled"]]}[client.name]
    assert [each for each in found["bad"] if each not in unsent] == []
    assert len(recorder.got) == found["count"] - len(found["bad"]) > 20
    assert ages.counter("dl_connections_closed_total", reason="age") - before >= 1
