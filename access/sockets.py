"""Listening sockets that come from another process, and word to it: a service manager's, or an older program's.

systemd says LISTEN_FDS and LISTEN_PID (sd_listen_fds(3)), and hears READY=1 at NOTIFY_SOCKET (sd_notify(3)). A program
that is replaced names its descriptors one by one, and hears a byte in a pipe.
"""

import os
import socket
from collections.abc import Mapping, MutableMapping

from access.errors import StartError

FIRST = 3
"""The first descriptor that systemd hands over."""
MOST = 1000
DESCRIPTORS = "DL_INFERENCE_LISTEN_DESCRIPTORS"
READY = "DL_INFERENCE_READY_DESCRIPTOR"


class Inherited:
    """What this process was given. Taken out of the environment, so that no process below believes it is its own.

    Args:
        environment: of the process.

    Raises:
        StartError: it says something that is not so.

    Attributes:
        descriptors: of listening sockets.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        named, ready = environment.pop(DESCRIPTORS, ""), environment.pop(READY, "")
        count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
        environment.pop("LISTEN_FDNAMES", None)
        self._notify = environment.get("NOTIFY_SOCKET", "")
        try:
            self._ready = int(ready) if ready else None
            self.descriptors = [int(each) for each in named.split(",") if each]
            if not named and count and pid == str(os.getpid()):
                self.descriptors = list(range(FIRST, FIRST + min(int(count), MOST)))
            for each in self.descriptors:
                os.set_inheritable(each, False)
        except (ValueError, OSError) as error:
            text = f"inherited sockets: {DESCRIPTORS}={named!r}, {READY}={ready!r}, LISTEN_FDS={count!r}: {error}"
            raise StartError(text) from error

    def tell_ready(self) -> None:
        """Say that calls are served; who waits for it goes."""
        if self._ready is not None:
            os.write(self._ready, b"1")
            os.close(self._ready)
            self._ready = None
        notify(self._notify, f"MAINPID={os.getpid()}\nREADY=1")


def given_to_next(descriptors: list[int], ready: int) -> Mapping[str, str]:
    """Return what the environment of a process says that is to go on with sockets."""
    return {DESCRIPTORS: ",".join(map(str, descriptors)), READY: str(ready)}


def notify(path: str, text: str) -> None:
    """Tell the service manager, where there is one."""
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(1.0)
        sender.connect("\0" + path[1:] if path.startswith("@") else path)
        sender.sendall(text.encode())
