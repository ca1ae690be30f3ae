"""Start a process that dies with this one, however that happens.

Run as a file, without site packages, it is the first steps of such a process, and costs milliseconds:
`child.py PARENT_PID PROGRAM ARGUMENT...` asks Linux to kill it with its parent, then becomes the program.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def spawn(command: Sequence[str], environment: Mapping[str, str], standard_input: int, output: int) -> int:
    """Start a program in a session of its own, killed when the thread that calls this ends; return its id.

    Ctrl-C in the terminal is for the caller, which ends its processes in order.

    Args:
        command: program and arguments.
        environment: all of its variables.
        standard_input: descriptor.
        output: descriptor of its standard output and error.
    """
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, standard_input, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE],  # Python ignores it; programs expect it
    )


def prctl(option: int, value: int) -> None:
    """Set something about this process.

    Raises:
        OSError: Linux refused.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(option, value) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")


def die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies; end it when the parent is gone already."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
