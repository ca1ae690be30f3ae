"""The program `dl-inference`: what holds from its first moment on, then the command line.

A signal that comes while the command line is still being imported ends the program, too: Linux gives process 1 of a
container no default handlers, and Python's own for SIGINT would print a traceback.
"""

import os
import signal
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)  # as any program ends by it, as the children that inherited this handler do
    os._exit(128 + number)  # process 1 is still here


def main() -> None:
    """Run the command line."""
    former = signal.signal(signal.SIGINT, _end)
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)  # until the command has handlers of its own
    from dl_inference import cli  # noqa: PLC0415  (a second of imports)

    signal.signal(signal.SIGINT, former)
    cli.main()


if __name__ == "__main__":
    main()
