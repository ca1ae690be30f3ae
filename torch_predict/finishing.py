"""Call the hook at the end of a process, which must not keep it from ending."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from dl_inference.serving import ending

FINISH_S = 5.0
"""How long the hook may take."""

_LOGGER = logging.getLogger(__name__)


def finish(hook: Callable[[], Any] | None, exit_status: int) -> int:
    """Call `finish` of processor.py, if there is one; return the exit status that there would be without it.

    What it raises is logged. Where it takes too long, the process ends here: it runs in this thread, to which what
    processor.py has opened may belong, and nothing else can end it.
    """
    if hook is None:
        return exit_status

    def give_up() -> None:
        _LOGGER.error("finish is still busy after %.1f s: stopping without it", FINISH_S)
        ending.exit_now(exit_status)

    timer = threading.Timer(FINISH_S, give_up)
    timer.daemon = True
    timer.start()
    try:
        hook()
    except BaseException:  # sys.exit() in it, too
        _LOGGER.exception("finish failed")
    finally:
        timer.cancel()
    return exit_status
