"""Instructions that the access service's data plane takes for a small request, counted by callgrind.

They are the same on a busy machine, so that a test can hold them (`test_instructions.py`).
`make bench-instructions` calls it, and writes results/instructions.json.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench import machine
from bench.contenders import ours
from bench.fleet import Fleet
from bench.measure import SHAPES, Shape, Work, h2load
from bench.payloads import PATH, SIZES, framed, predict
from fixtures.processes import Process

RESULT = Path(__file__).parent / "results" / "instructions.json"
ADDRESS = "127.0.0.1:18700"
REPLY_BYTES = 64
REQUESTS = 10_000
# The difference of two runs leaves the beginning of connections out.
FEW = 500
START_S = 120
RUN_S = 300
GROWTH = 1.03
"""How many times what is in the result file a request may take."""


def main() -> None:
    """Count for each shape and for two workers, print it, and write the result file."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        counted = {shape.name: per_request(Path(name), shape) for shape in SHAPES}
        counted["4 x 16, two workers"] = per_request(Path(name), SHAPES[0], workers=2)
    result = {"what": "instructions per small request", "per_request": counted, **machine.describe()}
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for shape, count in counted.items():
        print(f"{shape:20} {count:8,.0f}")


def per_request(folder: Path, shape: Shape, *, workers: int = 1, requests: int = REQUESTS) -> float:
    """Return the instructions of one request of 179 bytes that is answered with 64, in the data plane's threads.

    Args:
        folder: where files may be written.
        shape: connections and streams.
        workers: threads of the data plane.
        requests: how many are counted.

    Raises:
        RuntimeError: callgrind is not installed, or did not count.
    """
    if shutil.which("valgrind") is None:
        raise RuntimeError("valgrind is not installed: apt-get install valgrind")
    place = Path(tempfile.mkdtemp(dir=folder))
    message = place / "message"
    message.write_bytes(predict(SIZES["small"]))
    body = place / "body"
    body.write_bytes(framed(message.read_bytes()))
    work = Work(PATH, message, body, place / "log")
    # Python's start, which is not counted, is about ten times slower, and what is counted fifty times.
    tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"]
    with Fleet(2, REPLY_BYTES) as fleet:
        contender = ours(ADDRESS, fleet.addresses, place, workers, tool=[*tool, f"--callgrind-out-file={place}/out"])
        process = contender.process
        if process is None:
            raise RuntimeError("nothing was started")
        try:
            fleet.check(contender, message.read_bytes(), START_S)
            h2load(ADDRESS, work, shape, RUN_S, FEW)
            _tell(process, "--instr=on")
            counts = []
            for calls in (FEW, FEW + requests):
                h2load(ADDRESS, work, shape, RUN_S, calls)
                _tell(process, "--dump")
                counts.append(_counted(place, len(counts) + 1, workers))
        finally:
            process.kill()
    return (counts[1] - counts[0]) / requests


def _tell(process: Process, order: str) -> None:
    command = ["callgrind_control", order, str(process.pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)
    if done.returncode != 0 or "OK" not in done.stdout:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def _counted(place: Path, part: int, workers: int) -> int:
    """The threads that do most are the data plane's: the others only look after it."""
    totals = [
        int(re.findall(r"^totals: (\d+)", path.read_text(), re.MULTILINE)[0]) for path in place.glob(f"out.{part}-*")
    ]
    return sum(sorted(totals)[-workers:])


if __name__ == "__main__":
    main()
