"""TensorFlow's notes on drivers and CPU features, kept out of a server's log while it is imported.

`TF_CPP_MIN_LOG_LEVEL` has no say in them: TensorFlow's libraries write them before they have read it.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

_NOTE = re.compile(
    rb"[IW]\d{4} |WARNING: All log messages before absl::InitializeLog|To enable the following instructions:"
)
"""How a line of a note begins, or of a warning; errors begin with E or F."""


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Hold back what this process writes to standard error meanwhile; then write all of it but TensorFlow's notes."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held, open(os.dup(2), "wb") as real:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real.fileno(), 2)
            held.seek(0)
            real.writelines(line for line in held if not _NOTE.match(line))
