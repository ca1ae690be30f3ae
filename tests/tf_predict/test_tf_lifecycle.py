"""Starts, ends, limits and changing folders of the TensorFlow server, by sockets and signals (stand_in_process.py)."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import stand_in_server
from fixtures.access_process import wait_until
from stand_in_process import NOT_SERVING, PREDICT, SERVING, Server, failure, waits_for, write

from dl_inference.messages import PredictResponse
from dl_inference.serving.options import ServeOptions
from tf_predict.server import RUNNING, serve

# --- the end


def test_a_drain_lets_calls_end_and_says_not_serving(start: Callable[..., Server], tmp_path: Path):
    server = start()
    watch = server.watch("m")
    assert next(watch) == SERVING
    call = server.start(waits_for(tmp_path / "go"))
    wait_until((tmp_path / "go.waiting").exists, "the call runs")
    server.process.signal(signal.SIGTERM)
    assert list(watch) == [NOT_SERVING]
    assert failure(lambda: server.predict(1))[0] == "UNAVAILABLE"
    (tmp_path / "go").touch()
    assert call.result(20).outputs["y"].string_val[0] == b"10.0"
    assert server.process.wait() == 0


def test_a_second_signal_stops_at_once(start: Callable[..., Server], tmp_path: Path):
    server = start()
    call = server.start(waits_for(tmp_path / "never"))
    wait_until((tmp_path / "never.waiting").exists, "the call runs")
    server.process.signal(signal.SIGINT)
    server.process.wait_line("draining")
    server.process.signal(signal.SIGTERM)
    assert server.process.wait() == 128 + signal.SIGTERM
    assert failure(lambda: call.result(20))[0] == "UNAVAILABLE"


def test_a_call_that_outlasts_the_drain_is_cut_off_and_told_in_the_status(start: Callable[..., Server], tmp_path: Path):
    server = start(env={"DL_INFERENCE_DRAIN_TIMEOUT_MS": "300"})
    call = server.start(waits_for(tmp_path / "never"))
    wait_until((tmp_path / "never.waiting").exists, "the call runs")
    server.process.signal(signal.SIGTERM)
    assert server.process.wait() == 1
    assert "stopped with 1 calls unanswered" in server.process.log
    assert failure(lambda: call.result(20))[0] in ("UNAVAILABLE", "CANCELLED")


# --- too many


def test_a_call_whose_deadline_passed_while_it_waited_is_not_run(start: Callable[..., Server], tmp_path: Path):
    server = start()
    files = [tmp_path / f"call-{index}" for index in range(RUNNING)]
    calls = [server.start(waits_for(file)) for file in files]
    wait_until(lambda: all(file.with_suffix(".waiting").exists() for file in files), "every thread is busy")
    assert failure(lambda: server.call(PREDICT, waits_for(tmp_path / "late"), PredictResponse, 0.3))[0] == (
        "DEADLINE_EXCEEDED"
    )
    for file in files:
        file.touch()
    for call in calls:
        call.result(20)
    assert server.predict(1) == 11
    assert not (tmp_path / "late.waiting").exists()


def test_more_calls_than_the_limit_are_refused_with_the_limit(start: Callable[..., Server], tmp_path: Path):
    server = start(env={"DL_INFERENCE_MAX_QUEUE": "1"})
    call = server.start(waits_for(tmp_path / "go"))
    wait_until((tmp_path / "go.waiting").exists, "the call runs")
    code, text = failure(lambda: server.predict(1))
    assert code == "RESOURCE_EXHAUSTED"
    assert "the limit (max_queue) is 1" in text
    assert server.check("") == SERVING
    (tmp_path / "go").touch()
    call.result(20)


# --- the folder changes


def test_a_new_version_takes_over_and_the_old_one_ends_its_calls(start: Callable[..., Server], folder: Path):
    server = start()
    call = server.start(waits_for(folder.parent / "go"))
    wait_until((folder.parent / "go.waiting").exists, "the call runs")
    write(folder, 2, "20")
    wait_until(lambda: server.predict(1) == 21, "version 2 answers", 20)
    wait_until(lambda: server.states() == {1: 40, 2: 30}, "version 1 is unloading")
    assert failure(lambda: server.predict(1, version=1)) == (
        "NOT_FOUND",
        "Servable not found for request: Specific(m, 1)",
    )
    (folder.parent / "go").touch()
    assert call.result(20).outputs["y"].string_val[0] == b"10.0"
    wait_until(lambda: server.states() == {1: 50, 2: 30}, "version 1 has ended")


def test_a_version_that_cannot_be_loaded_is_told_and_the_old_one_serves_on(start: Callable[..., Server], folder: Path):
    server = start()
    write(folder, 2, "broken")
    server.process.wait_line("version 2 is not served; what was loaded is served on")
    assert (server.states(), server.predict(1)) == ({1: 30, 2: 50}, 11)
    (folder / "model.yaml").write_text("vesrions: [1]")
    server.process.wait_line("did you mean 'versions'")
    assert server.predict(1) == 11
    (folder / "model.yaml").write_text("versions: [1]\nlabels: {good: 1}")
    wait_until(lambda: "good" in label_of(server), "the label is known")
    assert server.process.log.count("version 2 is not served") == 1


def label_of(server: Server) -> str:
    try:
        return "good" if server.predict(1, label="good") == 11 else ""
    except grpc.RpcError:
        return ""


def test_a_version_that_was_chosen_stays_whatever_comes(start: Callable[..., Server], folder: Path):
    write(folder, 2, "20")
    server = start("--version", "1")
    assert (server.predict(1), server.states()) == (11, {1: 30})
    assert "loading" not in server.process.log.partition("serving m version 1")[2]


# --- addresses and folders


def test_it_listens_on_a_unix_socket(start: Callable[..., Server], folder: Path):
    assert start(address=f"unix:{folder.parent}/s.sock").predict(1) == 11


def start_failure(caplog: pytest.LogCaptureFixture, folder: Path, *listen: str, **options: Any) -> str:
    """Return the log of a start that fails."""
    caplog.set_level("INFO")
    asked = ServeOptions(model_dir=folder, listen=listen or ["127.0.0.1:0"], **options)
    assert serve(asked, load=stand_in_server.load) == 1
    return caplog.text


@pytest.mark.parametrize("kind", ["port", "socket"])
def test_an_address_in_use_is_told_before_the_model_loads(folder: Path, caplog: Any, kind: str):
    path = str(folder.parent / "s.sock")
    with socket.socket(socket.AF_INET if kind == "port" else socket.AF_UNIX) as other:
        other.bind(("127.0.0.1", 0) if kind == "port" else path)
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}" if kind == "port" else f"unix:{path}"
        log = start_failure(caplog, folder, address)
    assert f"cannot listen on {address}: Address already in use" in log
    assert "loading" not in log


@pytest.mark.parametrize("address", ["5000", "::1:5000", "host:port", "127.0.0.1:65536", "unix:/no/such/folder/s"])
def test_an_address_that_is_none_is_told(folder: Path, caplog: Any, address: str):
    assert "cannot listen on " in start_failure(caplog, folder, address)


@pytest.mark.parametrize("path", ["/tmp/a.sock", "a.sock"])
def test_a_unix_socket_for_the_admin_port_is_refused_before_the_model_loads(folder: Path, caplog: Any, path: str):
    log = start_failure(caplog, folder, admin=f"unix:{path}")
    assert f"unix:{path}: the admin port of this server has no unix socket: give HOST:PORT" in log
    assert "loading" not in log


@pytest.mark.parametrize(
    ("breakage", "words"),
    [
        (lambda folder: (folder / "1" / "saved_model.pb").write_text("broken"), "cannot be loaded: it is broken"),
        (lambda folder: (folder / "1" / "saved_model.pb").unlink(), "holds no SavedModel"),
        (lambda folder: (folder / "model.yaml").write_text("timeout: 1"), "did you mean 'timeout_ms'?"),
    ],
    ids=["broken", "empty", "settings"],
)
def test_a_folder_that_cannot_be_served_is_told(folder: Path, caplog: Any, breakage: Callable[[Path], Any], words: str):
    breakage(folder)
    assert words in start_failure(caplog, folder)


def test_a_version_that_is_not_there_is_told(folder: Path, caplog: Any):
    assert "there is no version 9; found: 1" in start_failure(caplog, folder, version=9)


def test_a_setting_that_does_not_fit_is_told(folder: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DL_INFERENCE_MAX_QUEUE", "many")
    assert "DL_INFERENCE_MAX_QUEUE=many" in start_failure(caplog, folder)
