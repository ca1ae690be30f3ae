"""``python run_access.py access.yaml``: the access service until SIGTERM, as the command line starts it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import access.load
from access.proxy import AccessService, signals
from dl_inference import _native


def main(path: Path) -> int:
    """Serve; return the exit status."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    descriptors = Path(_native.__file__).with_name("_wire.binpb").read_bytes()
    service = AccessService(path, lambda: access.load.load(path), lambda document: _native.Proxy(document, descriptors))
    with signals(service):
        return 0 if service.run() else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
