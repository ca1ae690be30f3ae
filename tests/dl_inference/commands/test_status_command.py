"""`dl-inference status`: what it shows, and of whom."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from fixtures.command_line import command
from rich.console import Console

from dl_inference.commands.status_view import control_parts, render


def said(**source: object) -> list[str]:
    known = {"name": "zookeeper:zk://zk1/x", "error": None, "last_good": "2026-11-21T12:00:00+00:00"}
    known |= {"last_good_unix_s": time.time() - 90, "reloads_ok": 3, "reloads_failed": 1, "origin": "source"}
    return [str(part) for part in control_parts({"sources": [{**known, "save_error": None, **source}]})]


def test_a_source_that_can_be_read_is_one_line():
    assert said() == ["zookeeper:zk://zk1/x  last good 2026-11-21T12:00:00+00:00  reloads 3, failed 1"]


@pytest.mark.parametrize(
    ("origin", "words"), [("source", "last good state"), ("saved", "saved state"), ("fallback", "fallback")]
)
def test_a_lost_source_says_what_is_in_force_and_how_old_that_is(origin, words):
    _, error, in_force = said(error="unreachable since noon", origin=origin)
    assert error.strip() == "unreachable since noon"
    assert in_force.strip() in [f"in force: its {words}, {age} s old" for age in (90, 91)]


def test_a_source_that_was_never_read_has_no_age():
    first, _, in_force = said(error="nobody answers", origin="fallback", last_good=None, last_good_unix_s=0.0)
    assert "last good never" in first
    assert in_force.strip() == "in force: its fallback"


def test_a_state_that_cannot_be_saved_is_said():
    assert said(save_error="/state/x.json: the last good state cannot be saved: No space left on device")[1:] == [
        "  /state/x.json: the last good state cannot be saved: No space left on device"
    ]


def test_status_of_nobody_says_what_to_look_for(free_port):
    result = command("status", "--admin", f"127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "is the access service running" in result.stderr


def test_status_takes_an_address_only():
    result = command("status", "--admin", "http://127.0.0.1:8502/status")
    assert result.exit_code == 2
    assert "an address has no http://" in result.stderr


def test_status_of_a_model_server_shows_its_calls():
    calls = {"seldon.protos.Model/Predict": {"codes": {"OK": 3, "INTERNAL": 1}, "p50_s": 0.002, "p99_s": None}}
    document = {"ready": True, "model": "digits", "model_version": "1", "queued": 0, "calls": calls}
    out = Console(width=120)
    with out.capture() as capture:
        out.print(render(document))
    rows = [line.split() for line in capture.get().splitlines()]
    assert ["ready", "model", "digits", "model", "version", "1", "queued", "0"] in rows
    assert ["seldon.protos.Model/Predict", "4", "1", "2.0"] in rows
    with out.capture() as capture:
        out.print(render(document, {"calls": {}}, 2.0))
    assert ["seldon.protos.Model/Predict", "4", "2.0", "1", "2.0"] in [
        line.split() for line in capture.get().splitlines()
    ]


def test_status_of_something_else_says_so():
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        result = command("status", "--admin", f"127.0.0.1:{server.server_port}")
    assert result.exit_code == 1
    assert "answers HTTP 404" in result.stderr
