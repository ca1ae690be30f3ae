"""A new process goes on with the listening sockets of a running access service; no call is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from e2e.calls import ask, tfs_request
from fixtures.access_process import TFS, Access, cluster, wait_until
from fixtures.processes import Endpoint, Load

PROGRAM = Path(sys.executable).with_name("dl-inference")
END_S = 60
TIMES = int(os.environ.get("TEST_UPGRADES", "3"))

AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""

StartAccess = Callable[..., Access]
StartEndpoint = Callable[..., Endpoint]


def pid(access: Access) -> int:
    return int(access.status()["control"]["pid"])


def upgrade(access: Access, *options: str) -> subprocess.CompletedProcess[str]:
    command = [PROGRAM, "upgrade", "--admin", access.admin, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=END_S, check=False)


@pytest.fixture
def access(start_access: StartAccess, start_endpoint: StartEndpoint) -> Iterator[Access]:
    """A service; the process that has gone on with it last is ended, too."""
    endpoint = start_endpoint("--echo", "yes")
    access = start_access({**cluster([endpoint.address]), "upgrade_timeout_ms": 20_000})
    access.wait_live(endpoint.address)
    yield access
    end(access)


def end(access: Access) -> None:
    if answers(access):
        os.kill(pid(access), signal.SIGTERM)
    wait_until(lambda: not answers(access), "the last process has ended", END_S)


def ended(access: Access) -> int:
    """Wait for the first process; those that follow it keep its output open."""
    wait_until(lambda: access.process.has_ended, "the first process has ended", END_S)
    return access.process.wait(0.1)


def answers(access: Access) -> bool:
    try:
        access.get("/live")
    except OSError:
        return False
    return True


def test_no_call_fails_while_the_process_is_replaced_again_and_again(
    access: Access, start_load: Callable[..., Load]
) -> None:
    options = ("--rate", "200", "--seconds", "600", "--deadline-ms", "5000", "--echo", "yes")
    load = start_load(access.address, TFS, tfs_request("m", 1024), *options)
    seen = [pid(access)]
    for _ in range(TIMES):
        done = upgrade(access)
        assert done.returncode == 0, done.stderr
        seen.append(pid(access))
        goal = access.counter("dl_requests_total") + 50
        wait_until(lambda goal=goal: access.counter("dl_requests_total") >= goal, "the new one serves", END_S)
    report = load.stop()
    assert report["failed"] == 0, report["failures"]
    assert len(set(seen)) == TIMES + 1
    assert ended(access) == 0, "the first one drained"


def test_a_call_that_was_begun_before_ends_in_the_old_process(
    start_access: StartAccess, start_endpoint: StartEndpoint, connect: Callable[[str], grpc.Channel]
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    access = start_access(cluster([endpoint.address]))
    endpoint.tell("slow 15000")
    call = connect(access.address).unary_unary(TFS).future(tfs_request("m"), timeout=50)
    wait_until(lambda: endpoint.counts()[0] == 1, "the call is in flight")
    assert upgrade(access).returncode == 0
    assert not call.done()
    endpoint.tell("ok")
    assert ask(connect(access.address)).trailers["access-endpoint"] == endpoint.address
    assert call.result()
    assert ended(access) == 0
    end(access)


def test_a_new_process_that_does_not_become_ready_leaves_the_old_one_serving(
    access: Access, connect: Callable[[str], grpc.Channel]
) -> None:
    before = pid(access)
    good = access._path.read_text()
    access._path.write_text("models: [")
    refused = upgrade(access)
    assert refused.returncode == 1
    assert "ended with exit status 1" in refused.stderr
    assert f"process {before} goes on" in refused.stderr
    assert ask(connect(access.address)).trailers["access-endpoint"]
    assert access.status()["control"]["upgrade"]["error"]
    access._path.write_text(good)
    assert upgrade(access).returncode == 0
    assert pid(access) != before


def test_sockets_of_a_service_manager_are_taken_and_it_hears_that_the_service_is_ready(
    tmp_path: Path, connect: Callable[[str], grpc.Channel]
) -> None:
    config = tmp_path / "access.yaml"
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config.write_text(f'{{listen: "127.0.0.1:{port}", models: {{m: {{endpoints: ["127.0.0.1:9"]}}}}}}')
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(tmp_path / "notify"))
    notified.settimeout(END_S)
    given = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "DL_INFERENCE_ADMIN": "127.0.0.1:0"}
    command = [sys.executable, "-c", AS_SYSTEMD, str(listener.fileno()), PROGRAM, "access", "--config", config]
    process = subprocess.Popen(command, pass_fds=[listener.fileno()], env=given)
    try:
        # Bound and listening already: without the handed socket the program could not start.
        assert notified.recv(1000).decode().splitlines() == [f"MAINPID={process.pid}", "READY=1"]
        with pytest.raises(grpc.RpcError) as refused:
            connect(f"127.0.0.1:{port}").unary_unary(TFS)(tfs_request("m"), timeout=10)
        assert "access-error" in dict(refused.value.trailing_metadata()), "the service itself answers"
    finally:
        process.terminate()
        assert process.wait(END_S) == 0
        # The manager's socket is as it was: who connects now waits for the next process.
        socket.create_connection(("127.0.0.1", port), timeout=END_S / 2).close()
        listener.close()
        notified.close()
