"""docker/healthcheck.py: exit status and reason for whatever is, or is not, behind the admin port."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from fixtures.processes import ROOT

ANSWERS = {"ready": (200, b"ready\n"), "draining": (503, b"draining\n")}


@pytest.fixture
def admin(request) -> Iterator[int]:
    """Serve one answer at /ready of any address of this machine; give the port."""
    code, body = ANSWERS[request.param]

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(code if self.path == "/ready" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(http.server.HTTPServer):
        address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    with Server(("::" if socket.has_dualstack_ipv6() else "", 0), Ready) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def check(*arguments: str, **variables: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-I", ROOT / "docker" / "healthcheck.py", *arguments],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("admin", ["ready"], indirect=True)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "", "[::]", "[::1]", "localhost"])
def test_a_ready_program_is_healthy_wherever_it_listens(admin, host):
    if host.startswith("[") and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    assert check(DL_INFERENCE_ADMIN=f"{host}:{admin}") == (0, "")
    assert check(f"{host}:{admin}") == (0, "")


@pytest.mark.parametrize("admin", ["ready"], indirect=True)
def test_no_proxy_is_asked(admin):
    assert check(f"127.0.0.1:{admin}", http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")[0] == 0


@pytest.mark.parametrize("admin", ["draining"], indirect=True)
def test_a_draining_program_is_not(admin):
    address = f"127.0.0.1:{admin}"
    assert check(address) == (1, f"{address}/ready answers 503 draining\n")


def test_nobody_is_not(free_port):
    code, said = check(address := f"127.0.0.1:{free_port()}")
    assert code == 1
    assert f"no answer from the admin port {address}: " in said


def test_a_program_that_never_answers_is_not():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        code, said = check(f"127.0.0.1:{mute.getsockname()[1]}")
    assert code == 1
    assert "timed out" in said


@pytest.mark.parametrize("wrong", ["", "unix:/run/admin", "127.0.0.1:no"])
def test_an_address_that_is_none_is_not_and_is_named(wrong):
    code, said = check(DL_INFERENCE_ADMIN=wrong)
    assert code == 1
    assert wrong in said
