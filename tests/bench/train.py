"""Load on an access service, from which the compiler learns which paths are hot.

`make profiled` and `make wheel` call it, with a native module that counts. Small messages, larger and large ones, of
few callers and many, in plaintext and over TLS: what is called often here is laid out for speed, and what is never
called for size. So the tests that the same commands run call the rest.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import tempfile
from pathlib import Path

from bench.contenders import OURS, ours
from bench.fleet import Fleet
from bench.measure import SHAPES, Work, h2load
from bench.payloads import PATH, SIZES, framed, predict

import dl_inference

ADDRESSES = {"http": "127.0.0.1:18740", "https": "127.0.0.1:18760"}
REPLY_BYTES = 64
# Bytes sent in each shape, and most calls of one: small calls are what a proxy mostly has.
BYTES, CALLS = 300 << 20, 30_000
# Of calls over TLS: its loops over bytes must not be all that counts as hot.
TLS_PART = 10
LIMIT_S = 120


def main() -> None:
    """Load both ports with messages of each size in each shape."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(f"train: loading {dl_inference.__file__}")
    with tempfile.TemporaryDirectory() as name, Fleet(2, REPLY_BYTES) as fleet:
        folder = Path(name)
        subprocess.run([OURS, "make-certificates", folder / "tls"], check=True, capture_output=True, timeout=60)
        pair = {"certificate": str(folder / "tls/server.pem"), "key": str(folder / "tls/server-key.pem")}
        for scheme, address in ADDRESSES.items():
            place = folder / scheme
            place.mkdir()
            listen = {"listen": {"address": address, "tls": pair}} if scheme == "https" else {}
            contender = ours(address, fleet.addresses, place, service=listen)
            assert contender.process is not None
            try:
                contender.process.wait_line("ready on")
                _load(address, scheme, place)
                # Not killed: it writes its counts at its end.
                contender.process.signal(signal.SIGTERM)
                contender.process.wait()
            finally:
                contender.process.kill()


def _load(address: str, scheme: str, folder: Path) -> None:
    message, body = folder / "message", folder / "body"
    for size in SIZES:
        message.write_bytes(predict(SIZES[size]))
        body.write_bytes(framed(message.read_bytes()))
        work = Work(PATH, message, body, folder / "log", scheme=scheme)
        calls = min(CALLS, BYTES // SIZES[size]) // (TLS_PART if scheme == "https" else 1)
        for shape in SHAPES:
            h2load(address, work, shape, LIMIT_S, max(calls, shape.connections))


if __name__ == "__main__":
    main()
