"""The units of deploy/systemd under systemd itself: a reload is an upgrade, and a process that was killed comes back.

systemd runs as a user's instance in a mount namespace of its own; where that is not allowed, the test is skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e.calls import tfs_request
from fixtures.access_process import TFS, wait_until
from fixtures.processes import ROOT, Endpoint, Load, Process

UNITS = ROOT / "deploy" / "systemd"
NAME = "dl-inference-access"
LIMIT_S = 60
# It wants to find that the machine was booted by it; /run is a disk of the namespace's own.
START = 'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR" && exec systemd --user'
# They need the system's instance.
ONLY_SYSTEM = r"(?m)^(DynamicUser|StateDirectory|LimitNOFILE|NoNewPrivileges|Protect\w+|PrivateTmp)=.*\n"


class Systemd:
    """An instance with the units of a folder."""

    def __init__(self, run: Callable[..., Process], folder: Path) -> None:
        if shutil.which("systemd") is None or os.getuid() != 0:
            pytest.skip("systemd is not installed, or this user is not root")
        self._env = {"XDG_RUNTIME_DIR": "/run/user/0", "XDG_CONFIG_HOME": str(folder)}
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", START]
        self._process = run(command, env=self._env)
        try:
            wait_until(lambda: self._process.has_ended or self._is_up(), "it is up", LIMIT_S)
        except AssertionError:
            pytest.skip(f"systemd does not start here: {self._process.log}")
        if self._process.has_ended:
            pytest.skip(f"systemd does not start here: {self._process.log}")

    def _is_up(self) -> bool:
        return self.ctl("is-system-running").stdout.strip() in {"running", "degraded"}

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run systemctl."""
        inside = ["nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt", "systemctl", "--user", *words]
        env = os.environ | self._env
        return subprocess.run(inside, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    def do(self, *words: str) -> None:
        """Run systemctl; it must succeed."""
        done = self.ctl(*words)
        assert done.returncode == 0, f"{done.stderr}\n{self.ctl('status', NAME).stdout}"

    def shown(self, name: str) -> str:
        """Return a property of the service."""
        return self.ctl("show", "-p", name, "--value", f"{NAME}.service").stdout.strip()

    def end(self) -> None:
        """Stop the service, and then the instance."""
        self.ctl("stop", f"{NAME}.socket", f"{NAME}.service")
        self.ctl("exit")


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def systemd(
    run: Callable[..., Process], tmp_path: Path, port: int, start_endpoint: Callable[..., Endpoint]
) -> Iterator[Systemd]:
    """Give an instance with both units, whose paths and port are the test's."""
    config = tmp_path / "access.yaml"
    endpoint = start_endpoint("--echo", "yes").address
    listens = f'listen: "127.0.0.1:{port}", admin: "127.0.0.1:0", workers: 1'
    config.write_text(f'{{{listens}, models: {{m: {{endpoints: ["{endpoint}"]}}}}}}')
    units = tmp_path / "systemd" / "user"
    units.mkdir(parents=True)
    unit = (UNITS / f"{NAME}.service").read_text()
    unit = unit.replace("/opt/dl-inference/bin/dl-inference", str(Path(sys.executable).with_name("dl-inference")))
    unit = unit.replace("/etc/dl-inference/access.yaml", str(config))
    (units / f"{NAME}.service").write_text(re.sub(ONLY_SYSTEM, "", unit))
    listens = (UNITS / f"{NAME}.socket").read_text().replace("0.0.0.0:8500", f"127.0.0.1:{port}")
    (units / f"{NAME}.socket").write_text(listens)
    systemd = Systemd(run, tmp_path)
    yield systemd
    systemd.end()


def test_a_reload_is_an_upgrade_and_a_killed_process_comes_back(
    systemd: Systemd, port: int, start_load: Callable[..., Load]
) -> None:
    systemd.do("start", f"{NAME}.socket")
    systemd.do("start", f"{NAME}.service")
    seen = [systemd.shown("MainPID")]
    options = ("--rate", "100", "--seconds", "600", "--deadline-ms", "10000", "--echo", "yes")
    load = start_load(f"127.0.0.1:{port}", TFS, tfs_request("m", 1024), *options)
    for _ in range(2):
        systemd.do("reload", f"{NAME}.service")
        wait_until(lambda: systemd.shown("MainPID") not in seen, "systemd knows the process that goes on", LIMIT_S)
        seen.append(systemd.shown("MainPID"))
    report = load.stop()
    assert report["failed"] == 0, report["failures"]
    assert report["calls"] > 0

    os.kill(int(seen[-1]), signal.SIGKILL)
    wait_until(lambda: systemd.shown("NRestarts") == "1", "it was started again", LIMIT_S)
    wait_until(lambda: systemd.shown("ActiveState") == "active", "it is ready", LIMIT_S)
    # The socket is systemd's: who called meanwhile waited, and is answered.
    assert start_load(f"127.0.0.1:{port}", TFS, tfs_request("m", 1024), "--seconds", "1").stop()["failed"] == 0

    systemd.do("stop", f"{NAME}.service")
    assert systemd.shown("Result") == "success", "it drained and ended by itself"
