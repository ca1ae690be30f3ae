"""A network of one's own loses the packets that it is told to lose, and no others."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fixtures.processes import ROOT

SCRIPT = """
import socket
from bench.network import enter, lossy

def reaches(host):
    with socket.create_server((host, 1234)):
        try:
            socket.create_connection((host, 1234), 0.2).close()
        except TimeoutError:
            return False
        return True

if refused := enter():
    raise SystemExit(f"no network: {refused}")
with lossy(["127.1.1.1"], 1.0):
    print(reaches("127.1.1.1"), reaches("127.1.1.2"))
print(reaches("127.1.1.1"))
"""


def test_only_the_packets_of_one_address_are_lost_and_only_for_a_while() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT / "tests", capture_output=True, text=True, check=False, timeout=60
    )
    for reason in ("no network: ", "iptables is not installed"):
        if reason in done.stderr:
            pytest.skip(done.stderr.strip().splitlines()[-1])  # not set-up: where one may not, one may not
    assert done.stdout.split() == ["False", "True", "True"], done.stderr
