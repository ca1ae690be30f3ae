"""Instructions that the access service's data plane takes for a small request, counted by callgrind.

They are the same on a busy machine, so that a test can hold them (`test_instructions.py`). `make bench-instructions` calls
it, and writes results/instructions.json.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench import machine
from bench.contenders import Contender
from bench.fleet import TARGET, Fleet
from bench.measure import SHAPES, Shape, Work, h2load
from bench.payloads import MODEL, PATH, SIZES, framed, predict
from fixtures.processes import Process

from access import state
from access.config.sections import AccessConfig

RESULT = Path(__file__).parent / "results" / "instructions.json"
ADDRESS = "127.0.0.1:18700"
REPLY_BYTES = 64
# Under callgrind, which is about 50 times slower; the difference of two runs leaves the start out.
REQUESTS = 10_000
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
    """Return the instructions of one request of 179 bytes that is answered with 64.

    Args:
        folder: where files may be written.
        shape: connections and streams.
        workers: threads of the data plane.
        requests: of the first run; the second makes twice as many.

    Raises:
        RuntimeError: callgrind is not installed, or wrote nothing.
    """
    if shutil.which("valgrind") is None:
        raise RuntimeError("valgrind is not installed: apt-get install valgrind")
    few, many = (_whole_life(folder, shape, workers, calls) for calls in (requests, 2 * requests))
    return (many - few) / requests


def _whole_life(folder: Path, shape: Shape, workers: int, calls: int) -> int:
    place = Path(tempfile.mkdtemp(dir=folder))
    message = place / "message"
    message.write_bytes(predict(SIZES["small"]))
    body = place / "body"
    body.write_bytes(framed(message.read_bytes()))
    with Fleet(2, REPLY_BYTES) as fleet:
        documents = [place / "config.json", place / "state.json"]
        for path, document in zip(documents, _documents(fleet.addresses, workers), strict=True):
            path.write_text(json.dumps(document))
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={place}/out"]
        process = Process([*tool, TARGET / "proxy", *documents])
        try:
            fleet.check(Contender("ours", "", ADDRESS, process), message.read_bytes(), 60)
            h2load(ADDRESS, Work(PATH, message, body, place / "log"), shape, 300, calls)
            process.end_input()
            process.wait(60)
        finally:
            process.kill()
    totals = re.search(r"^(?:totals|summary): (\d+)", (place / "out").read_text(), re.MULTILINE)
    if totals is None:
        raise RuntimeError("callgrind wrote no totals")
    return int(totals[1])


def _documents(endpoints: list[str], workers: int) -> list[dict[str, Any]]:
    """Everything at its default but the number of workers: what the process begins with, and where calls go."""
    config = AccessConfig.model_validate(
        {
            "listen": ADDRESS,
            "admin": None,
            "workers": workers,
            "clusters": {"fleet": {"endpoints": endpoints}},
            "models": {MODEL: {"cluster": "fleet"}},
            "default_cluster": "fleet",
        }
    )
    return [state.process(config), state.routing(config, {}).state]


if __name__ == "__main__":
    main()
