"""The first steps of a model process of `serve`: ask Linux to kill it when its parent dies, then become the program.

Run as a file, without site packages, so that it costs milliseconds: `local_child.py PARENT_PID PROGRAM ARGUMENT...`.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int, *command: str) -> None:
    """Become the command, which Linux kills with the thread that started it.

    Raises:
        OSError: Linux refused, or there is no such program.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
