"""`dl-inference status`: what it shows, and of whom."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from fixtures.command_line import command


def test_status_of_nobody_says_what_to_look_for(free_port):
    result = command("status", "--admin", f"127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "is a service running there?" in result.stderr


def test_status_takes_an_address_only():
    result = command("status", "--admin", "http://127.0.0.1:8502/status")
    assert result.exit_code == 2
    assert "an address has no http://" in result.stderr


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
