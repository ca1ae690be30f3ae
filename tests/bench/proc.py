"""What the kernel says of a program's processes: CPU, memory, connections of each event loop. Linux only.

A program is a session: ``Process`` starts each in one of its own, so its children count with it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

# Fields of /proc/PID/stat after the program's name (which may hold blanks), from proc(5): session, utime, stime.
_SESSION, _UTIME, _STIME = 3, 11, 12


def cpu_seconds(session: int) -> float:
    """Return user + system time of all living processes of a session."""
    ticks = 0
    for fields in _stats(session).values():
        ticks += int(fields[_UTIME]) + int(fields[_STIME])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(session: int) -> int:
    """Return the resident memory of all living processes of a session."""
    pages = [int((process / "statm").read_text().split()[1]) for process in _stats(session)]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def connections_per_worker(session: int, port: int) -> list[int]:
    """Return how many connections accepted on a port each epoll instance of a session's processes watches.

    An event loop has one epoll instance, so this is the spread over workers, told by the kernel.
    """
    accepted = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        # Local address, state 01 = established, inode: proc(5), /proc/net/tcp.
        if int(words[1].split(":")[1], 16) == port and words[3] == "01":
            accepted.add(f"socket:[{words[9]}]")
    spread = []
    for process in _stats(session):
        links = {link.name: os.readlink(link) for link in (process / "fd").iterdir()}
        polls = [number for number, what in links.items() if what == "anon_inode:[eventpoll]"]
        # mio keeps a second descriptor of each instance: the same sockets then show twice, and count once.
        for watched in {_watched(process / "fdinfo" / number) for number in polls}:
            if count := sum(links.get(one) in accepted for one in watched):
                spread.append(count)
    return sorted(spread)


def _watched(fdinfo: Path) -> frozenset[str]:
    """Return the descriptors that an epoll instance watches."""
    return frozenset(re.findall(r"^tfd:\s+(\d+)", fdinfo.read_text(), re.MULTILINE))


def _stats(session: int) -> dict[Path, list[str]]:
    """Return the stat fields of a session's processes by their /proc folder."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if int(fields[_SESSION]) == session:
            found[stat.parent] = fields
    return found
