"""A network of the benchmark's own (a Linux network namespace), where ports are free and packets may be lost."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bench.contenders import installed

CLONE_NEWNET = 0x4000_0000  # linux/sched.h
SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # netdevice(7)


def enter() -> str:
    """Take this process, its later threads and children to a network of their own; "" or why that is not allowed."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        return os.strerror(ctypes.get_errno())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    return ""


@contextmanager
def lossy(hosts: list[str], share: float) -> Iterator[None]:
    """Lose this share of the packets from and to some addresses, after they were sent: nobody is told of it.

    Raises:
        RuntimeError: iptables is not installed.
        subprocess.CalledProcessError: it is not allowed.
    """
    rules = [[f"--{side}", host] for host in hosts for side in ("source", "destination")]
    chance = ["-m", "statistic", "--mode", "random", "--probability", str(share), "-j", "DROP"]
    program = installed("iptables", "iptables") if rules else ""
    for rule in rules:
        subprocess.run([program, "-A", "INPUT", *rule, *chance], check=True, timeout=10)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run([program, "-D", "INPUT", *rule, *chance], check=True, timeout=10)
